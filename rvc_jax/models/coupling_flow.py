"""Coupling flow: an invertible map between the posterior's latent and the prior's (`flow`)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from rvc_jax.config import GeneratorConfig
from rvc_jax.models.kernels.activations import apply_mask
from rvc_jax.models.kernels.options import REFERENCE, KernelConfig
from rvc_jax.models.layers import Conv, WaveNet
from rvc_jax.models.parameters import Constant


class ResidualCoupling(nnx.Module):
    """Shifts the second half of the channels by a function of the first.

    A mean-only coupling of RealNVP (arXiv 1605.08803).
    """

    def __init__(self, config: GeneratorConfig, kernels: KernelConfig = REFERENCE):
        half = config.inter_channels // 2
        hidden = config.hidden_channels
        self.pre = Conv(half, hidden, 1)
        self.enc = WaveNet(
            hidden, config.flow_kernel, config.flow_layers, config.speaker_channels, kernels
        )
        self.post = Conv(hidden, half, 1, init=Constant(0.0))

    def __call__(
        self, x: jax.Array, mask: jax.Array, speaker: jax.Array, reverse: bool
    ) -> jax.Array:
        """Maps x [batch, frames, channels], or with `reverse` inverts the map."""
        first, second = jnp.split(x, 2, axis=-1)
        hidden = apply_mask(self.pre(first.astype(mask.dtype)), mask)
        hidden = self.enc(hidden, mask, speaker)
        shift = apply_mask(self.post(hidden), mask).astype(x.dtype)
        second = (
            apply_mask(second - shift, mask) if reverse else shift + apply_mask(second, mask)
        )
        return jnp.concatenate([first, second], axis=-1)


class Flip(nnx.Module):
    """Reverses the channels, so that the next coupling shifts the other half. Its own inverse."""

    def __call__(
        self, x: jax.Array, mask: jax.Array, speaker: jax.Array, reverse: bool
    ) -> jax.Array:
        """Returns x [batch, frames, channels] with its channels reversed."""
        return x[..., ::-1]


class CouplingFlow(nnx.Module):
    """Alternating couplings and flips."""

    def __init__(self, config: GeneratorConfig, kernels: KernelConfig = REFERENCE):
        self.flows = nnx.List()
        for _ in range(config.flow_steps):
            self.flows.append(ResidualCoupling(config, kernels))
            self.flows.append(Flip())

    def __call__(
        self, x: jax.Array, mask: jax.Array, speaker: jax.Array, reverse: bool = False
    ) -> jax.Array:
        """Maps the posterior's latent to the prior's, or with `reverse` the prior's back.

        x and result [batch, frames, latent channels], mask [batch, frames, 1], speaker
        [batch, 1, channels]. The latent keeps its dtype (float32, for the KL term); the
        convolutions compute in the mask's.
        """
        for step in reversed(self.flows) if reverse else self.flows:
            x = step(x, mask, speaker, reverse)
        return x
