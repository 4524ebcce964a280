"""Convolutions over time, [batch, time, channels], in several forms that differ only in speed.

`conv` and `conv_transpose` choose the form that a `KernelConfig` asks for. Folded signals
(`folded_conv`, `folded_conv_transpose`) have several time steps side by side as channels, see
`kernels.folding`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rvc_jax.models.kernels.options import REFERENCE, KernelConfig
from rvc_jax.models.kernels.winograd import MAX_TAPS, winograd_conv

_LAYOUT = ("NWC", "WIO", "NWC")
Padding = tuple[int, int]
"""Time steps of zeros before and behind a signal."""


def conv(
    x: jax.Array,
    kernel: jax.Array,
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
    config: KernelConfig = REFERENCE,
) -> jax.Array:
    """Convolves x [batch, time, in] with a kernel [width, in / groups, out] -> [batch, time', out].

    padding: zeros on either side.
    """
    if groups > 1 and config.merge_to:
        return _merged_conv(x, kernel, stride, padding, dilation, groups, config.merge_to)
    if groups == dilation == 1 and _suits_winograd(x, kernel, stride, config):
        return _winograd_conv(x, kernel, stride, padding)
    return plain_conv(x, kernel, (padding, padding), stride, dilation, groups)


def plain_conv(
    x: jax.Array,
    kernel: jax.Array,
    padding: Padding,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> jax.Array:
    """Convolves with XLA's own convolution; arguments as for `conv`."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride,),
        [padding],
        rhs_dilation=(dilation,),
        dimension_numbers=_LAYOUT,
        feature_group_count=groups,
    )


# --- Winograd ---


def _suits_winograd(x: jax.Array, kernel: jax.Array, stride: int, config: KernelConfig) -> bool:
    channels = min(kernel.shape[1:])
    is_wide = 0 < config.winograd_from <= channels
    return is_wide and stride < len(kernel) <= MAX_TAPS and x.dtype == jnp.float32


