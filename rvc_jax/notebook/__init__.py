"""What the cells of the Colab notebook (launch/colab) call: the commands of `rvc-jax`, shown in a
notebook.

The notebook's own Python imports this, and it has neither JAX nor what else the commands need: they
run in a Python of their own. Nothing here imports more than the standard library, IPython and the
light modules of the package.
"""

from rvc_jax.notebook.studio import Studio, start

__all__ = ["Studio", "start"]
