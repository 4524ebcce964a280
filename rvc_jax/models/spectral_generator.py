"""Decoder that filters a pulse train and noise, frame by frame, in the short-time spectrum (`dec`).

A network at the frame rate predicts, for every frame and frequency, a complex gain of a harmonic
source and a gain of white noise; an inverse short-time Fourier transform makes the waveform. The
sources are those of neural homomorphic vocoding (Liu et al., Interspeech 2020), the transform that
of iSTFTNet (arXiv 2203.02395) and HiFTNet (arXiv 2309.09493), the network that of Vocos
(arXiv 2306.00814). It does most of its work 100 times a second, where HiFi-GAN works at full rate.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rvc_jax.audio.spectrogram import frames, periodic_hann
from rvc_jax.config import AudioConfig, SpectralGeneratorConfig
from rvc_jax.models.convnext import ConvNextBlock, normalize
from rvc_jax.models.generator import sine_cycles
from rvc_jax.models.layers import Linear
from rvc_jax.models.parameters import Normal, declare_parameter
from rvc_jax.models.spectral_sizes import PITCH_FEATURES

REFERENCE_HZ = 200.0
LOWEST_HZ = 50.0
_OVERLAP = 4  # windows over each sample
_SQUARED_WINDOWS = 1.5  # sum of the squared Hann windows over each sample
MAX_LOG_GAIN = 4.0
HARMONIC_OFFSET = -3.0  # log gains of a fresh network: about the level of speech
NOISE_OFFSET = -5.0
TINY_SINE = 1e-4


class SpectralGenerator(nnx.Module):
    """Hidden features and f0 at the frame rate -> waveform."""

    def __init__(self, config: SpectralGeneratorConfig, audio: AudioConfig):
        self.sample_rate = audio.sample_rate
        self.hop = audio.hop
        self.steps = config.steps_per_frame
        self.spectrum = Spectrum(audio.hop // config.steps_per_frame)

        def make_block(channels: int, dilation: int = 1) -> ConvNextBlock:
            return ConvNextBlock(
                channels, config.speaker_channels, config.kernel, dilation, config.expansion
            )

        dilations = config.content_dilations
        self.content_blocks = nnx.List([make_block(config.channels, d) for d in dilations])
        self.pitch = _make_linear(PITCH_FEATURES, config.channels)
        self.frame_blocks = nnx.List(
            [make_block(config.channels) for _ in range(config.frame_blocks)]
        )
        self.to_steps = _make_linear(config.channels, config.step_channels)
        shape = (self.steps, config.step_channels)
        self.step_offsets = declare_parameter(shape, Normal(0.1), (0, 1))
        self.step_blocks = nnx.List(
            [make_block(config.step_channels) for _ in range(config.step_blocks)]
        )
        bins = self.spectrum.bins
        self.gains = Linear(
            config.step_channels, 3 * bins, Normal(0.1 / math.sqrt(config.step_channels))
        )

    def __call__(
        self,
        hidden: jax.Array,
        f0: jax.Array,
        speaker: jax.Array,
        noise: jax.Array,
        mask: jax.Array,
        phase: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the waveform [batch, samples], float32. The network computes in hidden's dtype.

        hidden [batch, frames, channels], f0 [batch, frames] in Hz, speaker [batch, 1, channels],
        noise [batch, samples]: standard normal, mask [batch, frames, 1],
        phase [batch]: cycles of the harmonic source before the first sample.
        """
        x = hidden
        for block in self.content_blocks:
            x = block(x, speaker) * mask
        x = x + self.pitch(describe_pitch(f0).astype(x.dtype))
        for block in self.frame_blocks:
            x = block(x, speaker) * mask
        x = self.to_steps(x)[:, :, None] + self.step_offsets[...].astype(x.dtype)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        for block in self.step_blocks:
            x = block(x, speaker)
        gains = self.gains(normalize(x)).astype(jnp.float32)
        harmonic, angle, noisy = jnp.split(gains, 3, axis=-1)
        harmonic_gain = jnp.exp(jnp.minimum(harmonic + HARMONIC_OFFSET, MAX_LOG_GAIN))
        noise_gain = jnp.exp(jnp.minimum(noisy + NOISE_OFFSET, MAX_LOG_GAIN))
        pulse_real, pulse_imag = self.spectrum.analyze(
            pulse_train(f0, self.sample_rate, self.hop, phase)
        )
        noise_real, noise_imag = self.spectrum.analyze(noise)
        gain_real = harmonic_gain * jnp.cos(angle)
        gain_imag = harmonic_gain * jnp.sin(angle)
        real = gain_real * pulse_real - gain_imag * pulse_imag + noise_gain * noise_real
        imag = gain_real * pulse_imag + gain_imag * pulse_real + noise_gain * noise_imag
        return self.spectrum.synthesize(real, imag)


