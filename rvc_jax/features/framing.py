"""Checks, padding and masks for batches of audio whose rows have lengths of their own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.blocks import reflect_positions
from rvc_jax.config import CONTENT_HOP


def check_batch(audio: np.ndarray, lengths: np.ndarray | None) -> tuple[jax.Array, jax.Array]:
    """Check the input of a pitch extractor or of the speaker encoder.

    Args:
      audio: [batch, samples], samples a multiple of 320.
      lengths: [batch], samples of each row, 2..samples; whole rows if not given.

    Returns: the audio as float32, and the lengths as int32.

    Raises:
      ValueError: they do not fit.
    """
    samples = jnp.asarray(audio, jnp.float32)
    if samples.ndim != 2 or samples.shape[1] % CONTENT_HOP:
        raise ValueError(f"audio must be [batch, multiple of {CONTENT_HOP}], not {audio.shape}")
    if lengths is None:
        lengths = np.full(samples.shape[0], samples.shape[1])
    lengths = np.asarray(lengths)
    impossible = (lengths < 2) | (lengths > samples.shape[1])
    if lengths.shape != samples.shape[:1] or impossible.any():
        raise ValueError(f"lengths {lengths} do not fit audio of shape {audio.shape}")
    return samples, jnp.asarray(lengths, jnp.int32)


def trim_to_frames(
    audio: np.ndarray, lengths: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Check the input of a content encoder, and round its lengths down to whole frames.

    Args:
      audio: [batch, samples], samples a multiple of 320 and not 0.
      lengths: [batch], samples of each row, 320..samples; whole rows if not given.

    Returns: the audio as float32, and the samples of each row that are whole frames of content, as
      int32.

    Raises:
      ValueError: they do not fit.
    """
    if audio.ndim != 2 or audio.shape[1] % CONTENT_HOP or not audio.shape[1]:
        raise ValueError(f"audio must be [batch, multiple of {CONTENT_HOP}], not {audio.shape}")
    batch, samples = audio.shape
    lengths = np.full(batch, samples) if lengths is None else np.asarray(lengths)
    impossible = (lengths < CONTENT_HOP) | (lengths > samples)
    if lengths.shape != (batch,) or np.any(impossible):
        raise ValueError(
            f"lengths must be one per row, from {CONTENT_HOP} to {samples} samples, not {lengths}"
        )
    whole = lengths // CONTENT_HOP * CONTENT_HOP
    return np.asarray(audio, np.float32), whole.astype(np.int32)


def frame_mask(x: jax.Array, frames: jax.Array) -> jax.Array:
    """Mark the frames of x [batch, time, ...] within each row's count: bool [batch, time]."""
    return jnp.arange(x.shape[1]) < frames[:, None]


def pad_rows_reflect(audio: jax.Array, lengths: jax.Array, left: int, right: int) -> jax.Array:
    """Pad each row by reflection around its own start and its own end.

    Args:
      audio: [batch, samples].
      lengths: int [batch], samples of each row, at least 2; the samples behind them are ignored.
      left: samples to add before every row.
      right: samples to add behind the end of every row.

    Returns: [batch, left + samples + right]. The first left + length + right samples of a row are
      those of numpy's `pad` with mode "reflect", even if more are added than the row has; the
      others are 0.
    """
    lengths = jnp.asarray(lengths, jnp.int32)[:, None]
    inside = jnp.arange(audio.shape[1]) < lengths
    padded = jnp.pad(jnp.where(inside, audio, 0), ((0, 0), (left, right)))
    head = _take_reflected(audio, lengths, jnp.arange(-left, 0))
    tail = _take_reflected(audio, lengths, lengths + jnp.arange(right))
    padded = padded.at[:, :left].set(head)

    def put_tail(row: jax.Array, tail: jax.Array, start: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice(row, tail, (start,))

    return jax.vmap(put_tail)(padded, tail, left + lengths[:, 0])


def _take_reflected(audio: jax.Array, lengths: jax.Array, positions: jax.Array) -> jax.Array:
    """Samples [batch, n] at positions that may lie outside the rows, which are reflected there."""
    return jnp.take_along_axis(audio, reflect_positions(positions, lengths), axis=1)
