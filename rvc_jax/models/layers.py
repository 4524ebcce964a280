"""Layers shared by the networks.

Features are [batch, time, channels]. Each layer computes in its input's dtype. `models.kernels`
has the implementations that are fast on the different chips.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from rvc_jax.models.kernels import convolution, scan
from rvc_jax.models.kernels.activations import apply_mask, layer_norm
from rvc_jax.models.kernels.layer import add_bias, conv_gated_tanh, conv_halves, convolve
from rvc_jax.models.kernels.options import REFERENCE, KernelConfig
from rvc_jax.models.kernels.weight_norm import AppliedNorm, Norm, multiply_by_probe
from rvc_jax.models.parameters import (
    Constant,
    Initializer,
    Normal,
    declare_parameter,
    fan_in_uniform,
)

KERNEL_AXES = (2, 1, 0)
"""From our kernels [width, in, out] to the public ones [out, in, width]."""


class Conv(nnx.Module):
    """1-D convolution, optionally weight-normed: [batch, time, in] -> [batch, time', out]."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = True,
        normed: bool = False,
        init: Initializer | None = None,
        public_trailing: int = 0,
        kernels: KernelConfig = REFERENCE,
    ):
        """Declares the parameters.

        kernel: number of taps. padding: zeros on either side, by default those that keep the
        length at stride 1. public_trailing: unit axes at the end of the public kernel.
        """
        self.inputs = inputs
        self.outputs = outputs
        self.stride = stride
        self.dilation = dilation
        self.groups = groups
        self.padding = (kernel - 1) * dilation // 2 if padding is None else padding
        self.normed = normed
        self.kernels = kernels
        default = fan_in_uniform(kernel * inputs // groups)
        weight_init = init or default
        bias_init = Constant(0.0) if init else default
        shape = (kernel, inputs // groups, outputs)
        if normed:
            norm_shape = (1, 1, outputs)
            self.weight_g = declare_parameter(
                norm_shape, Constant(1.0), KERNEL_AXES, public_trailing
            )
            self.weight_v = declare_parameter(shape, weight_init, KERNEL_AXES, public_trailing)
        else:
            self.weight = declare_parameter(shape, weight_init, KERNEL_AXES, public_trailing)
        self.bias = declare_parameter((outputs,), bias_init, (0,)) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """x [batch, time, in] -> [batch, time', out]."""
        return add_bias(self, convolve(self, x))

    def read_weight(self) -> tuple[jax.Array, Norm]:
        """Returns the kernel's direction [width, in / groups, out] and its norm."""
        if self.normed:
            return self.weight_v[...], self.weight_g.get_value()
        return self.weight[...], AppliedNorm()


class ConvTranspose(nnx.Module):
    """Weight-normed transposed convolution: [batch, time, in] -> [batch, time * stride, out].

    Equals PyTorch's with padding (kernel - stride) / 2, rounded up, and for odd differences an
    output padding of 1. The norm is taken per *input* channel, as
    PyTorch's is.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        init: Initializer,
        kernels: KernelConfig = REFERENCE,
    ):
        """Declares the parameters. kernel: number of taps."""
        self.outputs = outputs
        self.stride = stride
        self.form = kernels.upsampling
        self.weight_g = declare_parameter((1, 1, inputs), Constant(1.0), KERNEL_AXES)
        self.weight_v = declare_parameter((kernel, outputs, inputs), init, KERNEL_AXES)
        self.bias = declare_parameter((outputs,), fan_in_uniform(kernel * outputs), (0,))

    def __call__(self, x: jax.Array) -> jax.Array:
        """x [batch, time, in] -> [batch, time * stride, out]."""
        norm: Norm = self.weight_g.get_value()
        kernel, probe = norm.make_kernel_and_probe(self.weight_v[...])
        if probe is not None:
            x = multiply_by_probe(x, probe)
        y = convolution.conv_transpose(x, kernel.astype(x.dtype), self.stride, self.form)
        return y + self.bias[...].astype(x.dtype)

    def apply_folded(self, x: jax.Array, factor: int) -> jax.Array:
        """x [batch, time / factor, factor * in] -> [batch, time / factor, factor * stride * out].

        See `kernels.folding`.
        """
        norm: Norm = self.weight_g.get_value()
        kernel = norm.make_kernel(self.weight_v[...]).astype(x.dtype)
        y = convolution.folded_conv_transpose(x, kernel, self.stride, factor)
        return y + jnp.tile(self.bias[...].astype(x.dtype), factor * self.stride)


class Linear(nnx.Module):
    """Affine map of the last axis: [..., in] -> [..., out]."""

    def __init__(self, inputs: int, outputs: int, init: Initializer | None = None):
        default = fan_in_uniform(inputs)
        bias_init = Constant(0.0) if init else default
        self.weight = declare_parameter((inputs, outputs), init or default, (1, 0))
        self.bias = declare_parameter((outputs,), bias_init, (0,))

    def __call__(self, x: jax.Array) -> jax.Array:
        """x [..., in] -> [..., out]."""
        return x @ self.weight[...].astype(x.dtype) + self.bias[...].astype(x.dtype)


class Embedding(nnx.Module):
    """Lookup table: integers [...] -> float32 [..., channels]."""

    def __init__(self, count: int, channels: int):
        self.weight = declare_parameter((count, channels), Normal(1.0), (0, 1))

    def __call__(self, index: jax.Array) -> jax.Array:
        """index [...] -> float32 [..., channels]."""
        return jnp.take(self.weight[...], index, axis=0)


class LayerNorm(nnx.Module):
    """Layer normalization over the channels, with epsilon 1e-5, computed in float32.

    Parameters are named as in VITS.
    """

    def __init__(self, channels: int):
        self.gamma = declare_parameter((channels,), Constant(1.0), (0,))
        self.beta = declare_parameter((channels,), Constant(0.0), (0,))

    def __call__(self, x: jax.Array) -> jax.Array:
        """x and result [..., channels]."""
        return layer_norm(x, self.gamma[...], self.beta[...])


class WaveNet(nnx.Module):
    """Gated residual convolutions conditioned on the speaker.

    `WN` of VITS (arXiv 2106.06103), after WaveNet (arXiv 1609.03499).
    """

    def __init__(
        self,
        channels: int,
        kernel: int,
        layers: int,
        speaker_channels: int,
        kernels: KernelConfig = REFERENCE,
    ):
        """Declares the layers. kernel: number of taps."""
        self.channels = channels
        self.scan = kernels.scan
        self.cond_layer = Conv(speaker_channels, 2 * channels * layers, 1, normed=True)
        self.in_layers = nnx.List()
        self.res_skip_layers = nnx.List()
        for layer in range(layers):
            # The last layer has no residual, as nothing follows it.
            outputs = channels if layer == layers - 1 else 2 * channels
            self.in_layers.append(
                Conv(channels, 2 * channels, kernel, normed=True, kernels=kernels)
            )
            self.res_skip_layers.append(Conv(channels, outputs, 1, normed=True))

    def __call__(self, x: jax.Array, mask: jax.Array, speaker: jax.Array) -> jax.Array:
        """x and result [batch, time, channels], mask [batch, time, 1], speaker [batch, 1, any]."""
        conditions = jnp.split(self.cond_layer(speaker), len(self.in_layers), axis=-1)
        if self.scan:
            return scan.scan_wavenet(self.in_layers, self.res_skip_layers, x, mask, conditions)
        output = jnp.zeros_like(x)
        layers = zip(self.in_layers, self.res_skip_layers, conditions, strict=True)
        for in_layer, res_skip, condition in layers:
            y = conv_gated_tanh(in_layer, x, condition)
            if res_skip.outputs > self.channels:
                residual, skip = conv_halves(res_skip, y)
                x = apply_mask(x + residual, mask)
            else:
                skip = res_skip(y)
            output = output + skip
        return apply_mask(output, mask)


def sequence_mask(lengths: jax.Array, frames: int, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Returns [batch, frames, 1]: ones for the first `lengths` [batch] frames, then zeros."""
    return (jnp.arange(frames)[None, :] < lengths[:, None])[..., None].astype(dtype)
