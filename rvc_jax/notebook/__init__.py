"""What the cells of the Colab notebook (launch/colab) call: the commands of `rvc-jax`, in a
notebook.

The notebook's own Python imports this package. It lacks JAX and the other dependencies: the
commands run in a Python of their own. So nothing here imports more than the standard library,
IPython and the light modules of rvc_jax.
"""

from rvc_jax.notebook.studio import Studio, start

__all__ = ["Studio", "start"]
