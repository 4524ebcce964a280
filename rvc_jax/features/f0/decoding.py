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
    """Mean of the best candidate and its four neighbours on either side, weighted by salience, on
    the scale of cents.

    As in CREPE and its successors: RMVPE's `to_local_average_cents`, torchfcpe's decoder
    "local_argmax".

    Args:
      salience: [..., candidates], at least 0.
      cents: [candidates], the candidates' pitch in cents over 10 Hz.
      threshold: a frame with no salience above this is unvoiced.
      repeat_edges: neighbours that would lie outside are the outermost candidate once more (FCPE),
        else they are left out (RMVPE).

    Returns: Hz [...], 0 where unvoiced.
    """
    candidates = jnp.arange(salience.shape[-1])
    best = salience.argmax(axis=-1, keepdims=True)
    times = (jnp.abs(candidates - best) <= _NEIGHBORS).astype(salience.dtype)
    if repeat_edges:
        times += jnp.where(candidates == 0, jnp.maximum(0, _NEIGHBORS - best), 0)
        times += jnp.where(
            candidates == candidates[-1], jnp.maximum(0, best + _NEIGHBORS - candidates[-1]), 0
        )
    weights = salience * times
    # The distance from the best candidate is small: so single precision is enough.
    centre = cents[best]
    distance = (weights * (cents - centre)).sum(axis=-1) / jnp.maximum(
        weights.sum(axis=-1), 1e-30
    )
    pitch = _CENTS_ORIGIN_HZ * jnp.exp2((centre[..., 0] + distance) / 1200.0)
    return jnp.where(salience.max(axis=-1) > threshold, pitch, 0.0)
