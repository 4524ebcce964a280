"""Posterior encoder: spectrogram of the target -> mean and log-deviation of the latent (`enc_q`).

Only training needs it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from rvc_jax.config import GeneratorConfig
from rvc_jax.models.kernels.activations import apply_mask
from rvc_jax.models.kernels.options import REFERENCE, KernelConfig
from rvc_jax.models.layers import Conv, WaveNet


class PosteriorEncoder(nnx.Module):
    """Spectrogram -> the posterior of the latent (VITS, arXiv 2106.06103)."""

    def __init__(
        self,
        config: GeneratorConfig,
        spectrogram_bins: int,
        kernels: KernelConfig = REFERENCE,
    ):
        hidden = config.hidden_channels
        self.pre = Conv(spectrogram_bins, hidden, 1)
        self.enc = WaveNet(
            hidden,
            config.posterior_kernel,
            config.posterior_layers,
            config.speaker_channels,
            kernels,
        )
        self.proj = Conv(hidden, 2 * config.inter_channels, 1)

    def __call__(
        self, spectrogram: jax.Array, mask: jax.Array, speaker: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns mean and log-deviation, both float32 [batch, frames, latent channels].

        spectrogram [batch, frames, bins], mask [batch, frames, 1], speaker
        [batch, 1, speaker channels].
        """
        x = apply_mask(self.pre(spectrogram), mask)
        x = self.enc(x, mask, speaker)
        mean, log_deviation = jnp.split(apply_mask(self.proj(x), mask), 2, axis=-1)
        return mean.astype(jnp.float32), log_deviation.astype(jnp.float32)
