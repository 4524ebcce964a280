"""Scores between offsets and keys: by rows, by products, and in a band."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from rvc_jax.models.kernels.relative_offsets import (
    gather_offsets,
    offset_selector,
    pick_from_band,
    place_in_band,
    scatter_offsets,
)

WINDOW = 3
RADIUS = 8
OFFSETS = 2 * WINDOW + 1


def test_the_band_has_scores_where_global_attention_has_them() -> None:
    near = jnp.asarray(np.random.default_rng(2).standard_normal((2, RADIUS, OFFSETS)))
    placed = place_in_band(near, RADIUS)
    own_block = placed[..., RADIUS : 2 * RADIUS]
    np.testing.assert_array_equal(own_block, scatter_offsets(near, WINDOW))
    np.testing.assert_array_equal(pick_from_band(placed, RADIUS, WINDOW), near)
    inner = jnp.pad(own_block, [(0, 0), (0, 0), (RADIUS, RADIUS)])
    np.testing.assert_array_equal(
        pick_from_band(inner, RADIUS, WINDOW), gather_offsets(own_block, WINDOW)
    )


def test_products_move_the_same_numbers() -> None:
    random = np.random.default_rng(3)
    near = jnp.asarray(random.standard_normal((2, 2, RADIUS, OFFSETS)), jnp.float32)
    selector = offset_selector(RADIUS, WINDOW, jnp.dtype("float32"))
    by_key = scatter_offsets(near, WINDOW)
    np.testing.assert_array_equal(scatter_offsets(near, WINDOW, selector), by_key)
    weights = jnp.asarray(random.standard_normal((2, 2, RADIUS, RADIUS)), jnp.float32)
    np.testing.assert_array_equal(
        gather_offsets(weights, WINDOW, selector), gather_offsets(weights, WINDOW)
    )
