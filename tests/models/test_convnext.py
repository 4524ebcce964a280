"""ConvNeXt blocks beside the same in PyTorch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_checks import draw

from rvc_jax.models.convnext import ConvNextBlock, DepthwiseConv, normalize
from rvc_jax.models.parameters import Network

CHANNELS = 6
SPEAKER = 5
KERNEL = 7
DILATION = 2
EXPANSION = 3


@pytest.fixture(scope="module")
def block() -> tuple[Network, dict]:
    network = Network(ConvNextBlock(CHANNELS, SPEAKER, KERNEL, DILATION, EXPANSION))
    random = np.random.default_rng(1)
    parameters = {
        name: jnp.asarray(random.normal(0, 0.5, shape), jnp.float32)
        for name, shape in network.shapes.items()
    }
    return network, parameters


def test_a_block_equals_the_same_in_torch(block: tuple[Network, dict]) -> None:
    torch = pytest.importorskip("torch")
    network, parameters = block
    x = np.asarray(draw(2, 19, CHANNELS))
    speaker = np.asarray(draw(2, 1, SPEAKER, seed=1))
    run = jax.jit(lambda *inputs: network(parameters, "__call__", *inputs))
    ours = run(jnp.asarray(x), jnp.asarray(speaker))

    public = {
        name: torch.tensor(value) for name, value in network.to_public(parameters).items()
    }

    def linear(name: str, values):
        layer = torch.nn.functional.linear
        return layer(values, public[f"{name}.weight"], public[f"{name}.bias"])

    y = torch.nn.functional.conv1d(
        torch.tensor(x).transpose(1, 2),
        public["depthwise.weight"].T[:, None],
        public["depthwise.bias"],
        padding=KERNEL // 2 * DILATION,
        dilation=DILATION,
        groups=CHANNELS,
    ).transpose(1, 2)
    y = torch.nn.functional.layer_norm(y, (CHANNELS,), eps=1e-5)
    scale, offset = linear("condition", torch.tensor(speaker)).chunk(2, dim=-1)
    hidden = torch.nn.functional.gelu(
        linear("expand", y * (1 + scale) + offset), approximate="tanh"
    )
    expected = torch.tensor(x) + linear("contract", hidden)
    np.testing.assert_allclose(ours, expected.numpy(), rtol=2e-5, atol=2e-5)


def test_edges_are_zeros_and_the_reach_is_the_filters() -> None:
    network = Network(DepthwiseConv(2, 5, 3))
    parameters = network.init(0)
    pulse = jnp.zeros((1, 31, 2)).at[0, 15].set(1.0)
    reached = np.flatnonzero(np.abs(network(parameters, "__call__", pulse)).max(axis=(0, 2)))
    assert reached.tolist() == [9, 12, 15, 18, 21]
    alone = network(parameters, "__call__", jnp.ones((1, 1, 2)))
    np.testing.assert_allclose(alone[0, 0], parameters["weight"][2], rtol=1e-6)


def test_a_fresh_block_changes_little() -> None:
    """The skip comes through: deep stacks of fresh blocks neither grow nor vanish."""
    network = Network(ConvNextBlock(64, 8, 7, 1, 3))
    x = draw(1, 50, 64)
    run = jax.jit(lambda *inputs: network(network.init(0), "__call__", *inputs))
    change = run(x, draw(1, 1, 8)) - x
    assert 0.02 < float(jnp.std(change)) < 0.6


def test_normalization_is_computed_in_float32() -> None:
    x = (100 + draw(2, 3, 64)).astype(jnp.bfloat16)
    normalized = normalize(x)
    assert normalized.dtype == jnp.bfloat16
    exact = np.asarray(x, np.float64)
    exact = (exact - exact.mean(axis=-1, keepdims=True)) / exact.std(axis=-1, keepdims=True)
    np.testing.assert_allclose(np.asarray(normalized, np.float64), exact, atol=0.02)
