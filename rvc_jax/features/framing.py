"""Padding and framing of batches of audio whose rows have lengths of their own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.blocks import reflect_positions
from rvc_jax.config import CONTENT_HOP


def pad_rows_reflect(audio: jax.Array, lengths: jax.Array, left: int, right: int) -> jax.Array:
    """Pad each row as if it were alone: reflected around its own start and its own end, zeros
    behind that.

    Args:
      audio: [batch, samples].
      lengths: int [batch], samples of each row, at least 2; what lies behind them is not read.
      left: samples to reflect in front of every row.
      right: samples to reflect behind the end of every row.

    Returns: [batch, left + samples + right]. The first left + length + right samples of a row are
    those of numpy's
      `pad` with mode "reflect", also where more is asked for than the row has.
    """
    lengths = jnp.asarray(lengths, jnp.int32)[:, None]
    inside = jnp.arange(audio.shape[1]) < lengths
    padded = jnp.pad(jnp.where(inside, audio, 0), ((0, 0), (left, right)))
    head = _take_reflected(audio, lengths, jnp.arange(-left, 0))
    tail = _take_reflected(audio, lengths, lengths + jnp.arange(right))
    padded = padded.at[:, :left].set(head)
    return jax.vmap(lambda row, end, at: jax.lax.dynamic_update_slice(row, end, (at,)))(
        padded, tail, left + lengths[:, 0]
    )


def _take_reflected(audio: jax.Array, lengths: jax.Array, positions: jax.Array) -> jax.Array:
    """Samples [batch, n] at positions that may lie outside the rows, which are reflected there."""
    return jnp.take_along_axis(audio, reflect_positions(positions, lengths), axis=1)


def check_batch(audio: np.ndarray, lengths: np.ndarray | None) -> tuple[jax.Array, jax.Array]:
    """A feature extractor's input as float32 [batch, samples] and int32 [batch]; all of a row where
    no length is given.

    Raises ValueError unless samples are a multiple of 320 and every length is between 2 and
    samples.
    """
    audio = jnp.asarray(audio, jnp.float32)
    if audio.ndim != 2 or audio.shape[1] % CONTENT_HOP:
        raise ValueError(f"audio must be [batch, multiple of {CONTENT_HOP}], not {audio.shape}")
    lengths = (
        np.full(audio.shape[0], audio.shape[1]) if lengths is None else np.asarray(lengths)
    )
    if lengths.shape != audio.shape[:1] or ((lengths < 2) | (lengths > audio.shape[1])).any():
        raise ValueError(f"lengths {lengths} do not fit audio of shape {audio.shape}")
    return audio, jnp.asarray(lengths, jnp.int32)
