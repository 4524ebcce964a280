"""Convolutions over time in [batch, time, channels], each in several forms that differ only in
speed.

Folding: where channels are few, a matrix unit that takes 128 at once is mostly empty. `factor`
neighbouring time steps laid side by side as channels ([batch, time, channels] read as [batch, time
/ factor, factor * channels]) fill it; the kernel that does the same to them is made of the ordinary
one, so parameters and gradients stay what they are.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rvc_jax.config import REFERENCE, KernelConfig
from rvc_jax.models.kernels.winograd import MAX_TAPS, winograd_conv

_LAYOUT = ("NWC", "WIO", "NWC")
Padding = tuple[int, int]


def conv(
    x: jax.Array,
    kernel: jax.Array,
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
    forms: KernelConfig = REFERENCE,
) -> jax.Array:
    """x [batch, time, in], kernel [width, in / groups, out] -> [batch, time', out]."""
    if groups > 1 and forms.merge_to:
        return _merged_conv(x, kernel, stride, padding, dilation, groups, forms.merge_to)
    wide = 0 < forms.winograd_from <= min(kernel.shape[1:])
    if (
        wide
        and groups == dilation == 1
        and stride < len(kernel) <= MAX_TAPS
        and x.dtype == jnp.float32
    ):
        return _winograd_conv(x, kernel, stride, padding)
    return _conv(x, kernel, (padding, padding), stride, dilation, groups)


def _winograd_conv(x: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """By minimal filtering, strides folded into channels."""
    width, inputs, outputs = kernel.shape
    frames = (x.shape[1] + 2 * padding - width) // stride + 1
    taps = -(-width // stride)
    kernel = jnp.pad(kernel, ((0, taps * stride - width), (0, 0), (0, 0)))
    end = (frames + taps - 1) * stride - padding  # of the input that is met
    x = x[:, :end]
    x = jnp.pad(x, ((0, 0), (padding, end - x.shape[1]), (0, 0)))
    return winograd_conv(
        fold(x, inputs, stride), kernel.reshape(taps, stride * inputs, outputs)
    )


def _merged_conv(
    x: jax.Array,
    kernel: jax.Array,
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
    channels: int,
) -> jax.Array:
    """A grouped convolution as a few dense ones, of so many output channels each, over signals
    folded by the stride: XLA's own gradients of grouped and of strided ones multiply mostly zeros
    on TPUs, and are slow everywhere."""
    edges = (padding, padding)
    block = 1
    if stride > 1 and dilation == 1 and x.shape[1] % stride == 0:
        kernel, edges = _whole_blocks(kernel, stride, padding)
        stride, block = 1, stride
    merged = count_merged_groups(kernel.shape[2], groups, channels)

    def convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _conv(
            fold(x, x.shape[-1], block),
            _folded(merge_groups(kernel, merged), block),
            edges,
            stride,
            dilation,
        )

    parts = [jnp.split(array, groups // merged, axis=-1) for array in (x, kernel)]
    return jnp.concatenate([convolved(*part) for part in zip(*parts, strict=True)], axis=-1)


def _whole_blocks(kernel: jax.Array, stride: int, padding: int) -> tuple[jax.Array, Padding]:
    """A kernel with zeros around it, as many taps as some blocks of `stride` time steps have, and
    how many blocks of padding it takes."""
    inputs, outputs = kernel.shape[1:]
    folded, edges = fold_kernel(kernel, 1, stride, padding, 1)
    return folded.reshape(-1, inputs, outputs), edges


def _folded(kernel: jax.Array, block: int) -> jax.Array:
    """A kernel of whole blocks, for signals folded by a block: [taps, in, out] -> [taps / block,
    block * in, out]."""
    return kernel.reshape(-1, block * kernel.shape[1], kernel.shape[2])


def _conv(
    x: jax.Array,
    kernel: jax.Array,
    padding: Padding,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride,),
        [padding],
        rhs_dilation=(dilation,),
        dimension_numbers=_LAYOUT,
        feature_group_count=groups,
    )


def fold(x: jax.Array, channels: int, factor: int) -> jax.Array:
    """Lay `factor` time steps of `channels` channels side by side, however many are so already."""
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
    """`conv` of a folded signal, for a convolution whose output has a `stride`-th of its input's
    time steps.

    x [batch, time / (factor * stride), factor * stride * in] -> [batch, time / (factor * stride),
    factor * out].
    """
    kernel, padding = fold_kernel(
        merge_groups(kernel, groups), factor, stride, padding, dilation
    )
    return _conv(x, kernel, padding)


@dataclasses.dataclass(frozen=True)
class SectionLayout:
    """A signal as a list of sections: each is some of the channels, `factor` time steps of theirs
    side by side: [batch, time / factor, factor * channels]."""

    channels: int
    """Of one section."""
    factor: int


def sectioned_conv(
    sections: list[jax.Array],
    kernel: jax.Array,
    after: SectionLayout,
    stride: int,
    padding: int,
    groups: int,
) -> list[jax.Array]:
    """`conv` of a signal in sections, of which each section of what comes out takes one.

    sections [batch, blocks, after.factor * stride * in], of the channels that so many outputs meet
    -> [batch, blocks, after.factor * after.channels].
    """
    kernels, edges = _sectioned_kernels(kernel, after, stride, padding, groups)
    return [
        _conv(sections[i * len(sections) // len(kernels)], part, edges)
        for i, part in enumerate(kernels)
    ]


def _sectioned_kernels(
    kernel: jax.Array, after: SectionLayout, stride: int, padding: int, groups: int
) -> tuple[list[jax.Array], Padding]:
    """`fold_kernel` of every section."""
    width, _, outputs = kernel.shape
    merged = count_merged_groups(outputs, groups, after.channels)

    def split(kernel: jax.Array) -> list[jax.Array]:
        return [
            merge_groups(part, merged)
            for part in jnp.split(kernel, outputs // after.channels, axis=-1)
        ]

    if after.factor == 1:
        kernel, edges = _whole_blocks(kernel, stride, padding)
        return [_folded(part, stride) for part in split(kernel)], edges
    # By products with ones and zeros: so few channels are slowly laid side by side on a TPU.
    starts, rows, edges = _placed(width, after.factor, stride, padding, 1)
    phases = np.arange(after.factor)
    copies = np.tile(np.eye(after.channels), after.factor).astype(kernel.dtype)
    of_phase = phases[:, None, None, None] == phases.repeat(after.channels)
    moved = np.stack([np.eye(rows, width, -start) for start in starts], axis=1).astype(
        kernel.dtype
    )
    product = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    wide = [
        jnp.where(of_phase, product("wio,oc->wic", part, copies), 0) for part in split(kernel)
    ]
    return [
        _folded(product("rpw,pwic->ric", moved, part), after.factor * stride) for part in wide
    ], edges


def fold_kernel(
    kernel: jax.Array, factor: int, stride: int, padding: int, dilation: int
) -> tuple[jax.Array, Padding]:
    """The kernel [taps, factor * stride * in, factor * out] that does to a folded signal what
    `kernel` [width, in, out] does to a plain one, and its padding."""
    width, inputs, outputs = kernel.shape
    starts, rows, edges = _placed(width, factor, stride, padding, dilation)
    spread = dilation * (width - 1) + 1
    # Every phase's taps lie among zeros where its inputs are; no product, and nothing is
    # transposed.
    zero = jnp.zeros((), kernel.dtype)
    phases = [
        lax.pad(
            kernel, zero, ((start, rows - start - spread, dilation - 1), (0, 0, 0), (0, 0, 0))
        )
        for start in starts
    ]
    return jnp.concatenate(phases, axis=-1).reshape(
        -1, factor * stride * inputs, factor * outputs
    ), edges


def _placed(
    width: int, factor: int, stride: int, padding: int, dilation: int
) -> tuple[list[int], int, Padding]:
    """Where the taps of every phase begin among the time steps of a folded kernel, how many these
    are, its padding."""
    block = factor * stride
    first = [
        stride * phase - padding for phase in range(factor)
    ]  # input time step that a phase's first tap meets
    before = -(first[0] // block)
    after = max((first[-1] + dilation * (width - 1)) // block, 0)
    return (
        [before * block + step for step in first],
        (before + after + 1) * block,
        (before, after),
    )


def count_merged_groups(outputs: int, groups: int, channels: int) -> int:
    """How many groups are put together, until they have up to `channels` of all the output
    channels."""
    merged = min(max(channels * groups // outputs, 1), groups)
    while groups % merged:
        merged -= 1
    return merged


def merge_groups(kernel: jax.Array, groups: int) -> jax.Array:
    """Groups put together, with zeros between them: [width, in / groups, out] -> [width, in,
    out]."""
    if groups == 1:
        return kernel
    inputs, outputs = kernel.shape[1:]
    row = np.arange(groups * inputs)
    column = np.arange(outputs)
    copies = (row[:, None] % inputs == np.arange(inputs)).astype(np.float32)
    belongs = row[:, None] // inputs == column // (outputs // groups)
    # As a product: a copy that repeats a few rows is slow on TPU, and so is its gradient.
    wide = jnp.einsum(
        "rc,wco->wro", copies.astype(kernel.dtype), kernel, precision=lax.Precision.HIGHEST
    )
    return jnp.where(belongs, wide, 0)


def conv_transpose(
    x: jax.Array, kernel: jax.Array, stride: int, form: str = "subpixel"
) -> jax.Array:
    """x [batch, time, in], kernel [width, out, in] -> [batch, time * stride, out]. form:
    `KernelConfig.upsampling`.

    PyTorch's transposed convolution with padding (width - stride) / 2.
    """
    if form == "subpixel" or (form == "by stride" and stride <= 2):
        return fold(folded_conv_transpose(x, kernel, stride, 1), kernel.shape[1], 1)
    width = kernel.shape[0]
    edge = width - 1 - (width - stride) // 2
    return lax.conv_general_dilated(
        x,
        kernel[::-1].swapaxes(1, 2),
        (1,),
        [(edge, edge)],
        lhs_dilation=(stride,),
        dimension_numbers=_LAYOUT,
    )


def folded_conv_transpose(
    x: jax.Array, kernel: jax.Array, stride: int, factor: int
) -> jax.Array:
    """`conv_transpose` as a plain convolution whose output channels are the phases: no inserted
    zeros are multiplied.

    x [batch, time / factor, factor * in] -> [batch, time / factor, factor * stride * out].
    """
    kernel, (before, after) = _phases(kernel, stride)
    if factor > 1:
        kernel, (before, after) = fold_kernel(kernel, factor, 1, before, 1)
    return _conv(x, kernel, (before, after))


def _phases(kernel: jax.Array, stride: int) -> tuple[jax.Array, Padding]:
    """Kernel [width, out, in] of a transposed convolution -> [taps, in, stride * out], and its
    padding."""
    width, outputs, inputs = kernel.shape
    padding = (width - stride) // 2
    # Output frame t * stride + phase reads input frame t - shift through tap shift * stride + phase
    # + padding.
    least_shift = -((stride - 1 + padding) // stride)
    most_shift = (width - 1 - padding) // stride
    shifts = range(most_shift, least_shift - 1, -1)
    taps = [_taps(kernel, shift * stride + padding, stride) for shift in shifts]
    phases = jnp.stack(taps).transpose(0, 3, 1, 2)
    return phases.reshape(len(shifts), inputs, stride * outputs), (most_shift, -least_shift)


def _taps(kernel: jax.Array, first: int, count: int) -> jax.Array:
    """So many taps from one on, zeros where there are none (as slices: XLA for TPU reverses and
    pads slowly)."""
    there = kernel[max(first, 0) : min(first + count, len(kernel))]
    edges = (max(-first, 0), max(first + count - len(kernel), 0))
    zeros = [jnp.zeros((edge, *kernel.shape[1:]), kernel.dtype) for edge in edges]
    return jnp.concatenate([zeros[0], there, zeros[1]])
