"""Weight normalisation (arXiv 1602.07868), also with norms that are known beforehand.

A training step that has its kernels' norms from the last one's update need not pass over the
kernels for them. Nor over their gradients: the gradient by a kernel's own norm, by definition a sum
over the gradient by the kernel, is by the chain rule also the gradient by a factor of what the
kernel gives (or is given): a sum over signals, which a pass over them takes along. Such a factor is
always one, and called a probe here. So the gradient by a large kernel is summed over by nobody, and
goes straight into the kernel's update while the convolution makes it: it is never written, and the
optimiser's numbers are brought in while the matrix unit works.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rvc_jax.models.kernels.activations import (
    gated_tanh,
    gated_tanh_backward,
    leaky_relu,
    leaky_relu_backward,
)

LARGE_KERNEL = 300_000
"""Elements of a kernel that is worth a sum over signals instead, and stays alone when parameters
are packed: taking it out of many would cost more than the operations that are saved."""


def is_large(elements: int) -> bool:
    return elements >= LARGE_KERNEL


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KnownNorm:
    """The norms [..., 1, 1, b] that kernels are to have, and the squared ones [..., b] of their
    directions, known."""

    norm: jax.Array
    square: jax.Array

    @property
    def inverse(self) -> jax.Array:
        """One by the norm of the direction [..., 1, 1, b]."""
        return jax.lax.rsqrt(self.square)[..., None, None, :]


def norm_name(name: str) -> str:
    """Name of a kernel's norm, from that of its direction."""
    return name.removesuffix("weight_v") + "weight_g"


def squared_norm(direction: jax.Array) -> jax.Array:
    """Of kernels [..., kernel, a, b] -> [..., b]."""
    return jnp.sum(jnp.square(direction), axis=(-3, -2))


def weight_norm(direction: jax.Array, scale: jax.Array | KnownNorm | None) -> jax.Array:
    """Kernels of direction `direction` [..., kernel, a, b] and norm `scale` [..., 1, 1, b], or made
    already (None)."""
    if scale is None:
        return direction
    if isinstance(scale, KnownNorm):
        return _weight_norm(direction, scale)
    return direction * (scale / jnp.sqrt(squared_norm(direction))[..., None, None, :])


@jax.custom_vjp
def _weight_norm(direction: jax.Array, scale: KnownNorm) -> jax.Array:
    """The gradient is that of the whole, as if the norm were taken here."""
    return direction * (scale.norm * scale.inverse)


def _weight_norm_backward(
    kept: tuple[jax.Array, KnownNorm], gradient: jax.Array
) -> tuple[jax.Array, KnownNorm]:
    direction, scale = kept
    along = jnp.sum(gradient * direction, axis=(-3, -2), keepdims=True)
    return _by_direction_and_norm(direction, scale, gradient, scale.inverse * along)


def _by_direction_and_norm(
    direction: jax.Array, scale: KnownNorm, gradient: jax.Array, by_norm: jax.Array
) -> tuple[jax.Array, KnownNorm]:
    by_direction = (
        scale.norm * scale.inverse * (gradient - direction * (scale.inverse * by_norm))
    )
    return by_direction, KnownNorm(by_norm, jnp.zeros_like(scale.square))


_weight_norm.defvjp(
    lambda direction, scale: (_weight_norm(direction, scale), (direction, scale)),
    _weight_norm_backward,
)


def has_probe(direction: jax.Array, scale: jax.Array | KnownNorm | None) -> bool:
    """Whether a kernel has a probe: it is large, and its norm is known."""
    return isinstance(scale, KnownNorm) and is_large(direction.size)


def probed_kernel(
    direction: jax.Array, scale: jax.Array | KnownNorm | None
) -> tuple[jax.Array, jax.Array | None]:
    """`weight_norm` of one kernel [kernel, a, b], and its probe [b] if its norm is known.

    What the kernel gives, or what a transposed convolution is given, has to pass through one of the
    functions below with the probe.
    """
    if has_probe(direction, scale):
        return _probed_weight_norm(direction, scale)
    return weight_norm(direction, scale), None


