"""Fused convolution layers against their definitions."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest
from kernel_checks import assert_close, draw

from rvc_jax.models.kernels.layer import conv_gated_tanh, conv_halves, conv_leaky_relu
from rvc_jax.models.kernels.weight_norm import squared_norms
from rvc_jax.models.layers import Conv
from rvc_jax.models.parameters import Network

X = draw(2, 10, 4)
CONDITION = draw(2, 1, 8, seed=1)


def gate(y: jax.Array) -> jax.Array:
    filtered, gates = jnp.split(y + CONDITION, 2, axis=-1)
    return jnp.tanh(filtered) * jax.nn.sigmoid(gates)


CASES: dict[str, tuple[Callable, Callable]] = {
    "leaky_relu": (
        lambda conv, x: conv_leaky_relu(conv, x, 0.1),
        lambda y: jax.nn.leaky_relu(y, 0.1),
    ),
    "gated_tanh": (lambda conv, x: conv_gated_tanh(conv, x, CONDITION), gate),
    "halves": (lambda conv, x: jnp.concatenate(conv_halves(conv, x), axis=-1), lambda y: y),
}


@pytest.mark.usefixtures("every_kernel_is_large")
@pytest.mark.parametrize("with_known_norms", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_layer_and_gradients(name: str, with_known_norms: bool) -> None:
    fused, activation = CASES[name]
    network = Network(Conv(4, 8, 3, normed=True))
    parameters = {key: value + 0.1 for key, value in network.init(0).items()}
    squares = squared_norms(parameters) if with_known_norms else None

    def compute_fused(parameters: dict, x: jax.Array) -> jax.Array:
        return network.apply(parameters, lambda conv: fused(conv, x), squares)

    def compute_plain(parameters: dict, x: jax.Array) -> jax.Array:
        return activation(network(parameters, "__call__", x))

    expected, expected_backward = jax.vjp(compute_plain, parameters, X)
    actual, backward = jax.vjp(compute_fused, parameters, X)
    assert_close(actual, expected)
    cotangent = jnp.cos(expected)
    for one, other in zip(
        jax.tree.leaves(backward(cotangent)),
        jax.tree.leaves(expected_backward(cotangent)),
        strict=True,
    ):
        assert_close(one, other, 1e-4)
