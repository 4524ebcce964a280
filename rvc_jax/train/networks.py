"""The two networks of a preset with their optimizers, as they run on a chip."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax

from rvc_jax.config import Preset
from rvc_jax.models.discriminator import Discriminator
from rvc_jax.models.kernels.options import KernelConfig, kernel_config_for
from rvc_jax.models.kernels.packing import PackedNetwork, Packing
from rvc_jax.models.parameters import Network
from rvc_jax.models.precision import compute_dtype
from rvc_jax.models.synthesizer import build_synthesizer
from rvc_jax.train.optimizer import make_optimizer
from rvc_jax.train.state import TrainState


@dataclasses.dataclass(frozen=True)
class Networks:
    """The two networks of a preset with their optimizers, as they run on a chip."""

    preset: Preset
    synthesizer: Network
    discriminator: Network
    step_synthesizer: Network | PackedNetwork
    """The synthesizer as the step calls it: packed, if the kernel config says so."""
    step_discriminator: Network | PackedNetwork
    """The discriminator as the step calls it."""
    optimizer: optax.GradientTransformation
    """Optimizer of the generator."""
    discriminator_optimizer: optax.GradientTransformation
    """The same for the discriminator, which may be updated less often."""
    dtype: jnp.dtype
    """Type of the activations."""
    is_split: bool
    """Whether the step is compiled as four programs (`split_step`) instead of one."""
    compiler_options: dict[str, str] | None
    """Options of the chip for `jax.jit`."""

    @property
    def packings(self) -> list[Packing]:
        """How the step's parameters share arrays; empty if they do not."""
        networks = (self.step_synthesizer, self.step_discriminator)
        return [network.packing for network in networks if isinstance(network, PackedNetwork)]

    def pack(self, state: TrainState) -> TrainState:
        """Return the state as the step takes it."""
        for packing in self.packings:
            state = packing.pack(state)
        return state

    def unpack(self, state: TrainState) -> TrainState:
        """Return a state of the step with one array per parameter; the inverse of `pack`."""
        for packing in self.packings:
            state = packing.unpack(state)
        return state


def build_networks(
    preset: Preset, steps_per_epoch: int, kernels: KernelConfig | None = None
) -> Networks:
    """Build the networks and optimizers of a preset.

    Args:
      preset: sizes and recipe.
      steps_per_epoch: for the learning rate schedule.
      kernels: how to compute; by default what is fastest on this machine's chip.
    """
    recipe = preset.train
    if kernels is None:
        chip = jax.devices()[0]
        kernels = kernel_config_for(chip.platform, chip.device_kind)
    # An array that several parts of the network share can't be frozen for one of them.
    is_packed = kernels.pack_parameters and not recipe.frozen_parts
    kernels = dataclasses.replace(kernels, rematerialize=recipe.rematerialize)
    dtype = compute_dtype(recipe.precision)
    generator = build_synthesizer(preset.generator, preset.audio, kernels)
    discriminator = Network(Discriminator(preset.discriminator, kernels))
    size = sum(
        math.prod(shape)
        for network in (generator, discriminator)
        for shape in network.shapes.values()
    )
    is_large = 0 < kernels.split_step_from <= size
    return Networks(
        preset=preset,
        synthesizer=generator,
        discriminator=discriminator,
        step_synthesizer=PackedNetwork(generator, dtype) if is_packed else generator,
        step_discriminator=PackedNetwork(discriminator, dtype) if is_packed else discriminator,
        optimizer=make_optimizer(recipe, steps_per_epoch),
        discriminator_optimizer=make_optimizer(
            recipe, steps_per_epoch, recipe.discriminator_every
        ),
        dtype=dtype,
        is_split=is_large and recipe.accumulate == 1,
        compiler_options=kernels.compiler_options,
    )
