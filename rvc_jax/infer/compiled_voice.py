"""A voice on the accelerator: its networks, compiled for a few shapes, and its retrieval index."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.config import PRESETS, WINDOW_FRAMES, PrepareConfig, PresetName
from rvc_jax.features.f0.coarse import coarse_pitch
from rvc_jax.infer.chunking import CONTEXT_FRAMES
from rvc_jax.infer.frame_grid import FrameGrid
from rvc_jax.infer.retrieval import Index
from rvc_jax.models.precision import compute_dtype
from rvc_jax.voices.model import VoiceModel

ATTENTION_RADIUS = WINDOW_FRAMES // 2
"""Frames on either side that attention takes in, in recordings that are longer than a window. A
window of the training has as many in all."""

SHORT_FRAMES = WINDOW_FRAMES + 2 * CONTEXT_FRAMES
"""A recording that is no longer than this, including its margins, is encoded as a whole, as the
windows of the training are."""


class CompiledVoice:
    """What all conversions with a voice share.

    Options are arguments of the compiled functions, not part of them, so that other options
    compile nothing.
    """

    def __init__(self, model: VoiceModel):
        """Move the weights of a voice to the accelerator; compiling waits for the first call."""
        model = model.without_posterior()
        self.model = model
        self.prepare = _resolve_preparation(model)
        """How the training speech was filtered and leveled."""
        self.dtype = compute_dtype(model.precision)
        """Arithmetic of the networks."""
        self._network = model.network()
        parameters = self._network.from_public(model.weights)
        self._speaker_table = np.asarray(parameters["emb_g.weight"], np.float32)
        self._parameters = jax.device_put(parameters)
        self.prior_context = _count_prior_context(parameters)
        """Frames on either side that the prior of a frame depends on."""
        self._jitted_prior = jax.jit(self._encode_prior, static_argnames="radius")
        self._jitted_render = jax.jit(self._render)

    @property
    def sample_rate(self) -> int:
        """Sample rate of the rendered audio in Hz."""
        return self.model.audio.sample_rate

    @property
    def hop(self) -> int:
        """Samples per frame of the rendered audio."""
        return self.model.hop

    @property
    def grid(self) -> FrameGrid:
        """The voice's frames and those of the features."""
        return FrameGrid(self.hop, self.sample_rate)

    @functools.cached_property
    def index(self) -> Index | None:
        """The retrieval index on the accelerator; None for a voice without one."""
        rows = self.model.index
        if rows is None or not len(rows):
            return None
        return Index(rows)

    def median_f0(self, speaker: int) -> float:
        """Median pitch of a speaker's training speech in Hz; 0 if unknown."""
        medians = self.model.median_f0
        return medians[speaker] if speaker < len(medians) else 0.0

    def embed_speakers(self, shares: dict[int, float]) -> jax.Array:
        """The embedding [1, channels] of a mixture of speakers: share by number."""
        mixed = np.zeros(self._speaker_table.shape[1], np.float32)
        for number, share in shares.items():
            mixed += share * self._speaker_table[number]
        return jnp.asarray(mixed[None])

    def encode_prior(
        self, content: np.ndarray, f0: np.ndarray, length: int, radius: int | None
    ) -> np.ndarray:
        """Run the prior encoder.

        Args:
          content: [frames, channels].
          f0: [frames] in Hz.
          length: Number of real frames; padding follows them.
          radius: `ATTENTION_RADIUS`, or None to let every frame attend to all.

        Returns: mean and log-deviation of the latent, float32 [frames, 2 * latent channels].
        """
        lengths = jnp.full(1, length)
        return np.asarray(
            self._jitted_prior(
                self._parameters, content[None], f0[None], lengths, radius=radius
            )
        )

    def render(
        self,
        prior: np.ndarray,
        f0: np.ndarray,
        phase: float,
        start: int,
        length: int,
        **options: Any,
    ) -> np.ndarray:
        """Render the wave of one chunk with flow and decoder.

        Args:
          prior: [frames, 2 * latent channels], as `encode_prior` returns it.
          f0: [frames] in Hz.
          phase: Phase of the harmonic source before the first frame, in cycles.
          start: Number of the first frame. Noise depends on the key and the frame's number alone,
            so that chunks fit together.
          length: Number of real frames; padding follows them.
          options: speaker [1, channels], key (of jax.random) and noise_scale.

        Returns: float32 [frames * hop].
        """
        wave = self._jitted_render(
            self._parameters,
            prior,
            f0,
            np.float32(phase),
            np.int32(start),
            np.int32(length),
            **options,
        )
        return np.asarray(wave[0])

    def _encode_prior(
        self,
        parameters: dict[str, Any],
        content: jax.Array,
        f0: jax.Array,
        lengths: jax.Array,
        radius: int | None,
    ) -> jax.Array:
        content = content.astype(self.dtype)
        mean, log_deviation = self._network(
            parameters, "prior", content, lengths, coarse_pitch(f0), radius
        )
        return jnp.concatenate([mean, log_deviation], axis=-1)[0]

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
        latent_key, source_key = jax.random.split(key)
        numbers = start + jnp.arange(len(f0))
        latent_channels = self.model.generator.inter_channels
        noise = noise_scale * draw_noise(latent_key, numbers, latent_channels)
        source_noise = draw_noise(source_key, numbers, self.hop).reshape(1, -1)
        mean, log_deviation = jnp.split(prior[None], 2, axis=-1)
        return self._network(
            parameters,
            "render",
            mean,
            log_deviation,
            length[None],
            f0[None],
            speaker,
            noise[None],
            source_noise,
            phase[None],
            self.dtype,
        )


def draw_noise(key: jax.Array, numbers: jax.Array, width: int) -> jax.Array:
    """Standard normal noise [frames, width]; each row is drawn from the number of its frame."""
    return jax.vmap(
        lambda number: jax.random.normal(jax.random.fold_in(key, number), (width,))
    )(numbers)


def _count_prior_context(parameters: dict[str, Any]) -> int:
    kernel_name = "enc_p.encoder.ffn_layers.0.conv_1.weight"
    if kernel_name not in parameters:
        return 0  # the small preset projects each frame by itself
    layers = [
        name
        for name in parameters
        if name.startswith("enc_p.") and name.endswith(".conv_q.weight")
    ]
    kernel = parameters[kernel_name].shape[0]
    # Every layer attends over the radius; its two convolutions add half a kernel each.
    return len(layers) * (ATTENTION_RADIUS + kernel - 1)


def _resolve_preparation(model: VoiceModel) -> PrepareConfig:
    """How the training speech was prepared; for a voice from a file, as RVC prepares speech."""
    if model.prepare is not None:
        return model.prepare.resolved()
    # Pitch is not used by a voice without it: take the method that needs no download.
    f0_method = None if model.generator.has_pitch else "swift"
    return PrepareConfig(_similar_preset(model), f0_method, model.content_encoder).resolved()


def _similar_preset(model: VoiceModel) -> PresetName:
    """The preset of the voice's version and sample rate, or the first one of its version."""
    same_version = [preset for preset in PRESETS.values() if preset.version == model.version]
    for preset in same_version:
        if preset.audio.sample_rate == model.audio.sample_rate:
            return preset.name
    return same_version[0].name
