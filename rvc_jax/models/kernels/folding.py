"""Folded signals: time steps side by side as channels.

Where a signal has few channels, a matrix unit that takes 128 at once is mostly empty. `factor`
neighboring time steps laid side by side fill it: [batch, time, channels] is read as
[batch, time / factor, factor * channels], which moves nothing in memory. The kernel that does the
same to a folded signal is made from the ordinary one, so parameters and gradients stay the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax

from rvc_jax.models.kernels import convolution, layer
from rvc_jax.models.kernels.activations import leaky_relu
from rvc_jax.models.kernels.layer import ConvLayer


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Signal:
    """A signal [batch, time, channels] that may be folded."""

    values: jax.Array
    """[batch, time / factor, factor * channels]."""
    channels: int = dataclasses.field(metadata={"static": True})

    @property
    def factor(self) -> int:
        """Time steps that lie side by side."""
        return self.values.shape[2] // self.channels

    @property
    def time(self) -> int:
        """Time steps in all."""
        return self.values.shape[1] * self.factor

    def __add__(self, other: Signal) -> Signal:
        return Signal(self.values + other.values, self.channels)

    def map(self, function: Callable[[jax.Array], jax.Array]) -> Signal:
        """Applies an elementwise function."""
        return Signal(function(self.values), self.channels)

    def fold(self, factor: int) -> Signal:
        """Folds by another factor; 1 unfolds."""
        return Signal(convolution.fold(self.values, self.channels, factor), self.channels)


class UpsamplingLayer(Protocol):
    """What `upsample` needs of a `models.layers.ConvTranspose`."""

    outputs: int

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, time, in] -> [batch, time * stride, out]."""
        ...

    def apply_folded(self, x: jax.Array, factor: int) -> jax.Array:
        """[batch, time / factor, factor * in] -> [batch, time / factor, factor * stride * out]."""
        ...


def conv(conv_layer: ConvLayer, x: Signal) -> Signal:
    """Returns layer(x), for a layer without stride. The signal stays folded as it is."""
    if x.factor == 1:
        y = layer.add_bias(conv_layer, layer.convolve(conv_layer, x.values))
    else:
        y = folded_conv(conv_layer, x.values, x.factor)
    return Signal(y, conv_layer.outputs)


def conv_leaky_relu(conv_layer: ConvLayer, x: Signal, slope: float) -> Signal:
    """Returns leaky_relu(layer(x), slope), for a layer without stride."""
    if x.factor == 1:
        y = layer.conv_leaky_relu(conv_layer, x.values, slope)
    else:
        y = leaky_relu(folded_conv(conv_layer, x.values, x.factor), slope)
    return Signal(y, conv_layer.outputs)


def strided_conv_leaky_relu(conv_layer: ConvLayer, x: Signal, slope: float) -> Signal:
    """Returns leaky_relu(layer(x), slope), folded if that pays.

    It does where the layer has few input channels and its time divides. Groups with enough outputs
    stay as they are: folded they would be one dense kernel, mostly zeros.
    """
    fold_to = conv_layer.kernels.fold_to
    factor = max(fold_to // conv_layer.outputs, 1)
    is_wide = conv_layer.inputs >= fold_to or (conv_layer.groups > 1 and factor == 1)
    if is_wide or x.time % (factor * conv_layer.stride):
        y = layer.conv_leaky_relu(conv_layer, x.fold(1).values, slope)
    else:
        folded = x.fold(factor * conv_layer.stride)
        y = leaky_relu(folded_conv(conv_layer, folded.values, factor), slope)
    return Signal(y, conv_layer.outputs)


def upsample(up: UpsamplingLayer, x: Signal, fold_to: int) -> Signal:
    """Returns up(x), folded into up to `fold_to` channels."""
    values = up(x.values) if x.factor == 1 else up.apply_folded(x.values, x.factor)
    y = Signal(values, up.outputs)
    factor = max(fold_to // y.channels, 1)
    while y.time % factor:
        factor -= 1
    return y.fold(factor)


def downsample_source(
    conv_layer: ConvLayer, source: jax.Array, factor: int, fold_to: int
) -> Signal:
    """Brings the source [batch, samples, 1] to a stage's rate, folded by the stage's factor."""

    def downsample(source: jax.Array) -> jax.Array:
        if factor * conv_layer.stride == 1 or not fold_to:
            return layer.add_bias(conv_layer, layer.convolve(conv_layer, source))
        folded = convolution.fold(source, 1, factor * conv_layer.stride)
        return folded_conv(conv_layer, folded, factor)

    # The backward pass folds the source again, once for all stages, instead of storing it.
    values = jax.checkpoint(downsample, prevent_cse=False)(source)
    return Signal(values, conv_layer.outputs)


def folded_conv(conv_layer: ConvLayer, x: jax.Array, factor: int) -> jax.Array:
    """Returns the folded layer(x), if the output has exactly time / stride time steps.

    x [batch, time / (factor * stride), factor * stride * in]
    -> [batch, time / (factor * stride), factor * out].
    """
    y = convolution.folded_conv(
        x,
        layer.make_kernel(conv_layer, x.dtype),
        factor,
        conv_layer.stride,
        conv_layer.padding,
        conv_layer.dilation,
        conv_layer.groups,
    )
    return layer.add_bias(conv_layer, y, factor)
