"""Signals in sections, for the widening layers of the scale discriminator.

These layers are grouped and strided: each block of output channels reads one block of input
channels. A signal in sections is a list of such blocks, each [batch, time / factor,
factor * channels] with the `factor` time steps side by side that one output reads. As long as every
layer leaves its output in the sections that the next one reads, XLA has no relayout to insert.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rvc_jax.models.kernels.activations import leaky_relu
from rvc_jax.models.kernels.convolution import (
    Padding,
    count_merged_groups,
    fold,
    fold_blocks,
    merge_groups,
    pad_to_blocks,
    place_taps,
    plain_conv,
)
from rvc_jax.models.kernels.layer import ConvLayer, make_kernel
from rvc_jax.models.kernels.options import KernelConfig


@dataclasses.dataclass(frozen=True)
class SectionLayout:
    """Layout of each section of a signal: [batch, time / factor, factor * channels]."""

    channels: int
    factor: int


@dataclasses.dataclass(frozen=True)
class SectionPlan:
    """Which of a discriminator's layers run in sections."""

    layouts: tuple[SectionLayout, ...] = ()
    """Layout of the output of each of the first layers."""
    block: int = 1
    """Samples of the waveform per time step of its section."""


def plan_sections(convs: Iterable[ConvLayer], config: KernelConfig) -> SectionPlan:
    """Plans sections for the layers that widen the signal, if they are grouped."""
    widening = list(itertools.takewhile(lambda conv: conv.outputs > conv.inputs, convs))
    is_wanted = config.sectioned and config.merge_to
    if not is_wanted or not widening or widening[-1].groups == 1:
        return SectionPlan()
    # From the last layer, whose sections have `merge_to` channels, back to the waveform: the
    # sections of each layer are what those of the next one read.
    layouts = [SectionLayout(min(config.merge_to, widening[-1].outputs), 1)]
    for conv in reversed(widening):
        output = layouts[0]
        groups = max(output.channels * conv.groups // conv.outputs, 1)
        channels = groups * conv.inputs // conv.groups
        layouts.insert(0, SectionLayout(channels, output.factor * conv.stride))
    return SectionPlan(tuple(layouts[1:]), layouts[0].factor)


def run_in_sections(
    convs: Iterable[ConvLayer], plan: SectionPlan, wave: jax.Array, slope: float
) -> tuple[jax.Array, list[list[jax.Array]]]:
    """Runs the planned layers, each followed by a leaky ReLU, on a waveform [batch, samples, 1].

    Returns the last output, [batch, time, channels], and the sections of every output. Where the
    samples do not divide into blocks, no layer runs.
    """
    maps: list[list[jax.Array]] = []
    if wave.shape[1] % plan.block:
        return wave, maps
    sections = [fold(wave, 1, plan.block)]
    for conv, layout in zip(convs, plan.layouts, strict=False):
        outputs = conv_sections(conv, sections, layout)
        sections = [leaky_relu(section, slope) for section in outputs]
        maps.append(sections)
    return jnp.concatenate(sections, axis=-1), maps


def conv_sections(
    conv: ConvLayer, sections: list[jax.Array], after: SectionLayout
) -> list[jax.Array]:
    """Applies a layer without dilation to a signal in sections; returns sections like `after`."""
    kernel = make_kernel(conv, sections[0].dtype)
    parts = sectioned_conv(sections, kernel, after, conv.stride, conv.padding, conv.groups)
    biases = conv.bias[...].astype(kernel.dtype).reshape(-1, after.channels)
    return [
        part + jnp.tile(bias, after.factor) for part, bias in zip(parts, biases, strict=True)
    ]


def sectioned_conv(
    sections: list[jax.Array],
    kernel: jax.Array,
    after: SectionLayout,
    stride: int,
    padding: int,
    groups: int,
) -> list[jax.Array]:
    """Convolves a signal in sections; each section of the output reads one of the input.

    sections [batch, blocks, after.factor * stride * in], with the channels that one section of
    outputs reads -> [batch, blocks, after.factor * after.channels].
    """
    kernels, edges = _make_section_kernels(kernel, after, stride, padding, groups)
    outputs = []
    for i, part in enumerate(kernels):
        # Several sections of the output may read the same section of the input.
        section = sections[i * len(sections) // len(kernels)]
        outputs.append(plain_conv(section, part, edges))
    return outputs


def _make_section_kernels(
    kernel: jax.Array, after: SectionLayout, stride: int, padding: int, groups: int
) -> tuple[list[jax.Array], Padding]:
    """Returns `fold_kernel` of every section."""
    width, _, outputs = kernel.shape
    merged = count_merged_groups(outputs, groups, after.channels)

    def split(kernel: jax.Array) -> list[jax.Array]:
        parts = jnp.split(kernel, outputs // after.channels, axis=-1)
        return [merge_groups(part, merged) for part in parts]

    if after.factor == 1:
        kernel, edges = pad_to_blocks(kernel, stride, padding)
        return [fold_blocks(part, stride) for part in split(kernel)], edges
    # Products with ones and zeros: a TPU is slow at laying this few channels side by side.
    starts, rows, edges = place_taps(width, after.factor, stride, padding, 1)
    phases = np.arange(after.factor)
    copies = np.tile(np.eye(after.channels), after.factor).astype(kernel.dtype)
    is_phase = phases[:, None, None, None] == phases.repeat(after.channels)
    shifts = np.stack([np.eye(rows, width, -start) for start in starts], axis=1)
    shifts = shifts.astype(kernel.dtype)
    product = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    wide = [
        jnp.where(is_phase, product("wio,oc->wic", part, copies), 0) for part in split(kernel)
    ]
    block = after.factor * stride
    kernels = [fold_blocks(product("rpw,pwic->ric", shifts, part), block) for part in wide]
    return kernels, edges
