"""Weight norms: kernels, gradients, and probes of known norms."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_checks import NANO, assert_close, value_and_grad

from rvc_jax.models.discriminator import Discriminator
from rvc_jax.models.kernels.convolution import conv
from rvc_jax.models.kernels.weight_norm import (
    AppliedNorm,
    KnownNorm,
    TargetNorm,
    bind_norms,
    list_probed,
    multiply_by_probe,
    normalize_with_probe,
    squared_norm,
    squared_norms,
)
from rvc_jax.models.parameters import Network


def make_plain(direction: jax.Array, norm: jax.Array) -> jax.Array:
    return TargetNorm(norm).make_kernel(direction)


def make_with_known_norm(direction: jax.Array, norm: jax.Array) -> jax.Array:
    return KnownNorm(norm, squared_norm(direction)).make_kernel(direction)


def draw(seed: int, *shapes: tuple[int, ...]) -> list[jax.Array]:
    random = np.random.default_rng(seed)
    return [jnp.asarray(random.standard_normal(shape), jnp.float32) for shape in shapes]


def test_known_norms_give_the_same_kernels_and_gradients() -> None:
    direction, norm, gradient = draw(1, (2, 3, 4, 5), (2, 1, 1, 5), (2, 3, 4, 5))
    kernel, backward = jax.vjp(make_with_known_norm, direction, norm)
    plain_kernel, plain_backward = jax.vjp(make_plain, direction, norm)
    np.testing.assert_allclose(kernel, plain_kernel, rtol=1e-6)
    for actual, expected in zip(backward(gradient), plain_backward(gradient), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "bad"),
    [*itertools.product((make_plain, make_with_known_norm), (np.nan, np.inf, -np.inf))],
)
def test_what_is_not_finite_shows_in_the_norms_gradient(make: Callable, bad: float) -> None:
    """The training step looks for it there alone."""
    direction, norm, gradient = draw(0, (3, 4, 5), (1, 1, 5), (3, 4, 5))
    _, backward = jax.vjp(make, direction, norm)
    direction_gradient, norm_gradient = backward(gradient.at[1, 2, 3].set(bad))
    assert not np.isfinite(direction_gradient).all()
    assert not np.isfinite(norm_gradient[0, 0, 3])


def test_a_norm_of_zero_does_not_spoil_the_gradient() -> None:
    x = jnp.ones((1, 4, 2))
    direction = jnp.ones((3, 2, 2))
    norm = KnownNorm(jnp.array([0.0, 2.0])[None, None], squared_norm(direction))

    def loss(norm: KnownNorm) -> jax.Array:
        kernel, probe = normalize_with_probe(direction, norm)
        return jnp.sum(multiply_by_probe(conv(x, kernel, 1, 1, 1, 1), probe))

    gradient = jax.grad(loss)(norm).norm[0, 0]
    assert gradient[0] == 0 and gradient[1] > 0


@pytest.mark.usefixtures("every_kernel_is_large")
def test_discriminator_with_known_norms() -> None:
    wave = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 3200)), jnp.float32)
    network = Network(Discriminator(NANO.discriminator))

    def loss(run: Callable) -> tuple[jax.Array, jax.Array]:
        outputs = run("__call__", wave)
        terms = [jnp.mean(scores**2) + jnp.mean(maps[1][0] ** 2) for scores, maps in outputs]
        return sum(terms), wave

    _, expected = value_and_grad(network, loss, packed=False, with_known_norms=False)
    _, grads = value_and_grad(network, loss, packed=True, with_known_norms=True)
    for name, gradient in grads.items():
        assert_close(gradient, expected[name], 1e-4)


@pytest.mark.usefixtures("every_kernel_is_large")
def test_norms_are_bound_by_what_is_known() -> None:
    direction, norm = draw(0, (3, 4, 5), (1, 1, 5))
    parameters = {
        "a.weight_g": norm,
        "a.weight_v": direction,
        "b.weight_g": norm,
        "b.weight_v": direction,
        "b.bias": norm[0, 0],
    }
    squares = squared_norms(parameters)
    assert squares.keys() == {"a.weight_g", "b.weight_g"}
    weights = bind_norms(parameters, {"a.weight_g": squares["a.weight_g"]})
    assert isinstance(weights["a.weight_g"], KnownNorm)
    assert isinstance(weights["b.weight_g"], TargetNorm)
    assert weights["b.bias"] is parameters["b.bias"]
    assert list_probed(weights) == ["a.weight_v"]


def test_a_finished_kernel_stays_as_it_is() -> None:
    (kernel,) = draw(0, (3, 4, 5))
    assert AppliedNorm().make_kernel(kernel) is kernel
    assert AppliedNorm().make_kernel_and_probe(kernel) == (kernel, None)
