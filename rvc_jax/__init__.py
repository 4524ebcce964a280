"""RVC voices in JAX: speech of one person in, a voice model out."""

__version__ = "0.1.0"
