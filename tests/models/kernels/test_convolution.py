"""Forms of convolutions against the plain ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import assert_close

from rvc_jax.models.kernels.convolution import (
    conv,
    conv_transpose,
    count_merged_groups,
    fold,
    folded_conv,
    folded_conv_transpose,
    merge_groups,
    plain_conv,
)
from rvc_jax.models.kernels.options import KernelConfig


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 11),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 5),
    factor=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_folded_convolution(
    width: int, stride: int, dilation: int, factor: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    time = 3 * factor * stride
    padding = (width - 1) * dilation // 2
    if (time + 2 * padding - (width - 1) * dilation - 1) // stride + 1 != time // stride:
        padding += 1  # an even kernel that leaves a frame out
    x = jnp.asarray(random.standard_normal((2, time, 3)), jnp.float32)
    kernel = jnp.asarray(random.standard_normal((width, 3, 5)), jnp.float32)
    plain = conv(x, kernel, stride, padding, dilation, 1)[:, : time // stride]
    x = fold(x, 3, factor * stride)
    assert_close(folded_conv(x, kernel, factor, stride, padding, dilation, 1), plain)


@pytest.mark.parametrize(("groups", "channels"), [(4, 8), (16, 8), (6, 12), (2, 128)])
def test_merged_groups(groups: int, channels: int) -> None:
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((2, 40, 4 * groups)), jnp.float32)
    kernel = jnp.asarray(random.standard_normal((5, 4, 2 * groups)), jnp.float32)
    plain = conv(x, kernel, 2, 2, 1, groups)
    merged = count_merged_groups(2 * groups, groups, channels)
    assert merged == count_fitting_groups(groups, channels)
    assert_close(conv(x, kernel, 2, 2, 1, groups, KernelConfig(merge_to=channels)), plain)
    assert_close(plain_conv(x, merge_groups(kernel, groups), (2, 2), 2), plain)


def count_fitting_groups(groups: int, channels: int) -> int:
    """Largest number of groups of 2 output channels that fit into `channels` and divide
    `groups`."""
    divisors = [number for number in range(1, groups + 1) if groups % number == 0]
    return max(number for number in divisors if 2 * number <= max(channels, 2))


@pytest.mark.parametrize(
    ("inputs", "outputs", "groups", "time"),
    [(16, 64, 4, 101), (64, 64, 16, 40), (8, 8, 8, 64)],
)
def test_merged_groups_and_their_gradients(
    inputs: int, outputs: int, groups: int, time: int
) -> None:
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((2, time, inputs)), jnp.float32)
    kernel = jnp.asarray(random.standard_normal((41, inputs // groups, outputs)), jnp.float32)

    def value_and_gradients(function: object) -> list[jax.Array]:
        y, vjp = jax.vjp(function, x, kernel)
        return [y, *vjp(jnp.cos(y))]

    plain = value_and_gradients(
        lambda x, w: jax.lax.conv_general_dilated(
            x,
            w,
            (4,),
            [(20, 20)],
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=groups,
        )
    )
    merged = value_and_gradients(
        lambda x, w: conv(x, w, 4, 20, 1, groups, KernelConfig(merge_to=16))
    )
    for expected, actual in zip(plain, merged, strict=True):
        error = float(jnp.linalg.norm(actual - expected) / jnp.linalg.norm(expected))
        assert error < 1e-5


@pytest.mark.parametrize(("width", "stride"), [(16, 10), (4, 2), (24, 12), (20, 10)])
def test_forms_of_upsampling(width: int, stride: int) -> None:
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((2, 12, 6)), jnp.float32)
    kernel = jnp.asarray(random.standard_normal((width, 4, 6)), jnp.float32)
    dilated = conv_transpose(x, kernel, stride, "dilated")
    assert_close(conv_transpose(x, kernel, stride, "subpixel"), dilated)
    assert_close(folded_conv_transpose(fold(x, 6, 3), kernel, stride, 3), dilated)


@pytest.mark.parametrize(
    ("width", "stride"),
    [(16, 10), (16, 8), (4, 2), (24, 12), (20, 10), (3, 1), (32, 16)],
)
def test_conv_transpose_equals_its_definition(width: int, stride: int) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((2, 7, 3))
    kernel = random.standard_normal((width, 5, 3))
    padding = (width - stride) // 2
    full = np.zeros((2, 6 * stride + width, 5))
    for frame in range(7):
        taps = np.einsum("bi,koi->bko", x[:, frame], kernel)
        full[:, frame * stride : frame * stride + width] += taps
    expected = full[:, padding : padding + 7 * stride]
    actual = conv_transpose(jnp.asarray(x), jnp.asarray(kernel), stride)
    np.testing.assert_allclose(actual, expected, atol=1e-5)
