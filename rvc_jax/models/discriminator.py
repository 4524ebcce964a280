"""Discriminators of HiFi-GAN (arXiv 2010.05646): one over the waveform's scale, several over its
periods."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from rvc_jax.config import REFERENCE, DiscriminatorConfig, KernelConfig
from rvc_jax.models.kernels.activations import leaky_relu
from rvc_jax.models.kernels.convolution import SectionLayout, fold
from rvc_jax.models.layers import Conv

DiscriminatorOutput = tuple[jax.Array, list[list[jax.Array]]]
"""Scores [batch, positions], and the feature maps of every layer, the scores' included, each in
parts of equal size."""


class ScaleDiscriminator(nnx.Module):
    """Strided grouped convolutions over the waveform."""

    def __init__(self, config: DiscriminatorConfig, forms: KernelConfig = REFERENCE):
        self.fold_to = forms.fold_to
        inputs = (1, *config.scale_channels)
        layers = zip(
            config.scale_kernels, config.scale_strides, config.scale_groups, strict=True
        )
        self.convs = nnx.List(
            [
                Conv(
                    inputs[i],
                    inputs[i + 1],
                    kernel,
                    stride=stride,
                    padding=kernel // 2,
                    groups=groups,
                    normed=True,
                    forms=forms,
                )
                for i, (kernel, stride, groups) in enumerate(layers)
            ]
        )
        self.conv_post = Conv(inputs[-1], 1, 3, normed=True)
        self.layouts = []
        self.block = 1
        if forms.sectioned and forms.merge_to:
            self.layouts, self.block = _layouts(self.convs, forms.merge_to)

    def __call__(self, wave: jax.Array) -> DiscriminatorOutput:
        sections = [wave[..., None]]
        maps = []
        if wave.shape[1] % self.block == 0:
            sections = [fold(wave[..., None], 1, self.block)]
            for conv, layout in zip(self.convs, self.layouts, strict=False):
                sections = [
                    leaky_relu(section, 0.1) for section in conv.sectioned(sections, layout)
                ]
                maps.append(sections)
        x = jnp.concatenate(sections, axis=-1)
        score, others = _judge(x, self.convs[len(maps) :], self.conv_post, self.fold_to)
        return score, [*maps, *others]


def _layouts(convs: Sequence[Conv], channels: int) -> tuple[list[SectionLayout], int]:
    """Of what comes out of the layers that widen the signal, if they are grouped, and the samples
    of a block.

    The last one has so many channels per section; every other one's sections are what those of the
    next layer take.
    """
    widening = list(itertools.takewhile(lambda conv: conv.outputs > conv.inputs, convs))
    if not widening or widening[-1].groups == 1:
        return [], 1
    layouts = [SectionLayout(min(channels, widening[-1].outputs), 1)]
    for conv in reversed(widening):
        of_next = layouts[0]
        groups = max(of_next.channels * conv.groups // conv.outputs, 1)
        layouts.insert(
            0, SectionLayout(groups * conv.inputs // conv.groups, of_next.factor * conv.stride)
        )
    return layouts[1:], layouts[0].factor


class PeriodDiscriminator(nnx.Module):
    """Convolutions over every `period`-th sample; the phases of the period are folded into the
    batch."""

    def __init__(
        self, config: DiscriminatorConfig, period: int, forms: KernelConfig = REFERENCE
    ):
        self.period = period
        inputs = (1, *config.period_channels)
        strides = [config.period_stride] * (len(config.period_channels) - 1) + [1]
        self.convs = nnx.List(
            [
                Conv(
                    inputs[i],
                    inputs[i + 1],
                    config.period_kernel,
                    stride=stride,
                    padding=config.period_kernel // 2,
                    normed=True,
                    public_trailing=1,
                    forms=forms,
                )
                for i, stride in enumerate(strides)
            ]
        )
        self.conv_post = Conv(inputs[-1], 1, 3, normed=True, public_trailing=1)

    def __call__(self, wave: jax.Array) -> DiscriminatorOutput:
        batch, samples = wave.shape
        wave = jnp.pad(wave, ((0, 0), (0, -samples % self.period)), mode="reflect")
        columns = (
            wave.reshape(batch, -1, self.period)
            .swapaxes(1, 2)
            .reshape(batch * self.period, -1, 1)
        )
        score, maps = _judge(columns, self.convs, self.conv_post)
        # Positions in time order, the phases of one time beside each other, as the public networks
        # count them.
        return score.reshape(batch, self.period, -1).swapaxes(1, 2).reshape(batch, -1), maps


def _judge(
    x: jax.Array, convs: nnx.List, conv_post: Conv, fold_to: int = 0
) -> DiscriminatorOutput:
    """Maps of layers with few channels come folded: what is compared with them is so, too."""
    maps = []
    for conv in convs:
        x = _maybe_folded(x, conv, fold_to)
        maps.append([x])
    x = conv_post(fold(x, conv_post.inputs, 1))
    return x[..., 0], [*maps, [x]]


def _maybe_folded(x: jax.Array, conv: Conv, fold_to: int) -> jax.Array:
    """A layer of a signal that may be folded; folded where it has few inputs and the time divides,
    but not groups with outputs enough: folded they would be one dense kernel, mostly zeros."""
    factor = max(fold_to // conv.outputs, 1)
    time = x.shape[1] * x.shape[2] // conv.inputs
    full = conv.groups > 1 and factor == 1
    if full or conv.inputs >= fold_to or time % (factor * conv.stride):
        return conv.activated(fold(x, conv.inputs, 1), 0.1)
    return leaky_relu(conv.folded(fold(x, conv.inputs, factor * conv.stride), factor), 0.1)


class Discriminator(nnx.Module):
    """The scale discriminator and one discriminator for every period."""

    def __init__(self, config: DiscriminatorConfig, forms: KernelConfig = REFERENCE):
        periods = [PeriodDiscriminator(config, period, forms) for period in config.periods]
        self.discriminators = nnx.List([ScaleDiscriminator(config, forms), *periods])

    def judge(self, wave: jax.Array) -> list[DiscriminatorOutput]:
        """wave [batch, samples], in the dtype to compute in -> one judgement per
        sub-discriminator."""
        return [self.judge_by(number, wave) for number in range(len(self.discriminators))]

    def judge_by(self, number: int, wave: jax.Array) -> DiscriminatorOutput:
        """The judgement of one sub-discriminator."""
        with jax.named_scope(f"discriminators.{number}"):
            return self.discriminators[number](wave)
