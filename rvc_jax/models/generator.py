"""NSF-HiFi-GAN generator: latent and f0 -> waveform (`dec`).

HiFi-GAN (arXiv 2010.05646) with the harmonic source of a neural source-filter model (arXiv
1904.12088).
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from rvc_jax.config import REFERENCE, AudioConfig, GeneratorConfig, KernelConfig
from rvc_jax.models.kernels.activations import leaky_relu
from rvc_jax.models.kernels.convolution import fold
from rvc_jax.models.layers import Conv, ConvTranspose, Linear
from rvc_jax.models.parameters import Constant, Normal

SINE_AMPLITUDE = 0.1
VOICED_NOISE = 0.003
UNVOICED_NOISE = SINE_AMPLITUDE / 3
SMALL = Normal(0.01)
"""HiFi-GAN's initialisation of upsampling and residual layers: at first the source passes through
almost alone."""


def sine_cycles(
    f0: jax.Array, sample_rate: int, hop: int, phase: jax.Array | None = None
) -> jax.Array:
    """Running phase in cycles of a sine of frequency f0 [batch, frames] in Hz, held over frames ->
    [batch, samples].

    phase: cycles already run before the first sample [batch]. Only whole frames are accumulated,
    each as its distance from a whole number of cycles: a sum over samples would drift in float32,
    and is slow on TPU.
    """
    ramp = (f0 / sample_rate)[..., None] * jnp.arange(1, hop + 1)
    per_frame = _from_whole(ramp[..., -1])
    before = jnp.cumsum(jnp.pad(per_frame[:, :-1], ((0, 0), (1, 0))), axis=1)
    if phase is not None:
        before = before + phase[:, None]
    return (ramp + _from_whole(before)[..., None]).reshape(f0.shape[0], -1)


def _from_whole(cycles: jax.Array) -> jax.Array:
    """Distance from the nearest whole number, -0.5..0.5: a small number has a small rounding
    error."""
    return cycles - jnp.round(cycles)


class HarmonicSource(nnx.Module):
    """A sine at f0 where voiced, noise everywhere (`m_source`)."""

    def __init__(self, audio: AudioConfig):
        self.sample_rate = audio.sample_rate
        self.hop = audio.hop
        # At unit scale from the start: a fainter source is overheard, and the voice learns to buzz
        # at the frame rate.
        self.l_linear = Linear(1, 1, Constant(1.0 / SINE_AMPLITUDE))

    def __call__(
        self, f0: jax.Array, noise: jax.Array | None, phase: jax.Array | None
    ) -> jax.Array:
        """f0 [batch, frames] in Hz, 0 is unvoiced; noise [batch, samples], normal -> [batch,
        samples, 1]."""
        voiced = jnp.repeat(f0 > 0, self.hop, axis=1)
        cycles = sine_cycles(f0, self.sample_rate, self.hop, phase)
        source = jnp.where(voiced, SINE_AMPLITUDE * jnp.sin(2 * math.pi * cycles), 0.0)
        if noise is not None:
            source = source + jnp.where(voiced, VOICED_NOISE, UNVOICED_NOISE) * noise
        # Not as a layer with one channel: on a TPU, an axis of one takes the place of 128.
        return jnp.tanh(source * self.l_linear.weight[...][0, 0] + self.l_linear.bias[...][0])[
            ..., None
        ]


class ResidualBlock(nnx.Module):
    """Pairs of dilated and plain convolutions, each pair with a skip (`ResBlock1` of HiFi-GAN)."""

    def __init__(
        self,
        channels: int,
        kernel: int,
        dilations: tuple[int, ...],
        forms: KernelConfig = REFERENCE,
    ):
        shared = {"normed": True, "init": SMALL, "forms": forms}
        self.convs1 = nnx.List(
            [Conv(channels, channels, kernel, dilation=d, **shared) for d in dilations]
        )
        self.convs2 = nnx.List([Conv(channels, channels, kernel, **shared) for _ in dilations])

    def __call__(self, x: jax.Array, factor: int) -> jax.Array:
        """x and result [batch, time / factor, factor * channels]."""
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            y = leaky_relu(x, 0.1)
            y = (
                dilated.activated(y, 0.1)
                if factor == 1
                else leaky_relu(dilated.folded(y, factor), 0.1)
            )
            x = x + _conv(plain, y, factor)
        return x


class Generator(nnx.Module):
    """Upsamples the latent to samples; after every upsampling the source is mixed in and the MRF's
    blocks averaged."""

    def __init__(
        self, config: GeneratorConfig, audio: AudioConfig, forms: KernelConfig = REFERENCE
    ):
        self.forms = forms
        widths = [
            config.upsample_initial_channels >> i for i in range(len(config.upsample_rates) + 1)
        ]
        self.blocks_per_stage = len(config.resblock_kernels)
        self.has_pitch = config.has_pitch
        if self.has_pitch:
            self.m_source = HarmonicSource(audio)
            self.noise_convs = nnx.List()
        self.conv_pre = Conv(config.inter_channels, widths[0], 7)
        self.cond = Conv(config.speaker_channels, widths[0], 1)
        self.ups = nnx.List()
        self.resblocks = nnx.List()
        stages = zip(config.upsample_rates, config.upsample_kernels, strict=True)
        for stage, (rate, kernel) in enumerate(stages):
            self.ups.append(
                ConvTranspose(widths[stage], widths[stage + 1], kernel, rate, SMALL, forms)
            )
            if self.has_pitch:
                self.noise_convs.append(
                    _source_conv(
                        widths[stage + 1], math.prod(config.upsample_rates[stage + 1 :])
                    )
                )
            for block in zip(config.resblock_kernels, config.resblock_dilations, strict=True):
                self.resblocks.append(ResidualBlock(widths[stage + 1], *block, forms))
        self.conv_post = Conv(widths[-1], 1, 7, bias=False)

    def __call__(
        self,
        latent: jax.Array,
        f0: jax.Array,
        speaker: jax.Array,
        noise: jax.Array | None = None,
        phase: jax.Array | None = None,
    ) -> jax.Array:
        """latent [batch, frames, channels], f0 [batch, frames] in Hz, speaker [batch, 1, channels]
        -> [batch, samples].

        noise and phase are those of the harmonic source; a voice without pitch looks at none of the
        three. Computes in the latent's dtype, returns float32.
        """
        if self.has_pitch:
            with jax.named_scope("m_source"):
                source = self.m_source(f0, noise, phase).astype(latent.dtype)
        x = self.conv_pre(latent) + self.cond(speaker)
        factor = 1
        for stage, up in enumerate(self.ups):
            with jax.named_scope(f"ups.{stage}"):
                x, factor = self._upsampled(up, leaky_relu(x, 0.1), factor)
            if self.has_pitch:
                with jax.named_scope(f"noise_convs.{stage}"):
                    at_stage = functools.partial(
                        self._source_at, self.noise_convs[stage], factor
                    )
                    # The folded source is made again for the gradient, one for all stages, instead
                    # of being kept.
                    x = x + jax.checkpoint(at_stage, prevent_cse=False)(source)
            first = stage * self.blocks_per_stage
            blocks = self.resblocks[first : first + self.blocks_per_stage]
            with jax.named_scope(f"resblocks.{stage}"):
                x = self._averaged(blocks, x, factor)
        x = _conv(self.conv_post, leaky_relu(x, 0.01), factor)
        return jnp.tanh(x.reshape(x.shape[0], -1).astype(jnp.float32))

    def _upsampled(self, up: ConvTranspose, x: jax.Array, factor: int) -> tuple[jax.Array, int]:
        """The stage's signal and the time steps that are folded into its channels."""
        x = up(x) if factor == 1 else up.folded(x, factor)
        channels = up.outputs
        time = x.shape[1] * x.shape[2] // channels
        factor = max(self.forms.fold_to // channels, 1)
        while time % factor:
            factor -= 1
        return fold(x, channels, factor), factor

    def _source_at(self, conv: Conv, factor: int, source: jax.Array) -> jax.Array:
        """The source [batch, samples, 1] at a stage's rate, folded as the stage is."""
        if factor * conv.stride == 1 or not self.forms.fold_to:
            return conv(source)
        return conv.folded(fold(source, 1, factor * conv.stride), factor)

    def _averaged(self, blocks: list[ResidualBlock], x: jax.Array, factor: int) -> jax.Array:
        def average(x: jax.Array) -> jax.Array:
            return sum(block(x, factor) for block in blocks) / len(blocks)

        return jax.checkpoint(average)(x) if self.forms.rematerialize else average(x)


def _conv(conv: Conv, x: jax.Array, factor: int) -> jax.Array:
    return conv(x) if factor == 1 else conv.folded(x, factor)


def _source_conv(channels: int, stride: int) -> Conv:
    """Brings the source down to a stage's rate; `stride` is what is left to upsample after that
    stage."""
    if stride == 1:
        return Conv(1, channels, 1)
    return Conv(1, channels, 2 * stride, stride=stride, padding=stride // 2)
