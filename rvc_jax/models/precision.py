"""In which arithmetic the networks compute."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def compute_dtype(precision: str) -> jnp.dtype:
    """Arithmetic of the networks; `auto` is bfloat16 where the hardware has it."""
    if precision == "auto":
        precision = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(precision)
