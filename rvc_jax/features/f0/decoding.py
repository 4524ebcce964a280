"""From the salience of pitch candidates to pitch in Hz."""

from __future__ import annotations

import jax
import jax.numpy as jnp

_NEIGHBORS = 4
"""Candidates on either side of the best one that take part."""
_CENTS_ORIGIN_HZ = 10.0


def local_average_pitch(
    salience: jax.Array, cents: jax.Array, threshold: float, repeat_edges: bool = False
) -> jax.Array:
    """Average the best candidate and its four neighbors on either side, weighted by salience.

    The average is taken in cents, as in CREPE and its successors: RMVPE's `to_local_average_cents`,
    torchfcpe's decoder "local_argmax".

    Args:
      salience: [..., candidates], at least 0.
      cents: [candidates], the candidates' pitch in cents above 10 Hz.
      threshold: a frame with no salience above it is unvoiced.
      repeat_edges: in place of neighbors beyond the outermost candidate, count that one again
        (FCPE); without it they are left out (RMVPE).

    Returns: Hz [...], 0 where unvoiced.
    """
    candidates = jnp.arange(salience.shape[-1])
    last = salience.shape[-1] - 1
    best = salience.argmax(axis=-1, keepdims=True)
    times = (jnp.abs(candidates - best) <= _NEIGHBORS).astype(salience.dtype)
    if repeat_edges:
        below = jnp.maximum(0, _NEIGHBORS - best)
        above = jnp.maximum(0, best + _NEIGHBORS - last)
        times += jnp.where(candidates == 0, below, 0)
        times += jnp.where(candidates == last, above, 0)
    weights = salience * times
    # The distance from the best candidate is small, so that single precision is enough.
    center = cents[best]
    distance = (weights * (cents - center)).sum(axis=-1)
    distance = distance / jnp.maximum(weights.sum(axis=-1), 1e-30)
    pitch = _CENTS_ORIGIN_HZ * jnp.exp2((center[..., 0] + distance) / 1200.0)
    return jnp.where(salience.max(axis=-1) > threshold, pitch, 0.0)
