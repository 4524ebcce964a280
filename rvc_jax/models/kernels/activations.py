"""Activations that store little for the backward pass.

JAX's own versions store masks and float32 intermediates, one array each, and a TPU step spends its
time writing and reading them. The versions here store only what the next layer takes as its input
anyway, or next to nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp


def custom_vjp_with_static(
    *static: int,
) -> Callable[[Callable[..., jax.Array]], jax.custom_vjp[jax.Array]]:
    """Returns `jax.custom_vjp` for functions with arguments that are not differentiated.

    static: positions of these arguments.
    """
    # JAX's `custom_vjp.__new__` hides the type.
    return functools.partial(  # pyright: ignore[reportReturnType]
        jax.custom_vjp, nondiff_argnums=static
    )


@custom_vjp_with_static(1)
def leaky_relu(x: jax.Array, slope: float) -> jax.Array:
    """Returns x where it is positive and slope * x elsewhere, for slopes from 0 to 1.

    The gradient at 0 is `slope`, as in PyTorch.
    """
    return jnp.maximum(x, jnp.asarray(slope, x.dtype) * x)


def _leaky_relu_forward(x: jax.Array, slope: float) -> tuple[jax.Array, jax.Array]:
    y = leaky_relu(x, slope)
    return y, y  # y has the sign of x, so x need not be stored


def leaky_relu_backward(slope: float, y: jax.Array, gradient: jax.Array) -> jax.Array:
    """Returns the gradient with respect to x, given y = leaky_relu(x) and the gradient of y."""
    return jnp.where(y > 0, gradient, jnp.asarray(slope, gradient.dtype) * gradient)


def _leaky_relu_backward(slope: float, y: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    return (leaky_relu_backward(slope, y, gradient),)


leaky_relu.defvjp(_leaky_relu_forward, _leaky_relu_backward)


@jax.custom_vjp
def gated_tanh(filtered: jax.Array, gate: jax.Array) -> jax.Array:
    """Returns tanh(filtered) * sigmoid(gate), for two arrays of one shape."""
    return jnp.tanh(filtered) * jax.nn.sigmoid(gate)


def _gated_tanh_forward(
    filtered: jax.Array, gate: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    tanh = jnp.tanh(filtered)
    sigmoid = jax.nn.sigmoid(gate)
    return tanh * sigmoid, (tanh, sigmoid)


def gated_tanh_backward(
    residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the gradients with respect to `filtered` and `gate`.

    residuals: tanh(filtered) and sigmoid(gate).
    """
    tanh, sigmoid = residuals
    filtered_gradient = gradient * sigmoid * (1 - tanh * tanh)
    gate_gradient = gradient * tanh * sigmoid * (1 - sigmoid)
    return filtered_gradient, gate_gradient


gated_tanh.defvjp(_gated_tanh_forward, gated_tanh_backward)


@jax.custom_vjp
def apply_mask(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns x * mask. The mask is a constant: it gets no gradient."""
    return x * mask


def _apply_mask_forward(x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x * mask, mask


def _apply_mask_backward(mask: jax.Array, gradient: jax.Array) -> tuple[jax.Array, None]:
    return gradient * mask, None


apply_mask.defvjp(_apply_mask_forward, _apply_mask_backward)


@jax.custom_vjp
def attention_weights(scores: jax.Array, allowed: jax.Array) -> jax.Array:
    """Returns the softmax of scores [..., queries, keys] over the allowed keys, in float32.

    A query without an allowed key attends to all keys equally. Its result must not be used: the
    gradient is not defined there.
    """
    masked_scores = jnp.where(allowed, scores.astype(jnp.float32), -1e4)
    return jax.nn.softmax(masked_scores, axis=-1).astype(scores.dtype)


def _attention_weights_forward(
    scores: jax.Array, allowed: jax.Array
) -> tuple[jax.Array, jax.Array]:
    weights = attention_weights(scores, allowed)
    return weights, weights


def _attention_weights_backward(
    weights: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, None]:
    wide = weights.astype(jnp.float32)
    gradient = gradient.astype(jnp.float32)
    mean = jnp.sum(wide * gradient, axis=-1, keepdims=True)
    return (wide * (gradient - mean)).astype(weights.dtype), None


attention_weights.defvjp(_attention_weights_forward, _attention_weights_backward)


_EPSILON = 1e-5


@jax.custom_vjp
def layer_norm(x: jax.Array, gamma: jax.Array, beta: jax.Array) -> jax.Array:
    """Normalizes over the last axis, with epsilon 1e-5, in float32.

    Forward and backward pass take both of their sums in one pass over the data.
    """
    return _layer_norm_forward(x, gamma, beta)[0]


def _layer_norm_forward(
    x: jax.Array, gamma: jax.Array, beta: jax.Array
) -> tuple[jax.Array, tuple]:
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, axis=-1, keepdims=True)
    square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    variance = jnp.maximum(square - jnp.square(mean), 0.0)
    inverse = jax.lax.rsqrt(variance + _EPSILON)
    y = (wide - mean) * (inverse * gamma) + beta
    return y.astype(x.dtype), (x, mean, inverse, gamma)


def _layer_norm_backward(
    residuals: tuple, gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, mean, inverse, gamma = residuals
    gradient = gradient.astype(jnp.float32)
    normal = (x.astype(jnp.float32) - mean) * inverse
    scaled = gradient * gamma
    along = jnp.mean(scaled * normal, axis=-1, keepdims=True)
    mean_gradient = jnp.mean(scaled, axis=-1, keepdims=True)
    x_gradient = inverse * (scaled - mean_gradient - normal * along)
    x_gradient = x_gradient.astype(x.dtype)
    axes = tuple(range(x.ndim - 1))
    gamma_gradient = jnp.sum(gradient * normal, axes)
    beta_gradient = jnp.sum(gradient, axes)
    return x_gradient, gamma_gradient, beta_gradient


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)
