"""The networks of RVC in Flax NNX. They know nothing of files."""
