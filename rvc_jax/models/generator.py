"""NSF-HiFi-GAN generator: latent and f0 -> waveform (`dec`).

HiFi-GAN (arXiv 2010.05646) with the harmonic source of a neural source-filter model
(arXiv 1904.12088).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import jax
import jax.numpy as jnp
from flax import nnx

from rvc_jax.config import AudioConfig, GeneratorConfig
from rvc_jax.models.kernels import folding
from rvc_jax.models.kernels.activations import leaky_relu
from rvc_jax.models.kernels.folding import Signal
from rvc_jax.models.kernels.options import REFERENCE, KernelConfig
from rvc_jax.models.layers import Conv, ConvTranspose, Linear
from rvc_jax.models.parameters import Constant, Normal

SINE_AMPLITUDE = 0.1
VOICED_NOISE = 0.003
UNVOICED_NOISE = SINE_AMPLITUDE / 3
SLOPE = 0.1  # of every leaky ReLU but the last
LAST_SLOPE = 0.01
SMALL = Normal(0.01)
"""HiFi-GAN's initialization of upsampling and residual layers. With it an untrained generator
passes the source through almost unchanged."""


def sine_cycles(
    f0: jax.Array, sample_rate: int, hop: int, phase: jax.Array | None = None
) -> jax.Array:
    """Returns the running phase of a sine, in cycles [batch, samples].

    f0 [batch, frames]: frequency in Hz, held over each frame.
    phase [batch]: cycles that ran before the first sample.

    Only whole frames are accumulated, each as its distance from a whole number of cycles: a sum
    over samples would drift in float32, and is slow on TPU.
    """
    ramp = (f0 / sample_rate)[..., None] * jnp.arange(1, hop + 1)
    per_frame = _distance_from_whole(ramp[..., -1])
    before = jnp.cumsum(jnp.pad(per_frame[:, :-1], ((0, 0), (1, 0))), axis=1)
    if phase is not None:
        before = before + phase[:, None]
    cycles = ramp + _distance_from_whole(before)[..., None]
    return cycles.reshape(f0.shape[0], -1)


def _distance_from_whole(cycles: jax.Array) -> jax.Array:
    """Returns the distance from the nearest whole number, -0.5 to 0.5.

    A smaller number has a smaller rounding error.
    """
    return cycles - jnp.round(cycles)


class HarmonicSource(nnx.Module):
    """A sine at f0 where voiced, noise everywhere (`m_source`)."""

    def __init__(self, sample_rate: int, hop: int):
        self.sample_rate = sample_rate
        self.hop = hop
        # Unit scale from the start: the network ignores a fainter source, and the voice learns to
        # buzz at the frame rate.
        self.l_linear = Linear(1, 1, Constant(1.0 / SINE_AMPLITUDE))

    def __call__(
        self, f0: jax.Array, noise: jax.Array | None, phase: jax.Array | None
    ) -> jax.Array:
        """Returns the source [batch, samples, 1].

        f0 [batch, frames]: in Hz, 0 where unvoiced. noise [batch, samples]: standard normal.
        phase [batch]: cycles before the first sample.
        """
        voiced = jnp.repeat(f0 > 0, self.hop, axis=1)
        cycles = sine_cycles(f0, self.sample_rate, self.hop, phase)
        source = jnp.where(voiced, SINE_AMPLITUDE * jnp.sin(2 * math.pi * cycles), 0.0)
        if noise is not None:
            source = source + jnp.where(voiced, VOICED_NOISE, UNVOICED_NOISE) * noise
        # By hand, not as a layer with one channel: on a TPU, an axis of 1 takes the place of 128.
        scaled = source * self.l_linear.weight[...][0, 0]
        return jnp.tanh(scaled + self.l_linear.bias[...][0])[..., None]


class ResidualBlock(nnx.Module):
    """Pairs of dilated and plain convolutions, each pair with a skip (`ResBlock1` of HiFi-GAN)."""

    def __init__(
        self,
        channels: int,
        kernel: int,
        dilations: tuple[int, ...],
        kernels: KernelConfig = REFERENCE,
    ):
        """Declares a pair of layers per dilation. kernel: number of taps."""

        def make_conv(dilation: int) -> Conv:
            return Conv(
                channels,
                channels,
                kernel,
                dilation=dilation,
                normed=True,
                init=SMALL,
                kernels=kernels,
            )

        self.convs1 = nnx.List([make_conv(dilation) for dilation in dilations])
        self.convs2 = nnx.List([make_conv(1) for _ in dilations])

    def __call__(self, x: Signal) -> Signal:
        """x and result: [batch, time, channels]."""
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            y = apply_leaky_relu(x)
            y = folding.conv_leaky_relu(dilated, y, SLOPE)
            x = x + folding.conv(plain, y)
        return x


class Generator(nnx.Module):
    """Upsamples the latent to samples.

    After every upsampling the source is added, and the residual blocks run side by side and are
    averaged (multi-receptive field fusion).
    """

    def __init__(
        self,
        config: GeneratorConfig,
        audio: AudioConfig,
        kernels: KernelConfig = REFERENCE,
    ):
        self.kernels = kernels
        self.blocks_per_stage = len(config.resblock_kernels)
        self.has_pitch = config.has_pitch
        channels = config.upsample_initial_channels
        if self.has_pitch:
            hop = math.prod(config.upsample_rates)
            self.m_source = HarmonicSource(audio.sample_rate, hop)
            self.noise_convs = nnx.List()
        self.conv_pre = Conv(config.inter_channels, channels, 7)
        self.cond = Conv(config.speaker_channels, channels, 1)
        self.ups = nnx.List()
        self.resblocks = nnx.List()
        rest = math.prod(config.upsample_rates)  # samples per frame of the stage
        stages = zip(config.upsample_rates, config.upsample_kernels, strict=True)
        for rate, kernel in stages:
            self.ups.append(
                ConvTranspose(channels, channels // 2, kernel, rate, SMALL, kernels)
            )
            channels //= 2
            rest //= rate
            if self.has_pitch:
                self.noise_convs.append(_make_source_conv(channels, rest))
            blocks = zip(config.resblock_kernels, config.resblock_dilations, strict=True)
            for block_kernel, dilations in blocks:
                self.resblocks.append(ResidualBlock(channels, block_kernel, dilations, kernels))
        self.conv_post = Conv(channels, 1, 7, bias=False)

    def __call__(
        self,
        latent: jax.Array,
        f0: jax.Array,
        speaker: jax.Array,
        noise: jax.Array | None = None,
        phase: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the waveform [batch, samples], float32. Computes in the latent's dtype.

        latent [batch, frames, channels], speaker [batch, 1, channels].
        f0 [batch, frames] in Hz, noise [batch, samples] and phase [batch] are for the harmonic
        source; a voice without pitch ignores them.
        """
        if self.has_pitch:
            with jax.named_scope("m_source"):
                source = self.m_source(f0, noise, phase).astype(latent.dtype)
        x = Signal(self.conv_pre(latent) + self.cond(speaker), self.conv_pre.outputs)
        for stage, up in enumerate(self.ups):
            with jax.named_scope(f"ups.{stage}"):
                x = folding.upsample(up, apply_leaky_relu(x), self.kernels.fold_to)
            if self.has_pitch:
                with jax.named_scope(f"noise_convs.{stage}"):
                    noise_conv = self.noise_convs[stage]
                    x = x + folding.downsample_source(
                        noise_conv, source, x.factor, self.kernels.fold_to
                    )
            first = stage * self.blocks_per_stage
            blocks = self.resblocks[first : first + self.blocks_per_stage]
            with jax.named_scope(f"resblocks.{stage}"):
                x = self._average_blocks(blocks, x)
        x = folding.conv(self.conv_post, apply_leaky_relu(x, LAST_SLOPE))
        wave = x.values.reshape(x.values.shape[0], -1)
        return jnp.tanh(wave.astype(jnp.float32))

    def _average_blocks(self, blocks: Sequence[ResidualBlock], x: Signal) -> Signal:
        def average(x: Signal) -> Signal:
            total = cast("jax.Array", sum(block(x).values for block in blocks))
            return Signal(total / len(blocks), x.channels)

        if self.kernels.rematerialize:
            average = jax.checkpoint(average)
        return average(x)


def apply_leaky_relu(x: Signal, slope: float = SLOPE) -> Signal:
    """Returns the leaky ReLU of a signal."""
    return x.map(lambda values: leaky_relu(values, slope))


def _make_source_conv(channels: int, stride: int) -> Conv:
    """Declares the layer that brings the source down to a stage's rate.

    stride: samples per time step of the stage.
    """
    kernel = source_kernel(stride)
    return Conv(1, channels, kernel, stride=stride, padding=(kernel - stride) // 2)


def source_kernel(stride: int) -> int:
    """Returns the taps of a layer that brings the source down by `stride`.

    For odd strides there is one fewer than twice the stride, so that the length comes out even.
    """
    return 2 * stride - stride % 2
