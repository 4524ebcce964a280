"""Layers of equal shape in a `lax.scan` over their stacked parameters: much less to compile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rvc_jax.models.kernels import convolution
from rvc_jax.models.kernels.activations import apply_mask, gated_tanh
from rvc_jax.models.kernels.layer import ConvLayer, make_kernel


def scan_layers(
    apply: Callable[[Any, jax.Array], jax.Array],
    layers: Iterable[tuple[nnx.Module, ...]],
    x: jax.Array,
) -> jax.Array:
    """Returns apply(layer, ...apply(layer, x)), for layers that are tuples of equal modules."""
    parts = [nnx.split(nnx.List(layer)) for layer in layers]
    graph = parts[0][0]
    states = [state for _, state in parts]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    def step(x: jax.Array, state: Any) -> tuple[jax.Array, None]:
        return apply(nnx.merge(graph, state), x), None

    return jax.lax.scan(step, x, stacked)[0]


def scan_wavenet(
    in_layers: Sequence[ConvLayer],
    res_skip_layers: Sequence[ConvLayer],
    x: jax.Array,
    mask: jax.Array,
    conditions: Sequence[jax.Array],
) -> jax.Array:
    """Runs the layers of `models.layers.WaveNet`, for undilated convolutions.

    The last layer has no residual half; here it is zero.
    """
    channels = x.shape[-1]
    outer = [_pad_outputs(layer, x.dtype, 2 * channels) for layer in res_skip_layers]
    weights = []
    for layer, padded, condition in zip(in_layers, outer, conditions, strict=True):
        kernel = make_kernel(layer, x.dtype)
        bias = layer.bias[...].astype(x.dtype)
        weights.append((kernel, bias, *padded, condition))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *weights)
    padding = in_layers[0].padding
    config = in_layers[0].kernels

    def step(
        carry: tuple[jax.Array, jax.Array], weights: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        x, output = carry
        kernel, bias, outer_kernel, outer_bias, condition = weights
        convolved = convolution.conv(x, kernel, 1, padding, 1, 1, config)
        filtered, gate = jnp.split(convolved + bias + condition, 2, axis=-1)
        y = gated_tanh(filtered, gate) @ outer_kernel[0] + outer_bias
        residual, skip = jnp.split(y, 2, axis=-1)
        return (apply_mask(x + residual, mask), output + skip), None

    (_, output), _ = jax.lax.scan(step, (x, jnp.zeros_like(x)), stacked)
    return apply_mask(output, mask)


def _pad_outputs(layer: ConvLayer, dtype: jnp.dtype, width: int) -> tuple[jax.Array, jax.Array]:
    """Returns kernel and bias with zero outputs in front, `width` outputs in all."""
    missing = width - layer.outputs
    kernel = make_kernel(layer, dtype)
    bias = layer.bias[...].astype(dtype)
    return jnp.pad(kernel, ((0, 0), (0, 0), (missing, 0))), jnp.pad(bias, (missing, 0))
