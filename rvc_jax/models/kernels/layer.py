"""Convolution layers fused with what surrounds them: weight norm, bias, activation.

The functions take a layer with its parameters in place (`models.layers.Conv`) and its input.
"""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from rvc_jax.models.kernels import convolution
from rvc_jax.models.kernels.activations import gated_tanh, leaky_relu
from rvc_jax.models.kernels.options import KernelConfig
from rvc_jax.models.kernels.weight_norm import (
    KnownNorm,
    Norm,
    multiply_by_probe,
    probed_gated_tanh,
    probed_leaky_relu,
)


class ConvLayer(Protocol):
    """What the functions here need of a `models.layers.Conv`."""

    inputs: int
    outputs: int
    stride: int
    padding: int
    dilation: int
    groups: int
    kernels: KernelConfig
    bias: Any

    def read_weight(self) -> tuple[jax.Array, Norm]:
        """Returns the kernel's direction and its norm."""
        ...


def convolve(layer: ConvLayer, x: jax.Array) -> jax.Array:
    """Convolves, without bias: x [batch, time, in] -> [batch, time', out]."""
    y, probe = _convolve_with_probe(layer, x)
    return y if probe is None else multiply_by_probe(y, probe)


def add_bias(layer: ConvLayer, y: jax.Array, factor: int = 1) -> jax.Array:
    """Adds the bias, if there is one, to a signal with `factor` time steps side by side."""
    if layer.bias is None:
        return y
    return y + jnp.tile(layer.bias[...].astype(y.dtype), factor)


def conv_leaky_relu(layer: ConvLayer, x: jax.Array, slope: float) -> jax.Array:
    """Returns leaky_relu(layer(x), slope)."""
    y, probe = _convolve_with_probe(layer, x)
    if probe is None:
        return leaky_relu(add_bias(layer, y), slope)
    return probed_leaky_relu(y, probe, layer.bias[...], slope)


def conv_gated_tanh(layer: ConvLayer, x: jax.Array, condition: jax.Array) -> jax.Array:
    """Returns `gated_tanh` of both halves of layer(x) + condition, for [batch, 1, out]."""
    shift = layer.bias[...].astype(x.dtype) + condition
    direction, norm = layer.read_weight()
    if isinstance(norm, KnownNorm) and norm.has_probe(direction):

        def conv(
            x: jax.Array, direction: jax.Array, norm: KnownNorm
        ) -> tuple[jax.Array, jax.Array | None]:
            return _convolve_weight(layer, x, direction, norm)

        return probed_gated_tanh(conv, x, direction, norm, shift)
    y, _ = _convolve_with_probe(layer, x)
    return gated_tanh(*jnp.split(y + shift, 2, axis=-1))


def conv_halves(layer: ConvLayer, x: jax.Array) -> list[jax.Array]:
    """Returns the two halves of layer(x)'s channels.

    Each half has its own convolution, which XLA can fuse with what is added to it.
    """
    kernels = jnp.split(make_kernel(layer, x.dtype), 2, axis=-1)
    biases = jnp.split(layer.bias[...].astype(x.dtype), 2, axis=-1)
    return [
        _convolve_kernel(layer, x, kernel) + bias
        for kernel, bias in zip(kernels, biases, strict=True)
    ]


def make_kernel(layer: ConvLayer, dtype: jnp.dtype) -> jax.Array:
    """Returns the layer's kernel [width, in / groups, out]."""
    direction, norm = layer.read_weight()
    return norm.make_kernel(direction).astype(dtype)


def _convolve_with_probe(layer: ConvLayer, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """Returns the convolution without bias, and the kernel's probe (`kernels.weight_norm`)."""

    def convolve_weight(
        x: jax.Array, direction: jax.Array, norm: Norm
    ) -> tuple[jax.Array, jax.Array | None]:
        return _convolve_weight(layer, x, direction, norm)

    direction, norm = layer.read_weight()
    if x.dtype != direction.dtype:
        # A rounded kernel is made again in the backward pass, fused into the convolution that
        # multiplies by it, instead of being stored.
        convolve_weight = jax.checkpoint(convolve_weight, prevent_cse=False)
    return convolve_weight(x, direction, norm)


def _convolve_weight(
    layer: ConvLayer, x: jax.Array, direction: jax.Array, norm: Norm
) -> tuple[jax.Array, jax.Array | None]:
    kernel, probe = norm.make_kernel_and_probe(direction)
    return _convolve_kernel(layer, x, kernel.astype(x.dtype)), probe


def _convolve_kernel(layer: ConvLayer, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return convolution.conv(
        x, kernel, layer.stride, layer.padding, layer.dilation, layer.groups, layer.kernels
    )
