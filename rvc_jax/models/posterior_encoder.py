"""Posterior encoder: spectrogram of the target -> mean and log-deviation of the latent (`enc_q`).
Training only."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from rvc_jax.config import REFERENCE, GeneratorConfig, KernelConfig
from rvc_jax.models.kernels.activations import apply_mask
from rvc_jax.models.layers import Conv, WaveNet


class PosteriorEncoder(nnx.Module):
    """Spectrogram -> the posterior of the latent (arXiv 2106.06103)."""

    def __init__(
        self, config: GeneratorConfig, spectrogram_bins: int, forms: KernelConfig = REFERENCE
    ):
        hidden = config.hidden_channels
        self.pre = Conv(spectrogram_bins, hidden, 1)
        self.enc = WaveNet(
            hidden,
            config.posterior_kernel,
            config.posterior_layers,
            config.speaker_channels,
            forms,
        )
        self.proj = Conv(hidden, 2 * config.inter_channels, 1)

    def __call__(
        self, spectrogram: jax.Array, mask: jax.Array, speaker: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """spectrogram [batch, frames, bins], mask [batch, frames, 1], speaker [batch, 1, speaker
        channels].

        Returns mean and log-deviation, both float32 [batch, frames, latent channels].
        """
        x = self.enc(apply_mask(self.pre(spectrogram), mask), mask, speaker)
        mean, log_deviation = jnp.split(apply_mask(self.proj(x), mask), 2, axis=-1)
        return mean.astype(jnp.float32), log_deviation.astype(jnp.float32)