class Spectrum:
    """Short-time Fourier transform with a Hann window of four hops, and its inverse.

    Both are products with matrices: fast on every chip at this size, and safe on CPUs, where
    transforms may deadlock (`audio.spectrogram.rfft`).
    """

    def __init__(self, hop: int):
        """hop: in samples."""
        self.hop = hop
        self.size = _OVERLAP * hop
        self.bins = self.size // 2 + 1

    def analyze(self, wave: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns real and imaginary part [batch, samples / hop, bins] of wave [batch, samples]."""
        margin = (self.size - self.hop) // 2
        padded = jnp.pad(wave.astype(jnp.float32), ((0, 0), (margin, margin)))
        windowed = frames(padded, self.size, self.hop)
        cosines, sines = make_analysis_matrices(self.size)
        return windowed @ cosines, windowed @ sines

    def synthesize(self, real: jax.Array, imag: jax.Array) -> jax.Array:
        """Returns the wave [batch, steps * hop] of spectra [batch, steps, bins]."""
        cosines, sines = make_synthesis_matrices(self.size)
        windows = real @ cosines + imag @ sines
        batch, steps, _ = windows.shape
        blocks = windows.reshape(batch, steps, _OVERLAP, self.hop)
        shifted = [
            jnp.pad(blocks[:, :, part], ((0, 0), (part, _OVERLAP - 1 - part), (0, 0)))
            for part in range(_OVERLAP)
        ]
        wave = sum(shifted[1:], shifted[0]).reshape(batch, -1)
        margin = (self.size - self.hop) // 2
        return wave[:, margin : margin + steps * self.hop]


@functools.cache
def make_analysis_matrices(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices [size, bins] that window and transform: cosines and sines."""
    angles = 2 * np.pi * np.outer(np.arange(size), np.arange(size // 2 + 1)) / size
    window = periodic_hann(size)[:, None]
    matrices = window * np.array([np.cos(angles), -np.sin(angles)])
    return tuple(matrices.astype(np.float32))


@functools.cache
def make_synthesis_matrices(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices [bins, size] that transform back and window."""
    bins = size // 2 + 1
    angles = 2 * np.pi * np.outer(np.arange(bins), np.arange(size)) / size
    weights = np.full((bins, 1), 2.0 / size)
    weights[[0, -1]] = 1.0 / size
    window = periodic_hann(size) / _SQUARED_WINDOWS
    matrices = weights * window * np.array([np.cos(angles), -np.sin(angles)])
    return tuple(matrices.astype(np.float32))


def pulse_train(
    f0: jax.Array, sample_rate: int, hop: int, phase: jax.Array | None = None
) -> jax.Array:
    """Returns all harmonics of f0 below half the sample rate, equally loud [batch, samples].

    A sum of cosines in closed form (Dirichlet kernel) with the power of one half where voiced,
    zeros elsewhere. Arguments as for `sine_cycles`.
    """
    is_voiced = jnp.repeat(f0 > 0, hop, axis=1)
    hertz = jnp.repeat(jnp.where(f0 > 0, f0, REFERENCE_HZ), hop, axis=1)
    harmonics = jnp.floor(sample_rate / 2 / hertz)
    angle = math.pi * sine_cycles(f0, sample_rate, hop, phase)
    sine = jnp.sin(angle)
    is_peak = jnp.abs(sine) < TINY_SINE
    order = 2 * harmonics + 1
    ratio = jnp.sin(order * angle) / jnp.where(is_peak, 1.0, sine)
    kernel = jnp.where(is_peak, order, ratio)
    # At an f0 above half the sample rate there is no harmonic, and the quotient is 0.
    divisor = jnp.sqrt(jnp.maximum(harmonics, 1.0))
    return jnp.where(is_voiced, (kernel - 1) / 2 / divisor, 0.0)


def describe_pitch(f0: jax.Array) -> jax.Array:
    """Returns f0 [batch, frames] in Hz as features [batch, frames, 10], 0 where unvoiced."""
    is_voiced = (f0 > 0).astype(jnp.float32)[..., None]
    octaves = jnp.log2(jnp.maximum(f0, LOWEST_HZ) / REFERENCE_HZ)[..., None]
    angles = octaves * (math.pi / 2 * 2.0 ** jnp.arange(4))
    features = jnp.concatenate([octaves, jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return jnp.concatenate([is_voiced, features * is_voiced], axis=-1)


def _make_linear(inputs: int, outputs: int) -> Linear:
    return Linear(inputs, outputs, Normal(1.0 / math.sqrt(inputs)))
