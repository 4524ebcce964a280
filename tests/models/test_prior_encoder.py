"""Local attention against global attention."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvc_jax.models.parameters import Network
from rvc_jax.models.prior_encoder import RelativeAttention

WINDOW = 3
RADIUS = 8


@pytest.fixture(scope="module")
def attention() -> tuple[Network, dict]:
    network = Network(RelativeAttention(8, 2, WINDOW))
    parameters = network.init(0)
    return network, {name: 2 * value for name, value in parameters.items()}


def attend_globally(
    network: Network, parameters: dict, x: jax.Array, mask: jax.Array
) -> np.ndarray:
    return np.asarray(network(parameters, "__call__", x, mask))


def test_local_attention_is_global_within_its_radius(attention: tuple[Network, dict]) -> None:
    """A frame's result is that of global attention over the 2 * RADIUS + 1 frames around it."""
    network, parameters = attention
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6 * RADIUS, 8)), jnp.float32)
    mask = (jnp.arange(6 * RADIUS) < 43)[None, :, None] * jnp.ones((2, 1, 1))

    @jax.jit
    def attend_locally(x: jax.Array, mask: jax.Array) -> jax.Array:
        return network(parameters, "__call__", x, mask, RADIUS)

    band = np.asarray(attend_locally(x, mask))
    for frame in (3, 20, 42):
        cut = slice(max(frame - RADIUS, 0), frame + RADIUS + 1)
        around = attend_globally(network, parameters, x[:, cut], mask[:, cut])
        np.testing.assert_allclose(band[:, frame], around[:, min(frame, RADIUS)], atol=1e-5)
    whole = attend_globally(network, parameters, x, mask)
    assert np.abs(whole - band)[:, :43].max() > 1e-2  # distant frames do matter


def test_a_radius_of_the_whole_length_is_global(attention: tuple[Network, dict]) -> None:
    network, parameters = attention
    x = jnp.asarray(np.random.default_rng(1).standard_normal((1, 2 * RADIUS, 8)), jnp.float32)
    mask = jnp.ones((1, 2 * RADIUS, 1))
    band = network(parameters, "__call__", x, mask, 2 * RADIUS)
    whole = attend_globally(network, parameters, x, mask)
    np.testing.assert_allclose(band, whole, atol=1e-5)
