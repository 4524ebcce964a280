"""The voice model of the small preset: content features, pitch and speaker -> waveform.

It has the interface of `models.synthesizer.Synthesizer`, without a latent: content features
determine the sound so closely that a mel loss and adversarial losses are enough.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from rvc_jax.config import AudioConfig, SpectralGeneratorConfig
from rvc_jax.models.layers import Embedding, Linear, sequence_mask
from rvc_jax.models.parameters import Normal
from rvc_jax.models.spectral_generator import SpectralGenerator


class SpectralSynthesizer(nnx.Module):
    """Projection of the content (`enc_p`), speaker embeddings (`emb_g`), decoder (`dec`)."""

    def __init__(self, config: SpectralGeneratorConfig, audio: AudioConfig):
        self.segment_frames = audio.segment_frames
        self.hop = audio.hop
        inputs = config.content_channels
        self.enc_p = Linear(inputs, config.channels, Normal(inputs**-0.5))
        self.dec = SpectralGenerator(config, audio)
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
    ) -> tuple[jax.Array, None]:
        """Renders one segment of every window; arguments as those of `Synthesizer.train_segment`.

        The segment alone is computed: what surrounds it counts as silence, as it does at the
        edges of a recording. Coarse pitch and spectrogram are not used.

        Returns the waves [batch, segment samples], and None: there are no latents.
        """
        frames = self.segment_frames
        per_content = f0.shape[1] // content.shape[1]
        rows = _slice_repeated(content, start, frames, per_content)
        segment_f0 = _slice(f0, start, frames)
        mask = sequence_mask(lengths - start, frames, content.dtype)
        return self._render(self.enc_p(rows), segment_f0, speaker, mask, rng=rng), None

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
        """Converts content to the waveform; arguments as those of `Synthesizer.infer`."""
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
        """First half of `infer`: projects the content. A frame depends on itself alone.

        Returns float32 [batch, frames, channels], and zeros in place of a deviation.
        """
        hidden = self.enc_p(content).astype(jnp.float32)
        return hidden, jnp.zeros_like(hidden)

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
        """Second half of `infer`: a sample depends on frames up to 36 away.

        mean is the result of `prior`; `log` and `noise` are not used, as there is no latent.
        Without `source_noise` [batch, samples] the same noise is drawn every time.
        """
        mask = sequence_mask(lengths, mean.shape[1], dtype)
        return self._render(mean.astype(dtype), f0, speaker, mask, source_noise, phase)

    def _render(
        self,
        hidden: jax.Array,
        f0: jax.Array,
        speaker: jax.Array,
        mask: jax.Array,
        source_noise: jax.Array | None = None,
        phase: jax.Array | None = None,
        rng: jax.Array | None = None,
    ) -> jax.Array:
        if not jnp.issubdtype(speaker.dtype, jnp.floating):
            speaker = self.emb_g(speaker)
        if source_noise is None:
            key = jax.random.key(0) if rng is None else rng
            source_noise = jax.random.normal(key, (f0.shape[0], f0.shape[1] * self.hop))
        embedding = speaker[:, None].astype(hidden.dtype)
        return self.dec(hidden * mask, f0, embedding, source_noise, mask, phase)


def _slice(x: jax.Array, start: jax.Array, length: int) -> jax.Array:
    return jax.vmap(lambda row, begin: jax.lax.dynamic_slice_in_dim(row, begin, length))(
        x, start
    )


def _slice_repeated(x: jax.Array, start: jax.Array, length: int, times: int) -> jax.Array:
    """Slices x [batch, time / times, ...] as if each row came `times` times: [batch, length, ...].

    start [batch] counts repeated rows.
    """
    # One more row, since a segment may begin within a row and end within another.
    rows = -(-length // times) + 1
    padded = jnp.pad(x, ((0, 0), (0, 1), (0, 0)))
    repeated = jnp.repeat(_slice(padded, start // times, rows), times, axis=1)
    return _slice(repeated, start % times, length)