def _winograd_conv(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """Folds the stride into channels, since Winograd convolutions have none."""
    width, inputs, outputs = kernel.shape
    frames = (x.shape[1] + 2 * padding - width) // stride + 1
    taps = -(-width // stride)
    kernel = jnp.pad(kernel, ((0, taps * stride - width), (0, 0), (0, 0)))
    end = (frames + taps - 1) * stride - padding  # of the inputs that any output reads
    x = x[:, :end]
    x = jnp.pad(x, ((0, 0), (padding, end - x.shape[1]), (0, 0)))
    return winograd_conv(
        fold(x, inputs, stride), kernel.reshape(taps, stride * inputs, outputs)
    )


# --- Merged groups ---


def _merged_conv(
    x: jax.Array,
    kernel: jax.Array,
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
    channels: int,
) -> jax.Array:
    """Computes a grouped convolution as a few dense ones of up to `channels` outputs each.

    The stride is folded into channels. XLA's own gradients of grouped and of strided convolutions
    multiply mostly zeros on TPUs, and are slow everywhere.
    """
    edges = (padding, padding)
    block = 1
    if stride > 1 and dilation == 1 and x.shape[1] % stride == 0:
        kernel, edges = pad_to_blocks(kernel, stride, padding)
        block = stride
        stride = 1
    merged = count_merged_groups(kernel.shape[2], groups, channels)

    def convolve_part(x: jax.Array, kernel: jax.Array) -> jax.Array:
        folded = fold(x, x.shape[-1], block)
        blocks = fold_blocks(merge_groups(kernel, merged), block)
        return plain_conv(folded, blocks, edges, stride, dilation)

    inputs = jnp.split(x, groups // merged, axis=-1)
    kernels = jnp.split(kernel, groups // merged, axis=-1)
    parts = [convolve_part(*part) for part in zip(inputs, kernels, strict=True)]
    return jnp.concatenate(parts, axis=-1)


def count_merged_groups(outputs: int, groups: int, channels: int) -> int:
    """Returns how many groups to merge, so that they have at most `channels` of the outputs."""
    merged = min(max(channels * groups // outputs, 1), groups)
    while groups % merged:
        merged -= 1
    return merged


def merge_groups(kernel: jax.Array, groups: int) -> jax.Array:
    """Makes a block-diagonal kernel: [width, in / groups, out] -> [width, in, out]."""
    if groups == 1:
        return kernel
    inputs, outputs = kernel.shape[1:]
    row = np.arange(groups * inputs)
    column = np.arange(outputs)
    copies = (row[:, None] % inputs == np.arange(inputs)).astype(np.float32)
    is_own = row[:, None] // inputs == column // (outputs // groups)
    # A product with ones and zeros: repeating a few rows is slow on TPU, and so is its gradient.
    wide = jnp.einsum(
        "rc,wco->wro", copies.astype(kernel.dtype), kernel, precision=lax.Precision.HIGHEST
    )
    return jnp.where(is_own, wide, 0)


# --- Folded signals ---


def fold(x: jax.Array, channels: int, factor: int) -> jax.Array:
    """Lays `factor` time steps of `channels` channels side by side. x may be folded already."""
    return x.reshape(x.shape[0], -1, factor * channels)


def folded_conv(
    x: jax.Array,
    kernel: jax.Array,
    factor: int,
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
) -> jax.Array:
    """Convolves a folded signal, if the output has exactly time / stride time steps.

    x [batch, time / (factor * stride), factor * stride * in]
    -> [batch, time / (factor * stride), factor * out].
    """
    kernel, edges = fold_kernel(merge_groups(kernel, groups), factor, stride, padding, dilation)
    return plain_conv(x, kernel, edges)


def fold_kernel(
    kernel: jax.Array, factor: int, stride: int, padding: int, dilation: int
) -> tuple[jax.Array, Padding]:
    """Returns the kernel for folded signals, and its padding.

    [width, in, out] -> [taps, factor * stride * in, factor * out].
    """
    width, inputs, outputs = kernel.shape
    starts, rows, edges = place_taps(width, factor, stride, padding, dilation)
    spread = dilation * (width - 1) + 1
    # Each phase's taps are padded with zeros up to its inputs: no product and no transpose.
    zero = jnp.zeros((), kernel.dtype)
    phases = []
    for start in starts:
        around = (start, rows - start - spread, dilation - 1)
        phases.append(lax.pad(kernel, zero, (around, (0, 0, 0), (0, 0, 0))))
    folded = jnp.concatenate(phases, axis=-1)
    return folded.reshape(-1, factor * stride * inputs, factor * outputs), edges


def place_taps(
    width: int, factor: int, stride: int, padding: int, dilation: int
) -> tuple[list[int], int, Padding]:
    """Returns where each phase's taps begin in a folded kernel, its time steps, its padding."""
    block = factor * stride
    # Input time step that the first tap of each phase reads.
    first = [stride * phase - padding for phase in range(factor)]
    before = -(first[0] // block)
    after = max((first[-1] + dilation * (width - 1)) // block, 0)
    starts = [before * block + step for step in first]
    return starts, (before + after + 1) * block, (before, after)


def pad_to_blocks(kernel: jax.Array, stride: int, padding: int) -> tuple[jax.Array, Padding]:
    """Pads a kernel to whole blocks of `stride` taps; returns it and its padding in blocks."""
    inputs, outputs = kernel.shape[1:]
    folded, edges = fold_kernel(kernel, 1, stride, padding, 1)
    return folded.reshape(-1, inputs, outputs), edges


def fold_blocks(kernel: jax.Array, block: int) -> jax.Array:
    """Folds a kernel of whole blocks: [taps, in, out] -> [taps / block, block * in, out]."""
    return kernel.reshape(-1, block * kernel.shape[1], kernel.shape[2])


# --- Transposed convolutions ---


def conv_transpose(
    x: jax.Array, kernel: jax.Array, stride: int, form: str = "subpixel"
) -> jax.Array:
    """Convolves as PyTorch's transposed convolution that cuts `front_cut` steps at the beginning.

    x [batch, time, in], kernel [width, out, in] -> [batch, time * stride, out].
    form: `KernelConfig.upsampling`.
    """
    if form == "subpixel" or (form == "by stride" and stride <= 2):
        return fold(folded_conv_transpose(x, kernel, stride, 1), kernel.shape[1], 1)
    width = kernel.shape[0]
    cut = front_cut(width, stride)
    edges = (width - 1 - cut, stride - 1 + cut)
    return lax.conv_general_dilated(
        x,
        kernel[::-1].swapaxes(1, 2),
        (1,),
        [edges],
        lhs_dilation=(stride,),
        dimension_numbers=_LAYOUT,
    )


def front_cut(width: int, stride: int) -> int:
    """Returns the time steps that an upsampling layer cuts at the beginning of its output.

    An even surplus is cut equally at both ends. Of an odd one, one more is cut at the beginning, as
    RVC's tools do for odd rates (PyTorch's `padding` with an `output_padding` of 1).
    """
    return (width - stride + 1) // 2


def folded_conv_transpose(
    x: jax.Array, kernel: jax.Array, stride: int, factor: int
) -> jax.Array:
    """Computes `conv_transpose` as a plain convolution whose output channels are the phases.

    No inserted zeros are multiplied.
    x [batch, time / factor, factor * in] -> [batch, time / factor, factor * stride * out].
    """
    kernel, edges = _split_phases(kernel, stride)
    if factor > 1:
        kernel, edges = fold_kernel(kernel, factor, 1, edges[0], 1)
    return plain_conv(x, kernel, edges)


def _split_phases(kernel: jax.Array, stride: int) -> tuple[jax.Array, Padding]:
    """Returns the plain kernel: [width, out, in] -> [taps, in, stride * out], and its padding."""
    width, outputs, inputs = kernel.shape
    padding = front_cut(width, stride)
    # Output frame t * stride + phase reads input frame t - shift through the tap
    # shift * stride + phase + padding.
    least_shift = -((stride - 1 + padding) // stride)
    most_shift = (width - 1 - padding) // stride
    shifts = range(most_shift, least_shift - 1, -1)
    taps = [_slice_taps(kernel, shift * stride + padding, stride) for shift in shifts]
    phases = jnp.stack(taps).transpose(0, 3, 1, 2)
    folded = phases.reshape(len(shifts), inputs, stride * outputs)
    return folded, (most_shift, -least_shift)


def _slice_taps(kernel: jax.Array, first: int, count: int) -> jax.Array:
    """Returns `count` taps from `first` on, zeros outside the kernel.

    By slices and concatenation: XLA for TPU reverses and pads slowly.
    """
    inside = kernel[max(first, 0) : min(first + count, len(kernel))]
    edges = (max(-first, 0), max(first + count - len(kernel), 0))
    zeros = [jnp.zeros((edge, *kernel.shape[1:]), kernel.dtype) for edge in edges]
    return jnp.concatenate([zeros[0], inside, zeros[1]])
