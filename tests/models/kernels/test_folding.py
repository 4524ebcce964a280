"""Layers on folded signals against the same layers on plain ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from kernel_checks import assert_close, draw

from rvc_jax.models.kernels import folding
from rvc_jax.models.kernels.folding import Signal
from rvc_jax.models.kernels.options import KernelConfig
from rvc_jax.models.layers import Conv, ConvTranspose
from rvc_jax.models.parameters import Network, Normal


def run(module: nnx.Module, function: object) -> jax.Array:
    network = Network(module)
    return network.apply(network.init(0), function)


@pytest.mark.parametrize("factor", [1, 2, 8])
def test_convolution(factor: int) -> None:
    x = draw(2, 16, 3)
    folded = Signal(x, 3).fold(factor)
    assert folded.factor == factor and folded.time == 16

    def compare(conv: Conv) -> tuple[Signal, jax.Array]:
        return folding.conv(conv, folded), conv(x)

    actual, expected = run(Conv(3, 5, 7, dilation=2, normed=True), compare)
    assert actual.factor == factor
    assert_close(actual.fold(1).values, expected)


@pytest.mark.parametrize("fold_to", [0, 8, 64])
def test_strided_convolution(fold_to: int) -> None:
    x = draw(2, 32, 4)
    kernels = KernelConfig(fold_to=fold_to)

    def compare(conv: Conv) -> tuple[Signal, jax.Array]:
        y = folding.strided_conv_leaky_relu(conv, Signal(x, 4), 0.1)
        return y, jax.nn.leaky_relu(conv(x), 0.1)

    conv = Conv(4, 8, 5, stride=2, normed=True, kernels=kernels)
    actual, expected = run(conv, compare)
    assert actual.factor == max(fold_to // 8, 1)
    assert_close(actual.fold(1).values, expected)


@pytest.mark.parametrize("factor", [1, 2])
def test_upsampling(factor: int) -> None:
    """The result is folded by the largest factor that divides its time."""
    x = draw(2, 6, 8)

    def compare(up: ConvTranspose) -> tuple[Signal, jax.Array]:
        return folding.upsample(up, Signal(x, 8).fold(factor), fold_to=32), up(x)

    actual, expected = run(ConvTranspose(8, 4, 10, 5, Normal(1.0)), compare)
    assert actual.factor == 6  # 32 channels would be a factor of 8, which does not divide 30
    assert_close(actual.fold(1).values, expected)


def test_source() -> None:
    source = draw(2, 32, 1)

    def compare(conv: Conv) -> tuple[Signal, jax.Array]:
        return folding.downsample_source(conv, source, factor=4, fold_to=32), conv(source)

    actual, expected = run(Conv(1, 6, 8, stride=4, padding=2), compare)
    assert actual.values.shape == (2, 2, 24)
    assert_close(actual.fold(1).values, expected)


def test_signals_add() -> None:
    a = Signal(jnp.ones((1, 2, 6)), 3)
    doubled = (a + a).map(lambda values: values + 1)
    assert doubled.channels == 3 and bool((doubled.values == 3).all())
