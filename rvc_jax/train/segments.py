"""What a step trains on: segments drawn from windows, and what is computed from their waves."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from rvc_jax.audio.spectrogram import log_mel, spectrogram
from rvc_jax.config import STEP_FRAMES, Preset
from rvc_jax.models.synthesizer import slice_segments
from rvc_jax.train.loader import Batch
from rvc_jax.train.losses import mel_targets


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Segments:
    """Windows, and where in each of them the segment begins that the decoder renders."""

    batch: Batch
    """At most STEP_FRAMES frames, samples as float32."""
    start: jax.Array
    """int32 [batch]: first frame of the segment."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepInputs:
    """Windows with everything that the step computes from their waves."""

    segments: Segments
    magnitudes: jax.Array
    """Spectrograms of the windows [batch, frames, bins]."""
    real: jax.Array
    """Waves of the segments [batch, segment samples]."""
    target: tuple[jax.Array, ...]
    """Log-mels of the segments [batch, frames, mels], one array per scale of the loss."""


def draw_segments(preset: Preset, step: jax.Array, batch: Batch) -> tuple[Segments, jax.Array]:
    """Crop the windows of a step and draw a segment of each.

    Returns the segments, and the key to draw the step's noise from.
    """
    batch = batch.to_float()
    # One key per step. Its children are drawn in an order that runs depend on: do not change it.
    rng = jax.random.fold_in(jax.random.key(preset.train.seed), step)
    batch = crop_windows(jax.random.fold_in(rng, 0), batch, preset.audio.hop)
    start_rng, noise_rng = jax.random.split(rng)
    start = draw_segment_starts(start_rng, batch.lengths, preset.audio.segment_frames)
    return Segments(batch, start), noise_rng


def crop_windows(rng: jax.Array, batch: Batch, hop: int) -> Batch:
    """Take STEP_FRAMES frames of every window, uniform among those that are not padding.

    The part begins at an even frame, since there is one content frame for every two frames.
    Shorter windows stay as they are.
    """
    if batch.f0.shape[1] <= STEP_FRAMES:
        return batch
    choices = jnp.maximum(batch.lengths - STEP_FRAMES, 0) // 2 + 1
    # In content frames.
    start = jnp.floor(jax.random.uniform(rng, choices.shape) * choices).astype(jnp.int32)
    return dataclasses.replace(
        batch,
        wave=slice_segments(batch.wave, 2 * start * hop, STEP_FRAMES * hop),
        content=slice_segments(batch.content, start, STEP_FRAMES // 2),
        f0=slice_segments(batch.f0, 2 * start, STEP_FRAMES),
        lengths=jnp.minimum(batch.lengths, STEP_FRAMES),
    )


def draw_segment_starts(rng: jax.Array, lengths: jax.Array, segment_frames: int) -> jax.Array:
    """Draw the first frame of a segment of every window: int32 [batch], uniform.

    The segment lies within the `lengths` [batch] valid frames wherever there are enough of them.
    """
    choices = jnp.maximum(lengths - segment_frames + 1, 1)
    return jnp.floor(jax.random.uniform(rng, lengths.shape) * choices).astype(jnp.int32)


def prepare_inputs(preset: Preset, segments: Segments) -> StepInputs:
    """Compute the spectrograms of the windows, and the targets of the losses."""
    audio = preset.audio
    wave = segments.batch.wave
    magnitudes = spectrogram(wave, audio)
    real = slice_segments(wave, segments.start * audio.hop, audio.segment_samples)
    if audio.mel_scales:
        target = mel_targets(real, audio)
    else:
        # Cut out of the window's spectrogram, which knows what surrounds the segment.
        cut = slice_segments(magnitudes, segments.start, audio.segment_frames)
        target = (log_mel(cut, audio),)
    return StepInputs(segments, magnitudes, real, target)
