"""Kernel configurations: how the networks are computed on each kind of chip.

Every configuration computes the same function and the same gradients, equal but for rounding.
They differ in speed, memory and compile time. docs/speed.md has the measurements behind
`KERNEL_CONFIGS`.
"""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class KernelConfig:
    """Implementation choices for one chip. The defaults are the reference implementation."""

    upsampling: Literal["subpixel", "dilated", "by stride"] = "subpixel"
    """Transposed convolutions. "subpixel": a plain convolution whose output channels are all the
    phases. "dilated": a convolution over input spread with zeros. "by stride": "dilated" for
    strides above 2, "subpixel" for the others."""
    merge_to: int = 0
    """Merge convolution groups into block-diagonal kernels of up to this many output channels,
    and fold the stride into channels. 0: off."""
    sectioned: bool = False
    """Keep the widening layers of the scale discriminator split into the blocks that the next
    layer reads, so that XLA inserts no relayout. Needs `merge_to`."""
    fold_to: int = 0
    """Fold neighboring time steps into channels where a signal has fewer channels than this.
    0: off."""
    winograd_from: int = 0
    """Use Winograd convolutions (`kernels.winograd`) for float32 kernels with at least this many
    input and output channels. 0: off."""
    offsets: Literal["shifted", "products"] = "shifted"
    """How attention moves its scores between offsets and keys. "shifted": by reading padded rows
    at another row length. "products": by products with ones and zeros."""
    pack_parameters: bool = False
    """Stack parameters of equal shape into one array during training, for fewer small
    operations."""
    scan: bool = False
    """Run layers of equal shape in a `lax.scan`. Compiles much faster, runs a little slower."""
    rematerialize: bool = False
    """Recompute the generator's activations in the backward pass. Saves memory, costs time."""
    split_step_from: int = 0
    """Split the training step into four programs for networks with at least this many parameters.
    The programs compile in parallel and take less work in all. 0: off."""
    scoped_vmem_kib: int = 0
    """Fast memory (VMEM) that one TPU operation may use, in KiB. Smaller limits give smaller
    tiles, less code and faster compilation. 0: the compiler's default."""

    @property
    def compiler_options(self) -> dict[str, str] | None:
        """Compiler options for `jax.jit`."""
        if not self.scoped_vmem_kib:
            return None
        return {"xla_tpu_scoped_vmem_limit_kib": str(self.scoped_vmem_kib)}


REFERENCE = KernelConfig()
"""The plain implementation, which all others are tested against."""

_TPU_V5E = KernelConfig(
    upsampling="by stride",
    merge_to=128,
    sectioned=True,
    fold_to=128,
    offsets="products",
    pack_parameters=True,
    split_step_from=10_000_000,
)

KERNEL_CONFIGS: dict[str, KernelConfig] = {
    "cpu": KernelConfig(merge_to=32, winograd_from=192),
    "gpu": KernelConfig(merge_to=256, fold_to=256, pack_parameters=True),
    "tpu v5 lite": _TPU_V5E,
    "tpu v6 lite": dataclasses.replace(_TPU_V5E, upsampling="subpixel", scoped_vmem_kib=12288),
}
"""Configurations by JAX's `platform`, or by its `device_kind` in lower case."""


def kernel_config_for(platform: str, kind: str = "") -> KernelConfig:
    """Returns the configuration for a device, by its `platform` and `device_kind` in JAX.

    Unknown TPUs get the configuration of v6e, other unknown platforms that of the CPU.
    """
    for name in (kind.lower(), platform):
        if name in KERNEL_CONFIGS:
            return KERNEL_CONFIGS[name]
    return KERNEL_CONFIGS["tpu v6 lite" if platform == "tpu" else "cpu"]
