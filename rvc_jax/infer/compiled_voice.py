"""A voice on the accelerator: its networks in a few compiled shapes, and its index."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.config import WINDOW_FRAMES
from rvc_jax.features.f0.coarse import coarse_pitch
from rvc_jax.infer.chunking import CONTEXT_FRAMES
from rvc_jax.infer.retrieval import Index
from rvc_jax.infer.voice import Voice

ATTENTION_RADIUS = WINDOW_FRAMES // 2
"""Frames on either side that attention hears in longer recordings: together as many as a window in
training."""

SHORT_FRAMES = WINDOW_FRAMES + 2 * CONTEXT_FRAMES
"""A recording that is no longer, its margins included, is heard as a whole, as a window in training
is."""


class CompiledVoice:
    """What all conversions in a voice share. Options are arguments of what is compiled, not part of
    it."""

    def __init__(self, voice: Voice):
        self.voice = voice
        self.parameters = jax.device_put(voice.parameters)
        self._prior = jax.jit(self._encode, static_argnames="reach")
        self._speak = jax.jit(self._render)
        layers = [
            name
            for name in voice.parameters
            if name.startswith("enc_p.") and name.endswith(".conv_q.weight")
        ]
        kernel = voice.parameters["enc_p.encoder.ffn_layers.0.conv_1.weight"].shape[0]
        self.prior_context = len(layers) * (ATTENTION_RADIUS + kernel - 1)
        """Frames on either side that the prior of a frame depends on."""

    @functools.cached_property
    def index(self) -> Index | None:
        """Rows of training features, if there are enough to search in."""
        rows = self.voice.index
        return Index(rows) if rows is not None and len(rows) else None

    def speaker(self, weights: dict[int, float]) -> jax.Array:
        """Embedding [1, channels] of a mixture of speakers, by number."""
        table = self.voice.parameters["emb_g.weight"]
        mixed = sum(
            weight * np.asarray(table[number], np.float32) for number, weight in weights.items()
        )
        return jnp.asarray(mixed[None])

    def prior(
        self, content: np.ndarray, f0: np.ndarray, length: int, reach: int | None
    ) -> np.ndarray:
        """content [frames, channels] and f0 [frames] in Hz -> mean and log-deviation, float32
        [frames, 2 * latent].

        length: frames that are real; reach: `ATTENTION_RADIUS` or None, `Synthesizer.prior`.
        """
        return np.asarray(
            self._prior(
                self.parameters, content[None], f0[None], jnp.full(1, length), reach=reach
            )
        )

    def speak(
        self,
        prior: np.ndarray,
        f0: np.ndarray,
        phase: float,
        start: int,
        length: int,
        **options: Any,
    ) -> np.ndarray:
        """One chunk: its wave, float32 [frames * hop].

        Args:
          prior: [frames, 2 * latent] as `prior` returns it.
          f0: [frames] in Hz.
          phase: of the harmonic source before the first frame, in cycles.
          start: the first frame's number; noise is a function of the key and the frame's number
              alone.
          length: frames that are real.
          options: speaker [1, channels], key (of jax.random) and noise_scale.
        """
        numbers = np.int32(start), np.int32(length)
        return np.asarray(
            self._speak(self.parameters, prior, f0, np.float32(phase), *numbers, **options)[0]
        )

    def _encode(
        self,
        parameters: dict[str, Any],
        content: jax.Array,
        f0: jax.Array,
        lengths: jax.Array,
        reach: int | None,
    ) -> jax.Array:
        content = content.astype(self.voice.dtype)
        both = self.voice.network(
            parameters, "prior", content, lengths, coarse_pitch(f0), reach
        )
        return jnp.concatenate(both, axis=-1)[0]

    def _render(
        self,
        parameters: dict[str, Any],
        prior: jax.Array,
        f0: jax.Array,
        phase: jax.Array,
        start: jax.Array,
        length: jax.Array,
        speaker: jax.Array,
        key: jax.Array,
        noise_scale: jax.Array,
    ) -> jax.Array:
        voice = self.voice
        latent_key, source_key = jax.random.split(key)
        numbers = start + jnp.arange(len(f0))
        noise = noise_scale * _noise(latent_key, numbers, voice.latent_channels)
        source_noise = _noise(source_key, numbers, voice.audio.hop).reshape(1, -1)
        mean, log = jnp.split(prior[None], 2, axis=-1)
        return voice.network(
            parameters,
            "render",
            mean,
            log,
            length[None],
            f0[None],
            speaker,
            noise[None],
            source_noise,
            phase[None],
            voice.dtype,
        )


def _noise(key: jax.Array, numbers: jax.Array, width: int) -> jax.Array:
    """Standard normal [frames, width], the row of a frame drawn from its number."""
    return jax.vmap(
        lambda number: jax.random.normal(jax.random.fold_in(key, number), (width,))
    )(numbers)
