"""Discriminators of HiFi-GAN (arXiv 2010.05646): one on the waveform, several on its periods.

The small preset has discriminators on spectrograms of several resolutions instead of the first one,
after UnivNet (arXiv 2106.07889).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from rvc_jax.audio.spectrogram import frames, periodic_hann, rfft
from rvc_jax.config import DiscriminatorConfig
from rvc_jax.models.kernels import folding, sections
from rvc_jax.models.kernels.folding import Signal
from rvc_jax.models.kernels.layer import conv_leaky_relu
from rvc_jax.models.kernels.options import REFERENCE, KernelConfig
from rvc_jax.models.layers import Conv

SLOPE = 0.1  # of every leaky ReLU
_POWER_FLOOR = 1e-7
_MAGNITUDE_FLOOR = 1e-3


class DiscriminatorOutput(NamedTuple):
    """What one sub-discriminator returns."""

    scores: jax.Array
    """[batch, positions]."""
    feature_maps: list[list[jax.Array]]
    """The output of every layer, the scores included. Each map is a list of parts of equal size
    (`kernels.sections`), with time steps side by side where that is faster (`kernels.folding`).
    So maps compare element by element only with those of the same kernel config."""


class ScaleDiscriminator(nnx.Module):
    """Strided grouped convolutions over the waveform."""

    def __init__(self, config: DiscriminatorConfig, kernels: KernelConfig = REFERENCE):
        self.convs = nnx.List()
        channels = 1
        layers = zip(
            config.scale_channels,
            config.scale_kernels,
            config.scale_strides,
            config.scale_groups,
            strict=True,
        )
        for outputs, kernel, stride, groups in layers:
            conv = Conv(
                channels,
                outputs,
                kernel,
                stride=stride,
                padding=kernel // 2,
                groups=groups,
                normed=True,
                kernels=kernels,
            )
            self.convs.append(conv)
            channels = outputs
        self.conv_post = Conv(channels, 1, 3, normed=True)
        self.plan = sections.plan_sections(self.convs, kernels)

    def __call__(self, wave: jax.Array) -> DiscriminatorOutput:
        """wave [batch, samples]."""
        # Where the chip wants sections, they take the first layers; elsewhere none.
        values, maps = sections.run_in_sections(self.convs, self.plan, wave[..., None], SLOPE)
        x = Signal(values, values.shape[-1])
        for conv in self.convs[len(maps) :]:
            x = folding.strided_conv_leaky_relu(conv, x, SLOPE)
            maps.append([x.values])
        scores = self.conv_post(x.fold(1).values)
        maps.append([scores])
        return DiscriminatorOutput(scores[..., 0], maps)


class PeriodDiscriminator(nnx.Module):
    """Convolutions over every `period`-th sample. The batch has the phases of the period."""

    def __init__(
        self,
        config: DiscriminatorConfig,
        period: int,
        kernels: KernelConfig = REFERENCE,
    ):
        self.period = period
        self.convs = nnx.List()
        channels = 1
        last = len(config.period_channels) - 1
        for layer, outputs in enumerate(config.period_channels):
            conv = Conv(
                channels,
                outputs,
                config.period_kernel,
                stride=1 if layer == last else config.period_stride,
                padding=config.period_kernel // 2,
                normed=True,
                public_trailing=1,
                kernels=kernels,
            )
            self.convs.append(conv)
            channels = outputs
        self.conv_post = Conv(channels, 1, 3, normed=True, public_trailing=1)

    def __call__(self, wave: jax.Array) -> DiscriminatorOutput:
        """wave [batch, samples]."""
        batch, samples = wave.shape
        wave = jnp.pad(wave, ((0, 0), (0, -samples % self.period)), mode="reflect")
        columns = wave.reshape(batch, -1, self.period).swapaxes(1, 2)
        x = columns.reshape(batch * self.period, -1, 1)
        scores, maps = _convolve(self.convs, self.conv_post, x)
        # In time order, the phases of one time beside each other, as the public networks have them.
        scores = scores[..., 0].reshape(batch, self.period, -1).swapaxes(1, 2)
        return DiscriminatorOutput(scores.reshape(batch, -1), maps)


def _convolve(
    convs: Iterable[Conv], conv_post: Conv, x: jax.Array
) -> tuple[jax.Array, list[list[jax.Array]]]:
    """Returns the scores [batch, time, 1] of x [batch, time, channels], and all feature maps."""
    maps = []
    for conv in convs:
        x = conv_leaky_relu(conv, x, SLOPE)
        maps.append([x])
    scores = conv_post(x)
    return scores, [*maps, [scores]]


class SpectrumDiscriminator(nnx.Module):
    """Convolutions over the frames of a log-magnitude spectrogram, whose bins are the channels.

    UnivNet's convolve in two dimensions. In one, all work is in wide products, which CPUs do well.
    """

    def __init__(
        self, config: DiscriminatorConfig, size: int, kernels: KernelConfig = REFERENCE
    ):
        """Declares the layers. size: window in samples; windows are four hops long."""
        self.size = size
        self.hop = size // 4
        self.convs = nnx.List()
        channels = size // 2 + 1
        for outputs in config.spectrum_channels:
            conv = Conv(channels, outputs, config.spectrum_kernel, normed=True, kernels=kernels)
            self.convs.append(conv)
            channels = outputs
        self.conv_post = Conv(channels, 1, 3, normed=True)

    def __call__(self, wave: jax.Array) -> DiscriminatorOutput:
        """wave [batch, samples]."""
        margin = (self.size - self.hop) // 2
        padded = jnp.pad(wave.astype(jnp.float32), ((0, 0), (margin, margin)), mode="reflect")
        spectrum = rfft(frames(padded, self.size, self.hop) * periodic_hann(self.size))
        power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
        magnitudes = jnp.sqrt(power + _POWER_FLOOR)
        x = jnp.log(magnitudes + _MAGNITUDE_FLOOR).astype(wave.dtype)
        scores, maps = _convolve(self.convs, self.conv_post, x)
        return DiscriminatorOutput(scores[..., 0], maps)


class Discriminator(nnx.Module):
    """The scale discriminator, and one discriminator for every period and every spectrogram."""

    def __init__(self, config: DiscriminatorConfig, kernels: KernelConfig = REFERENCE):
        discriminators: list[ScaleDiscriminator | PeriodDiscriminator | SpectrumDiscriminator]
        discriminators = []
        if config.scale_channels:
            discriminators.append(ScaleDiscriminator(config, kernels))
        for period in config.periods:
            discriminators.append(PeriodDiscriminator(config, period, kernels))
        for size in config.spectra:
            discriminators.append(SpectrumDiscriminator(config, size, kernels))
        self.discriminators = nnx.List(discriminators)

    def __call__(self, wave: jax.Array) -> list[DiscriminatorOutput]:
        """Returns one output per sub-discriminator, for wave [batch, samples], in its dtype."""
        return [self.run_one(number, wave) for number in range(len(self.discriminators))]

    def run_one(self, number: int, wave: jax.Array) -> DiscriminatorOutput:
        """Returns the output of a single sub-discriminator."""
        with jax.named_scope(f"discriminators.{number}"):
            return self.discriminators[number](wave)
