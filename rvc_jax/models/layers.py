"""Layers shared by the networks. Features are [batch, time, channels]; each layer computes in its
input's dtype."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rvc_jax.config import REFERENCE, KernelConfig
from rvc_jax.models.kernels import convolution
from rvc_jax.models.kernels.activations import apply_mask, gated_tanh, layer_norm, leaky_relu
from rvc_jax.models.kernels.convolution import SectionLayout
from rvc_jax.models.kernels.weight_norm import (
    has_probe,
    probed,
    probed_gate,
    probed_kernel,
    probed_leaky_relu,
    weight_norm,
)
from rvc_jax.models.parameters import Constant, Normal, declare_parameter, fan_in_uniform

KERNEL_AXES = (2, 1, 0)


class Conv(nnx.Module):
    """1-D convolution [batch, time, in] -> [batch, time', out]; padding is the same on both
    sides."""

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
        init: object = None,
        public_trailing: int = 0,
        forms: KernelConfig = REFERENCE,
    ):
        self.inputs = inputs
        self.outputs = outputs
        self.forms = forms
        self.stride = stride
        self.dilation = dilation
        self.groups = groups
        self.normed = normed
        self.padding = (kernel - 1) * dilation // 2 if padding is None else padding
        default = fan_in_uniform(kernel * inputs // groups)
        init = init or default
        shape = (kernel, inputs // groups, outputs)
        if normed:
            self.weight_g = declare_parameter(
                (1, 1, outputs), Constant(1.0), KERNEL_AXES, public_trailing
            )
            self.weight_v = declare_parameter(shape, init, KERNEL_AXES, public_trailing)
        else:
            self.weight = declare_parameter(shape, init, KERNEL_AXES, public_trailing)
        self.bias = (
            declare_parameter((outputs,), default if init is default else Constant(0.0), (0,))
            if bias
            else None
        )

    def kernel(self, dtype: jnp.dtype) -> jax.Array:
        return weight_norm(*self._parameters).astype(dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        y, probe = self._made(x)
        return self._biased(y if probe is None else probed(y, probe), 1)

    def activated(self, x: jax.Array, slope: float) -> jax.Array:
        """`leaky_relu` of the result."""
        y, probe = self._made(x)
        return (
            leaky_relu(self._biased(y, 1), slope)
            if probe is None
            else probed_leaky_relu(y, probe, self.bias[...], slope)
        )

    def gated(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        """`gated` of the halves of the result and a condition [batch, 1, out]."""
        shift = self.bias[...].astype(x.dtype) + condition
        if has_probe(*self._parameters):
            return probed_gate(self._convolved, x, *self._parameters, shift)
        return gated_tanh(*jnp.split(self._made(x)[0] + shift, 2, axis=-1))

    def halves(self, x: jax.Array) -> list[jax.Array]:
        """The result's channels in two halves, each by a convolution of its own, which can take
        along what is added."""
        parts = (
            jnp.split(array.astype(x.dtype), 2, axis=-1)
            for array in (self.kernel(x.dtype), self.bias[...])
        )
        return [self._conv(x, kernel) + bias for kernel, bias in zip(*parts, strict=True)]

    @property
    def _parameters(self) -> tuple[jax.Array, Any]:
        """Direction and norm, or the kernel and None."""
        return (
            (self.weight_v[...], self.weight_g.get_value())
            if self.normed
            else (self.weight[...], None)
        )

    def _made(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """The result without bias, and the kernel's probe (`models.weight_norm`).

        A kernel that is rounded is made again for the gradient: while it is multiplied by, instead
        of being kept.
        """
        direction, scale = self._parameters
        is_rounded = x.dtype != direction.dtype
        convolved = (
            jax.checkpoint(self._convolved, prevent_cse=False)
            if is_rounded
            else self._convolved
        )
        return convolved(x, direction, scale)

    def _convolved(
        self, x: jax.Array, direction: jax.Array, scale: Any
    ) -> tuple[jax.Array, jax.Array | None]:
        kernel, probe = probed_kernel(direction, scale)
        return self._conv(x, kernel.astype(x.dtype)), probe

    def _conv(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolution.conv(
            x, kernel, self.stride, self.padding, self.dilation, self.groups, self.forms
        )

    def folded(self, x: jax.Array, factor: int) -> jax.Array:
        """The same for a folded signal, where the output has a `stride`-th of the input's time
        steps.

        x [batch, time / (factor * stride), factor * stride * in] -> [batch, time / (factor *
        stride), factor * out].
        """
        kernel = self.kernel(x.dtype)
        y = convolution.folded_conv(
            x, kernel, factor, self.stride, self.padding, self.dilation, self.groups
        )
        return self._biased(y, factor)

    def sectioned(self, sections: list[jax.Array], after: SectionLayout) -> list[jax.Array]:
        """The same for a signal in sections (`convolution.Layout`); it takes a stride and no
        dilation."""
        kernel = self.kernel(sections[0].dtype)
        parts = convolution.sectioned_conv(
            sections, kernel, after, self.stride, self.padding, self.groups
        )
        biases = self.bias[...].astype(kernel.dtype).reshape(-1, after.channels)
        return [
            part + jnp.tile(bias, after.factor)
            for part, bias in zip(parts, biases, strict=True)
        ]

    def _biased(self, y: jax.Array, factor: int) -> jax.Array:
        return y if self.bias is None else y + jnp.tile(self.bias[...].astype(y.dtype), factor)


class ConvTranspose(nnx.Module):
    """Weight-normed transposed convolution [batch, time, in] -> [batch, time * stride, out].

    As PyTorch's with padding (kernel - stride) / 2. The norm is taken per *input* channel, as
    PyTorch's is.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        init: object,
        forms: KernelConfig = REFERENCE,
    ):
        self.outputs = outputs
        self.stride = stride
        self.form = forms.upsampling
        self.weight_g = declare_parameter((1, 1, inputs), Constant(1.0), KERNEL_AXES)
        self.weight_v = declare_parameter((kernel, outputs, inputs), init, KERNEL_AXES)
        self.bias = declare_parameter((outputs,), fan_in_uniform(kernel * outputs), (0,))

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, probe = probed_kernel(self.weight_v[...], self.weight_g.get_value())
        x = x if probe is None else probed(x, probe)
        return convolution.conv_transpose(
            x, kernel.astype(x.dtype), self.stride, self.form
        ) + self._bias(x.dtype)

    def folded(self, x: jax.Array, factor: int) -> jax.Array:
        """x [batch, time / factor, factor * in] -> [batch, time / factor, factor * stride *
        out]."""
        y = convolution.folded_conv_transpose(x, self._kernel(x.dtype), self.stride, factor)
        return y + jnp.tile(self._bias(x.dtype), factor * self.stride)

    def _kernel(self, dtype: jnp.dtype) -> jax.Array:
        return weight_norm(self.weight_v[...], self.weight_g.get_value()).astype(dtype)

    def _bias(self, dtype: jnp.dtype) -> jax.Array:
        return self.bias[...].astype(dtype)


