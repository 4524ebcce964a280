"""Convolutions over time in [batch, time, channels], each behind one function so that its form can be chosen."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

_LAYOUT = ("NWC", "WIO", "NWC")


def conv(x: jax.Array, kernel: jax.Array, stride: int, padding: int, dilation: int, groups: int) -> jax.Array:
    """x [batch, time, in], kernel [width, in / groups, out] -> [batch, time', out]."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride,),
        [(padding, padding)],
        rhs_dilation=(dilation,),
        dimension_numbers=_LAYOUT,
        feature_group_count=groups,
    )


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
