"""Activations with gradients of their own, against what JAX makes of their definitions."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvc_jax.models.kernels.activations import (
    apply_mask,
    attention_weights,
    gated_tanh,
    leaky_relu,
)


def value_and_gradient(
    function: Callable, x: jax.Array, cotangent: np.ndarray
) -> tuple[jax.Array, jax.Array]:
    value, pull = jax.vjp(function, x)
    return value, pull(jnp.asarray(cotangent, value.dtype))[0]


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("slope", [0.1, 0.01, 0.0])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_leaky_relu(slope: float, dtype: jnp.dtype) -> None:
    x = jnp.asarray(draw(4, 50), dtype)
    mine = value_and_gradient(lambda x: leaky_relu(x, slope), x, draw(4, 50))
    jaxs = value_and_gradient(lambda x: jax.nn.leaky_relu(x, slope), x, draw(4, 50))
    for ours, theirs in zip(mine, jaxs, strict=True):
        assert ours.dtype == dtype
        np.testing.assert_array_equal(
            np.asarray(ours, np.float32), np.asarray(theirs, np.float32)
        )


def test_leaky_relu_at_zero_is_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor([0.0, -0.0, 1e-40, -1e-40], requires_grad=True)
    torch.nn.functional.leaky_relu(x, 0.1).sum().backward()
    assert x.grad is not None
    ours = jax.grad(lambda x: leaky_relu(x, 0.1).sum())(jnp.array([0.0, -0.0]))
    np.testing.assert_array_equal(ours, x.grad[:2].numpy())


def test_gated() -> None:
    x = draw(2, 5, 3)
    gate = 2 * draw(2, 5, 3)[::-1]
    for ours, theirs in (
        (lambda x: gated_tanh(x, gate), lambda x: jnp.tanh(x) * jax.nn.sigmoid(gate)),
        (lambda gate: gated_tanh(x, gate), lambda gate: jnp.tanh(x) * jax.nn.sigmoid(gate)),
    ):
        for mine, plain in zip(
            value_and_gradient(ours, x, x), value_and_gradient(theirs, x, x), strict=True
        ):
            np.testing.assert_allclose(mine, plain, atol=1e-6)


def test_masked_passes_no_gradient_where_it_is_zero() -> None:
    mask = (np.arange(6) < 4).astype(np.float32)[None, :, None]
    value, gradient = value_and_gradient(
        lambda x: apply_mask(x, mask), draw(2, 6, 3), draw(2, 6, 3)
    )
    np.testing.assert_array_equal(value, draw(2, 6, 3) * mask)
    np.testing.assert_array_equal(gradient, draw(2, 6, 3) * mask)


def test_attention_weights_of_keys_that_are_allowed() -> None:
    real = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], bool)
    allowed = (real[:, :, None] & real[:, None, :])[:, None]
    cotangent = (
        draw(2, 3, 5, 5) * real[:, None, :, None]
    )  # nothing of a query that is padding is used

    def plain(scores: jax.Array) -> jax.Array:
        return jax.nn.softmax(jnp.where(allowed, scores, -1e4), axis=-1)

    scores = jnp.asarray(3 * draw(2, 3, 5, 5))
    mine = value_and_gradient(
        lambda scores: attention_weights(scores, allowed), scores, cotangent
    )
    for ours, theirs in zip(mine, value_and_gradient(plain, scores, cotangent), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    half = value_and_gradient(
        lambda x: attention_weights(x, allowed), scores.astype(jnp.bfloat16), cotangent
    )
    assert {each.dtype for each in half} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(np.asarray(half[1], np.float32), mine[1], atol=0.02)


def test_little_is_kept_for_the_gradient() -> None:
    def kept(function: Callable, *arguments: jax.Array) -> int:
        return sum(
            leaf.size * leaf.dtype.itemsize
            for leaf in jax.tree.leaves(jax.vjp(function, *arguments)[1])
        )

    x = jnp.asarray(draw(2, 64, 64))
    mask = jnp.ones((2, 64, 1))
    assert kept(lambda x: leaky_relu(x, 0.1), x) == x.nbytes
    assert kept(lambda x: gated_tanh(x, x), x) == 2 * x.nbytes
    assert kept(lambda x: apply_mask(x, mask), x) == mask.nbytes
    assert kept(lambda x: attention_weights(x, mask > 0), x) == x.nbytes
    assert kept(lambda x: jax.nn.softmax(jnp.where(mask > 0, x, -1e4)), x) > 1.2 * x.nbytes