class Linear(nnx.Module):
    """[..., in] -> [..., out]."""

    def __init__(self, inputs: int, outputs: int, init: object = None):
        default = fan_in_uniform(inputs)
        self.weight = declare_parameter((inputs, outputs), init or default, (1, 0))
        self.bias = declare_parameter((outputs,), Constant(0.0) if init else default, (0,))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.weight[...].astype(x.dtype) + self.bias[...].astype(x.dtype)


class Embedding(nnx.Module):
    """Integers [...] -> [..., channels], float32."""

    def __init__(self, count: int, channels: int):
        self.weight = declare_parameter((count, channels), Normal(1.0), (0, 1))

    def __call__(self, index: jax.Array) -> jax.Array:
        return jnp.take(self.weight[...], index, axis=0)


class LayerNorm(nnx.Module):
    """Over the channels, epsilon 1e-5, computed in float32; parameters named as in VITS."""

    def __init__(self, channels: int):
        self.gamma = declare_parameter((channels,), Constant(1.0), (0,))
        self.beta = declare_parameter((channels,), Constant(0.0), (0,))

    def __call__(self, x: jax.Array) -> jax.Array:
        return layer_norm(x, self.gamma[...], self.beta[...])


class WaveNet(nnx.Module):
    """Gated residual convolutions conditioned on the speaker: `WN` of VITS (arXiv 2106.06103;
    WaveNet, 1609.03499)."""

    def __init__(
        self,
        channels: int,
        kernel: int,
        layers: int,
        speaker_channels: int,
        forms: KernelConfig = REFERENCE,
    ):
        self.channels = channels
        self.scan = forms.scan
        self.cond_layer = Conv(speaker_channels, 2 * channels * layers, 1, normed=True)
        self.in_layers = nnx.List(
            [
                Conv(channels, 2 * channels, kernel, normed=True, forms=forms)
                for _ in range(layers)
            ]
        )
        outputs = [2 * channels] * (layers - 1) + [channels]
        self.res_skip_layers = nnx.List(
            [Conv(channels, width, 1, normed=True) for width in outputs]
        )

    def __call__(self, x: jax.Array, mask: jax.Array, speaker: jax.Array) -> jax.Array:
        """x [batch, time, channels], mask [batch, time, 1], speaker [batch, 1, speaker
        channels]."""
        conditions = jnp.split(self.cond_layer(speaker), len(self.in_layers), axis=-1)
        if self.scan:
            return self._scanned(x, mask, conditions)
        output = jnp.zeros_like(x)
        for in_layer, res_skip, condition in zip(
            self.in_layers, self.res_skip_layers, conditions, strict=True
        ):
            y = in_layer.gated(x, condition)
            if res_skip.outputs > self.channels:
                residual, skip = res_skip.halves(y)
                x = apply_mask(x + residual, mask)
            else:
                skip = res_skip(y)
            output = output + skip
        return apply_mask(output, mask)

    def _scanned(self, x: jax.Array, mask: jax.Array, conditions: list[jax.Array]) -> jax.Array:
        """The layers in a loop; the last one's missing residual half is zero."""
        width = 2 * self.channels
        outer = [_padded(layer, x.dtype, width) for layer in self.res_skip_layers]
        stacked = jax.tree.map(
            lambda *leaves: jnp.stack(leaves),
            *[
                (inner.kernel(x.dtype), inner.bias[...].astype(x.dtype), *res_skip, condition)
                for inner, res_skip, condition in zip(
                    self.in_layers, outer, conditions, strict=True
                )
            ],
        )
        padding = self.in_layers[0].padding
        forms = self.in_layers[0].forms

        def layer(
            carry: tuple[jax.Array, jax.Array], weights: tuple[jax.Array, ...]
        ) -> tuple[tuple, None]:
            x, output = carry
            kernel, bias, outer_kernel, outer_bias, condition = weights
            gates = convolution.conv(x, kernel, 1, padding, 1, 1, forms) + bias + condition
            filtered, gate = jnp.split(gates, 2, axis=-1)
            y = gated_tanh(filtered, gate) @ outer_kernel[0] + outer_bias
            residual, skip = jnp.split(y, 2, axis=-1)
            return (apply_mask(x + residual, mask), output + skip), None

        (_, output), _ = jax.lax.scan(layer, (x, jnp.zeros_like(x)), stacked)
        return apply_mask(output, mask)


def _padded(layer: Conv, dtype: jnp.dtype, width: int) -> tuple[jax.Array, jax.Array]:
    """Kernel and bias of a layer with zero outputs in front, `width` in all."""
    missing = width - layer.outputs
    kernel = layer.kernel(dtype)
    bias = layer.bias[...].astype(dtype)
    return jnp.pad(kernel, ((0, 0), (0, 0), (missing, 0))), jnp.pad(bias, (missing, 0))


def sequence_mask(lengths: jax.Array, frames: int, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Ones for the first `lengths` [batch] frames -> [batch, frames, 1]."""
    return (jnp.arange(frames)[None, :] < lengths[:, None])[..., None].astype(dtype)
