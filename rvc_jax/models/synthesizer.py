"""The whole voice model (VITS, arXiv 2106.06103, as RVC v1 and v2 changed it)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from rvc_jax.config import REFERENCE, AudioConfig, GeneratorConfig, KernelConfig
from rvc_jax.models.coupling_flow import CouplingFlow
from rvc_jax.models.generator import Generator
from rvc_jax.models.layers import Embedding, sequence_mask
from rvc_jax.models.parameters import Network
from rvc_jax.models.posterior_encoder import PosteriorEncoder
from rvc_jax.models.prior_encoder import PriorEncoder


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Latents:
    """What the KL term is made of; float32 [batch, frames, latent channels], mask [batch, frames,
    1]."""

    prior_mean: jax.Array
    prior_log_deviation: jax.Array
    posterior_log_deviation: jax.Array
    mapped: jax.Array
    """The posterior's sample, carried by the flow to where the prior is."""
    mask: jax.Array


def slice_segments(x: jax.Array, start: jax.Array, length: int) -> jax.Array:
    """Cuts [batch, time, ...] at `start` [batch] to [batch, length, ...]."""
    return jax.vmap(lambda row, begin: jax.lax.dynamic_slice_in_dim(row, begin, length))(
        x, start
    )


class Synthesizer(nnx.Module):
    """Parts are named as in public checkpoints. Computes in the dtype of `content`."""

    def __init__(
        self,
        config: GeneratorConfig,
        audio: AudioConfig,
        forms: KernelConfig = REFERENCE,
        posterior: bool = True,
    ):
        """posterior: with the posterior encoder, which only training needs."""
        self.segment_frames = audio.segment_frames
        self.hop = audio.hop
        self.enc_p = PriorEncoder(config, forms)
        self.dec = Generator(config, audio, forms)
        if posterior:
            self.enc_q = PosteriorEncoder(config, audio.spectrogram_bins, forms)
        self.flow = CouplingFlow(config, forms)
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
        """Renders one segment of every window from its own spectrogram.

        content [batch, frames, channels], or half as many frames, which each count twice; lengths
        [batch] in frames, coarse pitch and f0 [batch, frames], spectrogram [batch, frames, bins],
        speaker [batch], start [batch]: first frame of the segment. rng None: no noise anywhere.
        Returns the waves [batch, segment samples] and the latents.
        """
        mask = sequence_mask(lengths, f0.shape[1], content.dtype)
        speaker = self._speaker(speaker, content.dtype)
        with jax.named_scope("enc_p"):
            prior_mean, prior_log = self.enc_p(content, pitch, mask)
        with jax.named_scope("enc_q"):
            mean, log = self.enc_q(spectrogram.astype(content.dtype), mask, speaker)
        source_noise = None
        latent = mean
        if rng is not None:
            latent_rng, source_rng = jax.random.split(rng)
            latent = (mean + jax.random.normal(latent_rng, mean.shape) * jnp.exp(log)) * mask
            source_noise = jax.random.normal(
                source_rng, (f0.shape[0], self.segment_frames * self.hop)
            )
        with jax.named_scope("flow"):
            mapped = self.flow(latent, mask, speaker)
        cut = slice_segments(latent, start, self.segment_frames).astype(content.dtype)
        with jax.named_scope("dec"):
            wave = self.dec(
                cut, slice_segments(f0, start, self.segment_frames), speaker, source_noise
            )
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
        """Speaks content [batch, frames, channels] with f0 [batch, frames] in the voice of
        `speaker` [batch].

        speaker: numbers, or embeddings [batch, speaker channels], which may be mixtures. noise
        [batch, frames, latent channels]: deviation from the prior's mean in its own units, scaled
        already; source_noise [batch, samples] standard normal and phase [batch] in cycles are the
        harmonic source's. Returns the waveform [batch, frames * hop], float32.
        """
        mean, log = self.prior(content, lengths, pitch)
        return self.render(
            mean, log, lengths, f0, speaker, noise, source_noise, phase, content.dtype
        )

    def prior(
        self, content: jax.Array, lengths: jax.Array, pitch: jax.Array, reach: int | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """The first half of `infer`: mean and log-deviation of the latent [batch, frames, latent
        channels], float32.

        reach: frames on either side that attention hears, `RelativeAttention`; None is all, as in
        training.
        """
        return self.enc_p(
            content, pitch, sequence_mask(lengths, content.shape[1], content.dtype), reach
        )

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
        dtype: jnp.dtype = jnp.float32,
    ) -> jax.Array:
        """The second half of `infer`, in convolutions alone: a sample depends on no frame further
        than 40 away.

        mean, log: as `prior` returns them; dtype: of the arithmetic; the rest as in `infer`.
        """
        mask = sequence_mask(lengths, mean.shape[1], dtype)
        speaker = self._speaker(speaker, dtype)
        mapped = (mean if noise is None else mean + jnp.exp(log) * noise) * mask
        latent = self.flow(mapped, mask, speaker, reverse=True) * mask
        return self.dec(latent.astype(dtype), f0, speaker, source_noise, phase)

    def _speaker(self, speaker: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """Numbers [batch], or embeddings [batch, speaker channels] -> [batch, 1, speaker
        channels]."""
        embedded = (
            speaker if jnp.issubdtype(speaker.dtype, jnp.floating) else self.emb_g(speaker)
        )
        return embedded[:, None].astype(dtype)


def synthesizer(
    config: GeneratorConfig,
    audio: AudioConfig,
    forms: KernelConfig = REFERENCE,
    packed: jnp.dtype | None = None,
    posterior: bool = True,
) -> Network:
    """The voice model as a function of its parameters; packed: see `Network`, posterior: see
    `Synthesizer`."""
    return Network(Synthesizer(config, audio, forms, posterior), packed)
