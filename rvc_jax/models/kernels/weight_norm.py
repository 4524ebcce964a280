"""Weight normalization (arXiv 1602.07868), also with norms that are known beforehand.

A weight-normed kernel is `norm * direction / ||direction||`. Where the value for `norm` comes from
is one of three types with the same methods: `TargetNorm` (the usual case), `KnownNorm` (the update
of the last training step computed ||direction||^2 on its way) and `AppliedNorm` (the kernel is
finished already).

Probes: the gradient with respect to a kernel's norm is by definition a sum over the kernel's
gradient, so the large kernel gradient would have to be written to memory and read again. By the
chain rule it also equals the gradient with respect to a factor on the convolution's output (or on
the input of a transposed convolution), a sum over signals. A *probe* is such a factor, one per
output channel. Its value is always 1, so it is never multiplied, only differentiated. The kernel
gradient is then used by the optimizer update alone, so XLA fuses the two and never materializes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from rvc_jax.models.kernels.activations import (
    custom_vjp_with_static,
    gated_tanh,
    gated_tanh_backward,
    leaky_relu,
    leaky_relu_backward,
)

LARGE_KERNEL = 300_000
"""Elements from which a kernel is large: it gets a probe, and packing leaves it on its own. For
smaller ones the extra operations cost more than they save."""


def is_large(elements: int) -> bool:
    """Returns whether a kernel of that many elements is large."""
    return elements >= LARGE_KERNEL


def norm_name(name: str) -> str:
    """Returns the name of a kernel's norm (`weight_g`), given its direction's (`weight_v`)."""
    return name.removesuffix("weight_v") + "weight_g"


def squared_norm(direction: jax.Array) -> jax.Array:
    """Returns the squared norm per channel: kernels [..., width, a, b] -> [..., b]."""
    return jnp.sum(jnp.square(direction), axis=(-3, -2))


def squared_norms(parameters: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Returns the squared norms of all directions, under the names of the kernels' norms.

    The parameters may be packed (`kernels.packing`).
    """
    directions = [name for name in parameters if name.endswith("weight_v")]
    return {norm_name(name): squared_norm(parameters[name]) for name in directions}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TargetNorm:
    """The norm [..., 1, 1, b] that kernels are to have; their directions are normalized here."""

    norm: jax.Array

    def make_kernel(self, direction: jax.Array) -> jax.Array:
        """Returns kernels with this norm: directions [..., width, a, b] -> the same shape."""
        own = jnp.sqrt(squared_norm(direction))[..., None, None, :]
        return direction * (self.norm / own)

    def has_probe(self, direction: jax.Array) -> bool:
        """Returns False: the norm's gradient needs the kernel's gradient anyway."""
        return False

    def make_kernel_and_probe(self, direction: jax.Array) -> tuple[jax.Array, None]:
        """Returns the kernel and no probe."""
        return self.make_kernel(direction), None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KnownNorm:
    """A norm [..., 1, 1, b] together with the squared norm [..., b] of the directions."""

    norm: jax.Array
    square: jax.Array

    @property
    def inverse(self) -> jax.Array:
        """1 / ||direction||, [..., 1, 1, b]."""
        return jax.lax.rsqrt(self.square)[..., None, None, :]

    def make_kernel(self, direction: jax.Array) -> jax.Array:
        """Returns kernels with this norm, without a pass over their directions for it."""
        return _normalize(direction, self)

    def has_probe(self, direction: jax.Array) -> bool:
        """Returns whether the kernel is large enough for a probe to pay."""
        return is_large(direction.size)

    def make_kernel_and_probe(self, direction: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Returns one kernel [width, a, b] and, if it is large, its probe [b].

        The convolution's output (the input of a transposed convolution) has to pass through
        `multiply_by_probe`, `probed_leaky_relu` or `probed_gated_tanh` with the probe.
        """
        if self.has_probe(direction):
            return normalize_with_probe(direction, self)
        return self.make_kernel(direction), None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AppliedNorm:
    """Marks a kernel that needs no norm: it has none, or has it already."""

    def make_kernel(self, direction: jax.Array) -> jax.Array:
        """Returns the kernel as it is."""
        return direction

    def has_probe(self, direction: jax.Array) -> bool:
        """Returns False: there is no norm to find the gradient of."""
        return False

    def make_kernel_and_probe(self, direction: jax.Array) -> tuple[jax.Array, None]:
        """Returns the kernel as it is and no probe."""
        return direction, None


Norm = TargetNorm | KnownNorm | AppliedNorm
Parameters = dict[str, Any]
"""Arrays by name, as checkpoints have them."""
Weights = dict[str, Any]
"""Parameters by name as the modules compute with them: each `weight_g` is a `Norm`, all else
arrays."""


def bind_norms(
    parameters: Mapping[str, Any], squares: Mapping[str, jax.Array] | None = None
) -> Weights:
    """Returns the parameters with their `weight_g` arrays as norms.

    squares: squared norms of the directions by the name of the norm (`squared_norms`), where they
      are known.
    """
    squares = squares or {}
    weights = dict(parameters)
    for name, value in parameters.items():
        if not name.endswith("weight_g"):
            continue
        if name in squares:
            weights[name] = KnownNorm(value, squares[name])
        else:
            weights[name] = TargetNorm(value)
    return weights


def list_probed(weights: Weights) -> list[str]:
    """Returns the names (`weight_v`) of the kernels that have a probe."""
    names = [name for name in weights if name.endswith("weight_v")]
    return [name for name in names if weights[norm_name(name)].has_probe(weights[name])]


@jax.custom_vjp
def _normalize(direction: jax.Array, norm: KnownNorm) -> jax.Array:
    # custom_vjp: the gradient must be that of the whole, as if ||direction|| were computed here.
    return direction * (norm.norm * norm.inverse)


def _normalize_forward(
    direction: jax.Array, norm: KnownNorm
) -> tuple[jax.Array, tuple[jax.Array, KnownNorm]]:
    return _normalize(direction, norm), (direction, norm)


def _normalize_backward(
    residuals: tuple[jax.Array, KnownNorm], gradient: jax.Array
) -> tuple[jax.Array, KnownNorm]:
    direction, norm = residuals
    along = jnp.sum(gradient * direction, axis=(-3, -2), keepdims=True)
    return _direction_and_norm_gradients(direction, norm, gradient, norm.inverse * along)


def _direction_and_norm_gradients(
    direction: jax.Array, norm: KnownNorm, gradient: jax.Array, norm_gradient: jax.Array
) -> tuple[jax.Array, KnownNorm]:
    scale = norm.norm * norm.inverse
    tangential = gradient - direction * (norm.inverse * norm_gradient)
    return scale * tangential, KnownNorm(norm_gradient, jnp.zeros_like(norm.square))


_normalize.defvjp(_normalize_forward, _normalize_backward)


@jax.custom_vjp
def normalize_with_probe(direction: jax.Array, norm: KnownNorm) -> tuple[jax.Array, jax.Array]:
    """Returns a kernel [width, a, b] and its probe [b].

    A norm of exactly 0 gets no gradient.
    """
    return _normalize(direction, norm), jnp.ones(direction.shape[-1:], direction.dtype)


def _normalize_with_probe_forward(
    direction: jax.Array, norm: KnownNorm
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, KnownNorm]]:
    return normalize_with_probe(direction, norm), (direction, norm)


def _normalize_with_probe_backward(
    residuals: tuple[jax.Array, KnownNorm], gradients: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, KnownNorm]:
    direction, norm = residuals
    gradient, probe_gradient = gradients
    norm_gradient = jnp.where(norm.norm == 0, 0.0, probe_gradient / norm.norm)
    return _direction_and_norm_gradients(direction, norm, gradient, norm_gradient)


normalize_with_probe.defvjp(_normalize_with_probe_forward, _normalize_with_probe_backward)


def _sum_product(gradient: jax.Array, x: jax.Array) -> jax.Array:
    """Gradient w.r.t. a factor per channel of x [batch, time, channels] -> [channels], float32."""
    return jnp.sum(gradient.astype(jnp.float32) * x.astype(jnp.float32), axis=(0, 1))


@jax.custom_vjp
def multiply_by_probe(x: jax.Array, probe: jax.Array) -> jax.Array:
    """Returns x * probe, for x [batch, time, channels]."""
    return x


def _multiply_by_probe_forward(x: jax.Array, probe: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x, x


def _multiply_by_probe_backward(
    x: jax.Array, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return gradient, _sum_product(gradient, x)


multiply_by_probe.defvjp(_multiply_by_probe_forward, _multiply_by_probe_backward)


@custom_vjp_with_static(3)
def probed_leaky_relu(
    x: jax.Array, probe: jax.Array, bias: jax.Array, slope: float
) -> jax.Array:
    """Returns leaky_relu(x * probe + bias); the backward pass stores the result alone."""
    return leaky_relu(x + bias.astype(x.dtype), slope)


def _probed_leaky_relu_forward(
    x: jax.Array, probe: jax.Array, bias: jax.Array, slope: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = probed_leaky_relu(x, probe, bias, slope)
    return y, (y, bias)


def _probed_leaky_relu_backward(
    slope: float, residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    y, bias = residuals
    x_gradient = leaky_relu_backward(slope, y, gradient)
    bias_gradient = jnp.sum(x_gradient.astype(jnp.float32), axis=(0, 1))
    # On either side of zero, gradient * y equals x_gradient * (x + bias). So x is not needed.
    return x_gradient, _sum_product(gradient, y) - bias * bias_gradient, bias_gradient


probed_leaky_relu.defvjp(_probed_leaky_relu_forward, _probed_leaky_relu_backward)


Convolution = Callable[[jax.Array, jax.Array, KnownNorm], tuple[jax.Array, jax.Array | None]]
"""(x, direction, norm) -> the convolution's output and the kernel's probe."""


@custom_vjp_with_static(0)
def probed_gated_tanh(
    conv: Convolution,
    x: jax.Array,
    direction: jax.Array,
    norm: KnownNorm,
    shift: jax.Array,
) -> jax.Array:
    """Returns `gated_tanh` of both halves of conv(x) + shift, for shift [batch, 1, channels].

    The forward pass has one convolution per half, so that the second one can include the gate: a
    TPU splits channels slowly where a half is not a multiple of 128. The backward pass has one
    convolution for both.
    """
    return _probed_gated_tanh_forward(conv, x, direction, norm, shift)[0]


def _probed_gated_tanh_forward(
    conv: Convolution,
    x: jax.Array,
    direction: jax.Array,
    norm: KnownNorm,
    shift: jax.Array,
) -> tuple[jax.Array, tuple]:
    half = shift.shape[-1] // 2

    def compute_half(channels: slice) -> jax.Array:
        *kernel, own_shift = jax.tree.map(
            lambda array: array[..., channels], (direction, norm, shift)
        )
        return conv(x, *kernel)[0] + own_shift

    halves = [compute_half(slice(half)), compute_half(slice(half, None))]
    return gated_tanh(*halves), (x, direction, norm, shift, halves)


def _probed_gated_tanh_backward(
    conv: Convolution, residuals: tuple, gradient: jax.Array
) -> tuple:
    x, direction, norm, shift, halves = residuals
    activations = (jnp.tanh(halves[0]), jax.nn.sigmoid(halves[1]))
    half_gradients = gated_tanh_backward(activations, gradient)
    shift_gradient = jnp.concatenate(
        [jnp.sum(half.astype(jnp.float32), 1, keepdims=True) for half in half_gradients],
        axis=-1,
    )
    along = jnp.concatenate(
        [_sum_product(*pair) for pair in zip(half_gradients, halves, strict=True)]
    )
    _, backward = jax.vjp(conv, x, direction, norm)
    output_gradient = jnp.concatenate(half_gradients, axis=-1)
    # The probe multiplies the convolution's output, which is what the halves are without shift.
    probe_gradient = along - _sum_product(shift_gradient, shift)
    input_gradients = backward((output_gradient, probe_gradient))
    return *input_gradients, shift_gradient.astype(shift.dtype)


probed_gated_tanh.defvjp(_probed_gated_tanh_forward, _probed_gated_tanh_backward)