@jax.custom_vjp
def _probed_weight_norm(direction: jax.Array, scale: KnownNorm) -> tuple[jax.Array, jax.Array]:
    """A kernel whose norm is 0 learns nothing of what norm it should have."""
    return _weight_norm(direction, scale), jnp.ones(direction.shape[-1:], direction.dtype)


def _probed_backward(
    kept: tuple[jax.Array, KnownNorm], gradients: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, KnownNorm]:
    direction, scale = kept
    gradient, by_probe = gradients
    by_norm = jnp.where(scale.norm == 0, 0.0, by_probe / scale.norm)
    return _by_direction_and_norm(direction, scale, gradient, by_norm)


_probed_weight_norm.defvjp(
    lambda direction, scale: (_probed_weight_norm(direction, scale), (direction, scale)),
    _probed_backward,
)


def _along(gradient: jax.Array, x: jax.Array) -> jax.Array:
    """The gradient by a factor of x [batch, time, channels] -> [channels], float32."""
    return jnp.sum(gradient.astype(jnp.float32) * x.astype(jnp.float32), axis=(0, 1))


@jax.custom_vjp
def probed(x: jax.Array, probe: jax.Array) -> jax.Array:
    """x * probe."""
    return x


probed.defvjp(lambda x, probe: (x, x), lambda x, gradient: (gradient, _along(gradient, x)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def probed_leaky_relu(
    x: jax.Array, probe: jax.Array, bias: jax.Array, slope: float
) -> jax.Array:
    """leaky_relu(x * probe + bias), of which nothing but itself is kept for the gradient."""
    return leaky_relu(x + bias.astype(x.dtype), slope)


def _leaky_relu_backward(
    slope: float, kept: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    y, bias = kept
    by_x = leaky_relu_backward(slope, y, gradient)
    by_bias = jnp.sum(by_x.astype(jnp.float32), axis=(0, 1))
    # On either side of zero, gradient * y is by_x times what went in.
    return by_x, _along(gradient, y) - bias * by_bias, by_bias


def _leaky_relu_forward(
    x: jax.Array, probe: jax.Array, bias: jax.Array, slope: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = probed_leaky_relu(x, probe, bias, slope)
    return y, (y, bias)


probed_leaky_relu.defvjp(_leaky_relu_forward, _leaky_relu_backward)


Convolution = Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, jax.Array]]
"""(x, direction, scale) -> what the kernel gives, and its probe."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def probed_gate(
    conv: Convolution, x: jax.Array, direction: jax.Array, scale: KnownNorm, shift: jax.Array
) -> jax.Array:
    """`gated` of both halves of what a convolution gives, and shift [batch, 1, channels].

    Forwards, a convolution for each half, of which the second takes the gate along: channels that
    are no multiple of 128 are slowly taken apart on a TPU. The gradient is that of the whole.
    """
    return _gate_forward(conv, x, direction, scale, shift)[0]


def _gate_forward(
    conv: Convolution, x: jax.Array, direction: jax.Array, scale: KnownNorm, shift: jax.Array
) -> tuple[jax.Array, tuple]:
    half = shift.shape[-1] // 2

    def of_part(part: slice) -> jax.Array:
        *parameters, by = jax.tree.map(
            lambda array: array[..., part], (direction, scale, shift)
        )
        return conv(x, *parameters)[0] + by

    halves = [of_part(slice(half)), of_part(slice(half, None))]
    return gated_tanh(*halves), (x, direction, scale, shift, halves)


def _gate_backward(conv: Convolution, kept: tuple, gradient: jax.Array) -> tuple:
    x, direction, scale, shift, halves = kept
    by_halves = gated_tanh_backward((jnp.tanh(halves[0]), jax.nn.sigmoid(halves[1])), gradient)
    by_shift = jnp.concatenate(
        [jnp.sum(by.astype(jnp.float32), 1, keepdims=True) for by in by_halves], axis=-1
    )
    along = jnp.concatenate(
        [_along(by, half) for by, half in zip(by_halves, halves, strict=True)]
    )
    _, pull = jax.vjp(conv, x, direction, scale)
    by_given = pull((jnp.concatenate(by_halves, axis=-1), along - _along(by_shift, shift)))
    return *by_given, by_shift.astype(shift.dtype)


probed_gate.defvjp(_gate_forward, _gate_backward)
