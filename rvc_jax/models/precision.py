"""In which arithmetic the networks compute."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def compute_dtype(precision: str) -> jnp.dtype:
    """Arithmetic of the networks; `auto` is bfloat16 where the hardware has it."""
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16(jax.devices()[0]) else "float32"
    return jnp.dtype(precision)


def has_bfloat16(device: jax.Device) -> bool:
    """CPUs emulate it, and so do NVIDIA's chips before Ampere (T4, V100)."""
    if device.platform != "gpu":
        return device.platform != "cpu"
    capability = str(
        getattr(device, "compute_capability", "")
    )  # 7.5; a name as gfx90a on AMD's
    return not capability[:1].isdigit() or float(capability) >= 8
