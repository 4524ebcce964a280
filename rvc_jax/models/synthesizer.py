"""The whole voice model (VITS, arXiv 2106.06103, as RVC v1 and v2 changed it)."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from rvc_jax.config import (
    AnyGeneratorConfig,
    AudioConfig,
    GeneratorConfig,
    SpectralGeneratorConfig,
)
from rvc_jax.models.coupling_flow import CouplingFlow
from rvc_jax.models.generator import Generator
from rvc_jax.models.kernels.options import REFERENCE, KernelConfig
from rvc_jax.models.layers import Embedding, sequence_mask
from rvc_jax.models.parameters import Network
from rvc_jax.models.posterior_encoder import PosteriorEncoder
from rvc_jax.models.prior_encoder import PriorEncoder
from rvc_jax.models.spectral_synthesizer import SpectralSynthesizer


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Latents:
    """Inputs of the KL term: float32 [batch, frames, latent channels], mask [batch, frames, 1]."""

    prior_mean: jax.Array
    prior_log_deviation: jax.Array
    posterior_log_deviation: jax.Array
    mapped: jax.Array
    """The posterior's sample after the flow, to compare with the prior."""
    mask: jax.Array


def slice_segments(x: jax.Array, start: jax.Array, length: int) -> jax.Array:
    """Slices [batch, time, ...] at `start` [batch] -> [batch, length, ...]."""

    def slice_row(row: jax.Array, begin: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(row, begin, length)

    return jax.vmap(slice_row)(x, start)


class Synthesizer(nnx.Module):
    """Encoders, flow and decoder, named as in public checkpoints.

    Computes in the dtype of `content`.
    """

    def __init__(
        self,
        config: GeneratorConfig,
        audio: AudioConfig,
        kernels: KernelConfig = REFERENCE,
        posterior: bool = True,
    ):
        """posterior: include the posterior encoder, which only training needs."""
        self.segment_frames = audio.segment_frames
        self.hop = math.prod(config.upsample_rates)
        self.enc_p = PriorEncoder(config, kernels)
        self.dec = Generator(config, audio, kernels)
        if posterior:
            self.enc_q = PosteriorEncoder(config, audio.spectrogram_bins, kernels)
        self.flow = CouplingFlow(config, kernels)
        self.emb_g = Embedding(config.speakers, config.speaker_channels)

    def train_segment(
        self,
        content: jax.Array,
        lengths: jax.Array,
        pitch: jax.Array,
        f0: jax.Array,
        spectrogram: jax.Array,
        speaker: jax.Array,
        start: jax.Array,
        rng: jax.Array | None,
    ) -> tuple[jax.Array, Latents]:
        """Renders one segment of every window from the window's own spectrogram.

        content [batch, frames, channels], or half as many frames, each of which counts twice.
        lengths [batch] in frames. Coarse pitch and f0 [batch, frames].
        spectrogram [batch, frames, bins]. speaker [batch].
        start [batch]: first frame of the segment.
        rng: key of all noise; None: no noise anywhere.

        Returns the waves [batch, segment samples] and the latents.
        """
        mask = sequence_mask(lengths, f0.shape[1], content.dtype)
        speaker = self._embed_speaker(speaker, content.dtype)
        with jax.named_scope("enc_p"):
            prior_mean, prior_log = self.enc_p(content, pitch, mask)
        with jax.named_scope("enc_q"):
            mean, log = self.enc_q(spectrogram.astype(content.dtype), mask, speaker)
        source_noise = None
        latent = mean
        if rng is not None:
            latent_rng, source_rng = jax.random.split(rng)
            noise = jax.random.normal(latent_rng, mean.shape)
            latent = (mean + noise * jnp.exp(log)) * mask
            samples = self.segment_frames * self.hop
            source_noise = jax.random.normal(source_rng, (f0.shape[0], samples))
        with jax.named_scope("flow"):
            mapped = self.flow(latent, mask, speaker)
        segment = slice_segments(latent, start, self.segment_frames).astype(content.dtype)
        segment_f0 = slice_segments(f0, start, self.segment_frames)
        with jax.named_scope("dec"):
            wave = self.dec(segment, segment_f0, speaker, source_noise)
        return wave, Latents(prior_mean, prior_log, log, mapped, mask.astype(jnp.float32))

    def infer(
        self,
        content: jax.Array,
        lengths: jax.Array,
        pitch: jax.Array,
        f0: jax.Array,
        speaker: jax.Array,
        noise: jax.Array | None = None,
        source_noise: jax.Array | None = None,
        phase: jax.Array | None = None,
    ) -> jax.Array:
        """Converts content [batch, frames, channels] to the waveform [batch, frames * hop].

        lengths [batch] in frames. Coarse pitch and f0 [batch, frames].
        speaker: numbers [batch], or embeddings [batch, speaker channels], which may be mixtures.
        noise [batch, frames, latent channels]: deviation from the prior's mean in units of its
          standard deviation, scaled already.
        source_noise [batch, samples], standard normal, and phase [batch], in cycles, are for the
          harmonic source.
        """
        mean, log = self.prior(content, lengths, pitch)
        return self.render(
            mean, log, lengths, f0, speaker, noise, source_noise, phase, content.dtype
        )

    def prior(
        self,
        content: jax.Array,
        lengths: jax.Array,
        pitch: jax.Array,
        radius: int | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """First half of `infer`; returns float32 mean and log-deviation of the latent.

        radius: frames on either side that attention includes (`RelativeAttention`). None: all, as
          in training.
        """
        mask = sequence_mask(lengths, content.shape[1], content.dtype)
        return self.enc_p(content, pitch, mask, radius)

    def render(
        self,
        mean: jax.Array,
        log: jax.Array,
        lengths: jax.Array,
        f0: jax.Array,
        speaker: jax.Array,
        noise: jax.Array | None = None,
        source_noise: jax.Array | None = None,
        phase: jax.Array | None = None,
        dtype: DTypeLike = jnp.float32,
    ) -> jax.Array:
        """Second half of `infer`, convolutions only: a sample depends on frames up to 40 away.

        mean and log are the results of `prior`; the network computes in `dtype`; the rest is as in
        `infer`.
        """
        mask = sequence_mask(lengths, mean.shape[1], dtype)
        speaker = self._embed_speaker(speaker, dtype)
        mapped = mean if noise is None else mean + jnp.exp(log) * noise
        latent = self.flow(mapped * mask, mask, speaker, reverse=True) * mask
        return self.dec(latent.astype(dtype), f0, speaker, source_noise, phase)

    def _embed_speaker(self, speaker: jax.Array, dtype: DTypeLike) -> jax.Array:
        """Numbers [batch] or embeddings [batch, channels] -> [batch, 1, channels]."""
        if not jnp.issubdtype(speaker.dtype, jnp.floating):
            speaker = self.emb_g(speaker)
        return speaker[:, None].astype(dtype)


def build_synthesizer(
    config: AnyGeneratorConfig,
    audio: AudioConfig,
    kernels: KernelConfig = REFERENCE,
    posterior: bool = True,
) -> Network:
    """Returns the voice model as a function of its parameters; arguments as for `Synthesizer`."""
    if isinstance(config, SpectralGeneratorConfig):
        return Network(SpectralSynthesizer(config, audio))
    return Network(Synthesizer(config, audio, kernels, posterior))
