"""Convolutions over time in [batch, time, channels], in the form that is fast on the platform compiled for."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax

_LAYOUT = ("NWC", "WIO", "NWC")


def conv(x: jax.Array, kernel: jax.Array, stride: int, padding: int, dilation: int, groups: int) -> jax.Array:
    """x [batch, time, in], kernel [width, in / groups, out] -> [batch, time', out]."""
    if groups == 1:
        return _conv(x, kernel, stride, padding, dilation)
    plain = functools.partial(_conv, stride=stride, padding=padding, dilation=dilation, groups=groups)
    if dilation > 1:
        return plain(x, kernel)
    products = functools.partial(grouped_conv_as_products, stride=stride, padding=padding, groups=groups)
    return lax.platform_dependent(x, kernel, cpu=products, default=plain)


def _conv(x: jax.Array, kernel: jax.Array, stride: int, padding: int, dilation: int, groups: int = 1) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride,),
        [(padding, padding)],
        rhs_dilation=(dilation,),
        dimension_numbers=_LAYOUT,
        feature_group_count=groups,
    )


def grouped_conv_as_products(x: jax.Array, kernel: jax.Array, stride: int, padding: int, groups: int) -> jax.Array:
    """A grouped convolution as one matrix product per group over gathered taps; arguments as `conv`'s.

    XLA has no fast gradient of grouped kernels on CPUs: there, as convolutions, the scale discriminator's layers took
    1.5 to 19 times as long.
    """
    width, inputs, outputs = kernel.shape
    batch, time, _ = x.shape
    frames = (time + 2 * padding - width) // stride + 1
    padded = jnp.pad(x, ((0, 0), (padding, padding), (0, 0)))
    by_group = padded.reshape(batch, -1, groups, inputs).transpose(2, 0, 1, 3)
    last = stride * (frames - 1) + 1
    taps = [lax.slice_in_dim(by_group, tap, tap + last, stride, axis=2) for tap in range(width)]
    weights = kernel.reshape(width * inputs, groups, outputs // groups).transpose(1, 0, 2)
    y = jnp.einsum("gbti,gio->gbto", jnp.concatenate(taps, axis=-1), weights)
    return y.transpose(1, 2, 0, 3).reshape(batch, frames, outputs)


def conv_transpose(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """x [batch, time, in], kernel [width, out, in] -> [batch, time * stride, out].

    PyTorch's transposed convolution with padding (width - stride) / 2, written as a plain convolution whose output
    channels are the `stride` phases of the result (sub-pixel form): no inserted zeros are multiplied.
    """
    width, outputs, inputs = kernel.shape
    padding = (width - stride) // 2
    # Output frame t * stride + phase reads input frame t - shift through tap shift * stride + phase + padding.
    least_shift = -((stride - 1 + padding) // stride)
    most_shift = (width - 1 - padding) // stride
    shifts = most_shift - least_shift + 1
    before = -(least_shift * stride + padding)
    phases = jnp.pad(kernel, ((before, shifts * stride - width - before), (0, 0), (0, 0)))
    phases = phases.reshape(shifts, stride, outputs, inputs)[::-1].transpose(0, 3, 1, 2)
    phases = phases.reshape(shifts, inputs, stride * outputs)
    y = lax.conv_general_dilated(x, phases, (1,), [(most_shift, -least_shift)], dimension_numbers=_LAYOUT)
    return y.reshape(x.shape[0], x.shape[1] * stride, outputs)
