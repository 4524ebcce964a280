"""Winograd convolutions against plain ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import assert_close

from rvc_jax.models.kernels.convolution import conv
from rvc_jax.models.kernels.options import REFERENCE, KernelConfig
from rvc_jax.models.kernels.winograd import MAX_TAPS, make_transforms
from rvc_jax.plan.flops import count_flops

TILES = [
    (size, width)
    for width in range(2, MAX_TAPS + 1)
    for size in range(2, 6)
    if size + width <= 10
]


@settings(max_examples=8, deadline=None)
@given(
    time=st.integers(1, 40),
    width=st.integers(2, 8),
    stride=st.integers(1, 3),
    same=st.booleans(),
    seed=st.integers(0, 99),
)
def test_equals_plain_convolution(
    time: int, width: int, stride: int, same: bool, seed: int
) -> None:
    """The gradients, too, with tiles that are partly beyond the end."""
    random = np.random.default_rng(seed)
    padding = width // 2 if same or time < width else 0
    x = jnp.asarray(random.standard_normal((2, time, 4)), jnp.float32)
    kernel = jnp.asarray(random.standard_normal((width, 4, 3)), jnp.float32)

    def convolve(config: KernelConfig) -> tuple:
        return jax.vjp(
            lambda x, kernel: conv(x, kernel, stride, padding, 1, 1, config), x, kernel
        )

    plain, plain_backward = convolve(REFERENCE)
    fast, fast_backward = convolve(KernelConfig(winograd_from=3))
    assert fast.shape == plain.shape
    assert_close(fast, plain)
    cotangent = jnp.cos(plain)
    for actual, expected in zip(
        fast_backward(cotangent), plain_backward(cotangent), strict=True
    ):
        assert_close(actual, expected, 2e-5)


@pytest.mark.parametrize(("size", "width"), TILES)
def test_every_tile(size: int, width: int) -> None:
    random = np.random.default_rng(0)
    window = random.standard_normal(size + width - 1)
    taps = random.standard_normal(width)
    outputs, kernel, inputs = make_transforms(size, width)
    tile = outputs.T @ ((kernel @ taps) * (inputs @ window))
    np.testing.assert_allclose(tile, np.correlate(window, taps), atol=1e-12)


def test_takes_fewer_products() -> None:
    x = jax.ShapeDtypeStruct((2, 20, 256), jnp.float32)
    kernel = jax.ShapeDtypeStruct((5, 256, 512), jnp.float32)

    def count_products(config: KernelConfig) -> float:
        jaxpr = jax.make_jaxpr(lambda x, kernel: conv(x, kernel, 1, 2, 1, 1, config))
        return count_flops(jaxpr(x, kernel).jaxpr)

    plain = count_products(REFERENCE)
    assert plain == 2 * 2 * 20 * 5 * 256 * 512
    # A tile of 5 outputs takes 9 products instead of 25.
    assert count_products(KernelConfig(winograd_from=256)) == plain * 9 / 25
    assert count_products(KernelConfig(winograd_from=257)) == plain


def test_is_for_float32() -> None:
    x = jnp.ones((1, 8, 64), jnp.bfloat16)
    kernel = jnp.ones((5, 64, 64), jnp.bfloat16)
    config = KernelConfig(winograd_from=64)
    jaxpr = jax.make_jaxpr(lambda x, kernel: conv(x, kernel, 1, 2, 1, 1, config))(x, kernel)
    assert "dot_general" not in str(jaxpr)
