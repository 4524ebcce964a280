"""Activations that keep little for their gradient: what is the input of the next layer anyway, or
next to nothing.

JAX's own keep masks and float32 intermediates, one array each, which a TPU's step spends its time
writing and reading.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def leaky_relu(x: jax.Array, slope: float) -> jax.Array:
    """x where it is positive, slope * x elsewhere, for slopes up to 1; of a slope of 0, the
    gradient at 0 is 0."""
    return jnp.maximum(x, jnp.asarray(slope, x.dtype) * x)


def _leaky_relu_forward(x: jax.Array, slope: float) -> tuple[jax.Array, jax.Array]:
    y = leaky_relu(x, slope)
    return y, y  # which has the sign of x


def leaky_relu_backward(slope: float, y: jax.Array, gradient: jax.Array) -> jax.Array:
    """Gradient by x, from y = leaky_relu(x) and the gradient by it."""
    return jnp.where(y > 0, gradient, jnp.asarray(slope, gradient.dtype) * gradient)


leaky_relu.defvjp(_leaky_relu_forward, lambda *given: (leaky_relu_backward(*given),))


@jax.custom_vjp
def gated_tanh(filtered: jax.Array, gate: jax.Array) -> jax.Array:
    """tanh(filtered) * sigmoid(gate), of one shape."""
    return jnp.tanh(filtered) * jax.nn.sigmoid(gate)


def _gated_forward(
    filtered: jax.Array, gate: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    filtered = jnp.tanh(filtered)
    gate = jax.nn.sigmoid(gate)
    return filtered * gate, (filtered, gate)


def gated_tanh_backward(
    kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Gradients by both halves, from their tanh and sigmoid."""
    filtered, gate = kept
    return gradient * gate * (1 - filtered * filtered), gradient * filtered * gate * (1 - gate)


gated_tanh.defvjp(_gated_forward, gated_tanh_backward)


@jax.custom_vjp
def apply_mask(x: jax.Array, mask: jax.Array) -> jax.Array:
    """x * mask, of which mask is a constant."""
    return x * mask


apply_mask.defvjp(
    lambda x, mask: (x * mask, mask), lambda mask, gradient: (gradient * mask, None)
)


@jax.custom_vjp
def attention_weights(scores: jax.Array, allowed: jax.Array) -> jax.Array:
    """Softmax over the last axis, in float32, of scores [..., queries, keys] where keys are
    allowed.

    A query that is allowed no key hears all alike, and nothing of it may be used: there the
    gradient is not defined.
    """
    return jax.nn.softmax(jnp.where(allowed, scores.astype(jnp.float32), -1e4), axis=-1).astype(
        scores.dtype
    )


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
    by_score = wide * (gradient - jnp.sum(wide * gradient, axis=-1, keepdims=True))
    return by_score.astype(weights.dtype), None


attention_weights.defvjp(_attention_weights_forward, _attention_weights_backward)


_EPSILON = 1e-5


@jax.custom_vjp
def layer_norm(x: jax.Array, gamma: jax.Array, beta: jax.Array) -> jax.Array:
    """Over the last axis, epsilon 1e-5, in float32; both sums of either direction are taken in one
    pass."""
    return _layer_norm_forward(x, gamma, beta)[0]


def _layer_norm_forward(
    x: jax.Array, gamma: jax.Array, beta: jax.Array
) -> tuple[jax.Array, tuple]:
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.maximum(
        jnp.mean(jnp.square(wide), axis=-1, keepdims=True) - jnp.square(mean), 0.0
    )
    inverse = jax.lax.rsqrt(variance + _EPSILON)
    return ((wide - mean) * (inverse * gamma) + beta).astype(x.dtype), (x, mean, inverse, gamma)


def _layer_norm_backward(
    kept: tuple, gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, mean, inverse, gamma = kept
    gradient = gradient.astype(jnp.float32)
    normal = (x.astype(jnp.float32) - mean) * inverse
    scaled = gradient * gamma
    axes = tuple(range(x.ndim - 1))
    along = jnp.mean(scaled * normal, axis=-1, keepdims=True)
    by_x = inverse * (scaled - jnp.mean(scaled, axis=-1, keepdims=True) - normal * along)
    return by_x.astype(x.dtype), jnp.sum(gradient * normal, axes), jnp.sum(gradient, axes)


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)
