"""The floating-point format that the networks compute in."""

from __future__ import annotations

from typing import Protocol

import jax
import jax.numpy as jnp


class Device(Protocol):
    """What `has_bfloat16` needs of a device of JAX."""

    @property
    def platform(self) -> str:
        """cpu, gpu or tpu."""
        ...


def compute_dtype(precision: str) -> jnp.dtype:
    """Returns the networks' dtype; "auto" is bfloat16 where the hardware supports it."""
    if precision == "auto":
        precision = "bfloat16" if has_bfloat16(jax.devices()[0]) else "float32"
    return jnp.dtype(precision)


def has_bfloat16(device: Device) -> bool:
    """Returns whether a device has bfloat16 units.

    CPUs only emulate it, and so do NVIDIA's GPUs before Ampere (T4, V100).
    """
    if device.platform == "cpu":
        return False
    if device.platform != "gpu":
        return True
    # NVIDIA has numbers such as 7.5, AMD names such as gfx90a.
    capability = str(getattr(device, "compute_capability", ""))
    return not capability[:1].isdigit() or float(capability) >= 8
