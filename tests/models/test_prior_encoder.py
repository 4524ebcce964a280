"""Attention in a band against attention to everything."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvc_jax.models.parameters import Network
from rvc_jax.models.prior_encoder import (
    RelativeAttention,
    gather_offsets,
    pick_from_band,
    place_in_band,
    scatter_offsets,
)

WINDOW = 3
REACH = 8


@pytest.fixture(scope="module")
def attention() -> tuple[Network, dict]:
    network = Network(RelativeAttention(8, 2, WINDOW))
    parameters = network.init(0)
    return network, {name: 2 * value for name, value in parameters.items()}


def plain(network: Network, parameters: dict, x: jax.Array, mask: jax.Array) -> np.ndarray:
    return np.asarray(network(parameters, "__call__", x, mask))


def test_a_frame_hears_what_a_cut_around_it_lets_it_hear(
    attention: tuple[Network, dict],
) -> None:
    """The middle frame of a plain attention over 2 * REACH + 1 frames is the band's frame there."""
    network, parameters = attention
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6 * REACH, 8)), jnp.float32)
    mask = (jnp.arange(6 * REACH) < 43)[None, :, None] * jnp.ones((2, 1, 1))
    band = np.asarray(
        jax.jit(lambda x, mask: network(parameters, "__call__", x, mask, REACH))(x, mask)
    )
    for frame in (3, 20, 42):
        cut = slice(max(frame - REACH, 0), frame + REACH + 1)
        around = plain(network, parameters, x[:, cut], mask[:, cut])[:, min(frame, REACH)]
        np.testing.assert_allclose(band[:, frame], around, atol=1e-5)
    whole = plain(network, parameters, x, mask)
    assert np.abs(whole - band)[:, :43].max() > 1e-2  # what is far away does matter


def test_a_band_over_everything_is_plain_attention(attention: tuple[Network, dict]) -> None:
    network, parameters = attention
    x = jnp.asarray(np.random.default_rng(1).standard_normal((1, 2 * REACH, 8)), jnp.float32)
    mask = jnp.ones((1, 2 * REACH, 1))
    band = network(parameters, "__call__", x, mask, 2 * REACH)
    np.testing.assert_allclose(band, plain(network, parameters, x, mask), atol=1e-5)


def test_offsets_are_put_where_plain_attention_has_them() -> None:
    near = jnp.asarray(np.random.default_rng(2).standard_normal((2, REACH, 2 * WINDOW + 1)))
    placed = place_in_band(near, REACH)
    np.testing.assert_array_equal(placed[..., REACH : 2 * REACH], scatter_offsets(near, WINDOW))
    np.testing.assert_array_equal(pick_from_band(placed, REACH, WINDOW), near)
    inner = jnp.pad(placed[..., REACH : 2 * REACH], [(0, 0), (0, 0), (REACH, REACH)])
    np.testing.assert_array_equal(
        pick_from_band(inner, REACH, WINDOW),
        gather_offsets(placed[..., REACH : 2 * REACH], WINDOW),
    )
