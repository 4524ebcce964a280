"""Moves attention scores between "by offset" and "by key", for relative positions.

By offset, a query's row has 2 * window + 1 entries for the keys from `window` before to `window`
behind it. By key, it has an entry for every key, and offsets outside the window are 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Products with ones and zeros only move numbers: float32 must stay what it is.
_EXACT = jax.lax.Precision.HIGHEST


def scatter_offsets(
    near: jax.Array, window: int, selector: jax.Array | None = None
) -> jax.Array:
    """By offset [..., time, 2 * window + 1] -> by key [..., time, time].

    selector: `offset_selector`, to do it by a product.
    """
    if selector is not None:
        return jnp.einsum("bhqr,qrk->bhqk", near, selector, precision=_EXACT)
    # Rows padded to one element more than those of the result, read again at the result's length:
    # each row then starts one element later, which is the diagonal.
    *leading, time, offsets = near.shape
    row = time + 2 * window
    padded = jnp.pad(near, [(0, 0)] * (near.ndim - 1) + [(0, row + 1 - offsets)])
    flat = padded.reshape(*leading, time * (row + 1))[..., : time * row]
    return flat.reshape(*leading, time, row)[..., window : window + time]


def gather_offsets(
    weights: jax.Array, window: int, selector: jax.Array | None = None
) -> jax.Array:
    """By key [..., time, time] -> by offset [..., time, 2 * window + 1].

    Inverts `scatter_offsets`.
    """
    if selector is not None:
        return jnp.einsum("bhqk,qrk->bhqr", weights, selector, precision=_EXACT)
    *leading, time, _ = weights.shape
    row = time + 2 * window
    padded = jnp.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(window, window)])
    flat = padded.reshape(*leading, time * row)
    flat = jnp.pad(flat, [(0, 0)] * len(leading) + [(0, time)])
    return flat.reshape(*leading, time, row + 1)[..., : 2 * window + 1]


def offset_selector(time: int, window: int, dtype: jnp.dtype) -> jax.Array:
    """Returns [query, offset, key]: 1 where key - query is the offset, else 0."""
    query, offset, key = jnp.ogrid[:time, -window : window + 1, :time]
    return (key - query == offset).astype(dtype)


def with_neighbors(x: jax.Array, radius: int) -> jax.Array:
    """Cuts into blocks, each with the ones before and behind it.

    [batch, time, ...] -> [batch, time / radius, 3 * radius, ...].
    """
    blocks = jnp.pad(x, [(0, 0), (radius, radius)] + [(0, 0)] * (x.ndim - 2))
    blocks = blocks.reshape(x.shape[0], -1, radius, *x.shape[2:])
    return jnp.concatenate([blocks[:, :-2], blocks[:, 1:-1], blocks[:, 2:]], axis=2)


def place_in_band(near: jax.Array, radius: int) -> jax.Array:
    """`scatter_offsets` for the keys of a block with its neighbors.

    [..., radius, 2 * window + 1] -> [..., radius, 3 * radius].
    """
    *leading, time, offsets = near.shape
    row = 3 * radius
    before = radius - offsets // 2
    edges = (before, row + 1 - before - offsets)
    padded = jnp.pad(near, [(0, 0)] * (near.ndim - 1) + [edges])
    flat = padded.reshape(*leading, time * (row + 1))[..., : time * row]
    return flat.reshape(*leading, time, row)


def pick_from_band(weights: jax.Array, radius: int, window: int) -> jax.Array:
    """Inverts `place_in_band`."""
    *leading, time, row = weights.shape
    flat = weights.reshape(*leading, time * row)
    flat = jnp.pad(flat, [(0, 0)] * len(leading) + [(0, time)])
    rows = flat.reshape(*leading, time, row + 1)
    return rows[..., radius - window : radius + window + 1]
