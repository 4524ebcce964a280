"""SwiftF0: a small convolutional pitch detector on log-frequency spectrograms of three resolutions.

Port of the model of the PyPI package swift-f0 0.3.0 (MIT); the idea is described in arXiv 2508.18440. Layout is
[batch, time, frequency, channels].
"""

from __future__ import annotations

import functools
import hashlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.config import CONTENT_HOP, FEATURE_HOP
from rvc_jax.weights import bundled

HOP = 256
"""Samples at 16 kHz between the model's own frames; frame i is centred on sample 256 * i."""
MIN_HZ, MAX_HZ = 46.875, 2093.75
"""The band of the 95 pitch candidates."""
VOICED_CONFIDENCE = 0.5
SILENCE_PEAK = 1e-3
"""Frames with no sample above this are unvoiced; the model has never seen digital silence."""

_WINDOWS = (1024, 2048, 512)
_DILATIONS = (1, 17, 27, 40, 48, 2)
_SPECTRUM_FLOOR = 1e-8
_FREQUENCIES_USED = 96

Params = dict[str, jax.Array]


class NativePitch(NamedTuple):
    """What the model says of each of its frames, [batch, samples // 256]."""

    pitch: jax.Array
    """Hz, also where unvoiced."""
    confidence: jax.Array
    """0..1."""
    voiced: jax.Array
    """bool."""


class SwiftPitch:
    """The pitch extractor "swift"; see `features.f0.PitchExtractor`."""

    name = "swift"

    def __init__(self) -> None:
        self._params = {name: jnp.asarray(array) for name, array in bundled.load("swift_f0").items()}
        settings = (MIN_HZ, MAX_HZ, VOICED_CONFIDENCE, SILENCE_PEAK)
        self.fingerprint = hashlib.sha256(f"{bundled.sha256('swift_f0')} {settings}".encode()).hexdigest()

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        if audio.ndim != 2 or audio.shape[1] % CONTENT_HOP:
            raise ValueError(f"audio must be [batch, multiple of {CONTENT_HOP}], not {audio.shape}")
        return np.asarray(_pitch_at_100_per_second(self._params, jnp.asarray(audio, jnp.float32)))

    def native(self, audio: np.ndarray) -> NativePitch:
        """The model's own frames of audio [batch, samples] at 16 kHz, 62.5 a second."""
        return jax.tree.map(np.asarray, detect(self._params, jnp.asarray(audio, jnp.float32)))


@functools.partial(jax.jit, static_argnames=("min_hz", "max_hz"))
def detect(params: Params, audio: jax.Array, min_hz: float = MIN_HZ, max_hz: float = MAX_HZ) -> NativePitch:
    """Detect pitch between two limits in audio [batch, samples >= 256]; a pitch outside them is unvoiced."""
    with jax.default_matmul_precision("float32"):
        spectra = log_spectra(params, audio)
        logits, voicing = _network(params, spectra)
    frequencies = params["log_frequencies"]
    allowed = (frequencies >= np.log(min_hz) - 1e-6) & (frequencies <= np.log(max_hz) + 1e-6)
    confidence = jnp.where(allowed[jnp.argmax(logits, axis=-1)], jax.nn.sigmoid(voicing), 0.0)
    frames = confidence.shape[1]
    peaks = jnp.abs(audio[:, : frames * HOP]).reshape(audio.shape[0], frames, HOP).max(axis=-1)
    confidence = jnp.where(peaks < SILENCE_PEAK, 0.0, confidence)
    pitch = _refined_pitch(jnp.where(allowed, logits, -jnp.inf), frequencies)
    return NativePitch(pitch, confidence, confidence >= VOICED_CONFIDENCE)


def log_spectra(params: Params, audio: jax.Array) -> jax.Array:
    """Logarithm of three spectrograms, each summed into 128 bands: [batch, samples] -> [batch, frames, 128, 3]."""
    frames = audio.shape[1] // HOP
    spectra = []
    for window in _WINDOWS:
        blocks = jnp.pad(audio, ((0, 0), (window // 2, window // 2)))[:, : frames * HOP + window - HOP]
        blocks = blocks.reshape(audio.shape[0], -1, HOP)
        framed = jnp.concatenate([blocks[:, i : i + frames] for i in range(window // HOP)], axis=-1)
        magnitudes = jnp.abs(jnp.fft.rfft(framed * np.hanning(window + 1)[:-1].astype(np.float32)))
        spectra.append(jnp.log(magnitudes @ params[f"bands.{window}"] + _SPECTRUM_FLOOR))
    return jnp.stack(spectra, axis=-1)


def _network(params: Params, spectra: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Spectra [batch, frames, 128, 3] -> scores of the candidates [batch, frames, 95], voicing [batch, frames]."""
    hidden = jax.nn.relu(_convolution(params, "stem", spectra))
    for i, dilation in enumerate(_DILATIONS):
        inner = jax.nn.relu(_convolution(params, f"blocks.{i}.0", hidden, dilation))
        hidden = jax.nn.relu(hidden + _convolution(params, f"blocks.{i}.1", inner, dilation))
    # No padding above: 96 bands become 95 candidates.
    hidden = jnp.pad(hidden[:, :, :_FREQUENCIES_USED], ((0, 0), (1, 1), (1, 0), (0, 0)))
    hidden = jax.nn.relu(_convolution(params, "narrow", hidden, padding="VALID"))
    logits = _convolution(params, "pitch", hidden)[..., 0]
    strongest = _convolution(params, "voicing.frequency", hidden).max(axis=2)
    level = spectra.mean(axis=(2, 3))
    voicing = jnp.concatenate([strongest, level[..., None]], axis=-1)[:, :, None]
    voicing = jax.nn.relu(_convolution(params, "voicing.hidden", voicing))
    return logits, _convolution(params, "voicing.out", voicing)[..., 0, 0]


def _convolution(params: Params, name: str, x: jax.Array, dilation: int = 1, padding: str = "SAME") -> jax.Array:
    """Convolution of x [batch, time, frequency, channels], dilated along frequency."""
    kernel = params[f"{name}.kernel"]
    if kernel.ndim == 3:  # over time alone
        kernel = kernel[:, None]
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, rhs_dilation=(1, dilation), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y + params[f"{name}.bias"]


def _refined_pitch(scores: jax.Array, log_frequencies: jax.Array) -> jax.Array:
    """Hz between candidates: mean of the best one and its two neighbours, weighted by softmax, in log frequency."""
    best = jnp.argmax(scores, axis=-1, keepdims=True)
    around = best + jnp.arange(-1, 2)
    padded = jnp.pad(scores, ((0, 0), (0, 0), (1, 1)), constant_values=-jnp.inf)
    weights = jax.nn.softmax(jnp.take_along_axis(padded, around + 1, axis=-1), axis=-1)
    return jnp.exp((weights * log_frequencies[jnp.clip(around, 0, len(log_frequencies) - 1)]).sum(axis=-1))


@jax.jit
def _pitch_at_100_per_second(params: Params, audio: jax.Array) -> jax.Array:
    native = detect(params, audio)
    return resample_frames(native.pitch, native.voiced, audio.shape[1] // FEATURE_HOP)


def resample_frames(pitch: jax.Array, voiced: jax.Array, frames: int) -> jax.Array:
    """Native frames [batch, n] -> pitch [batch, frames] at 100 a second, 0 where the nearest native frame is unvoiced.

    Between two voiced frames pitch runs straight in log frequency.
    """
    last = pitch.shape[1] - 1
    position = np.arange(frames) * (FEATURE_HOP / HOP)
    below = np.minimum(np.floor(position).astype(int), last)
    above = np.minimum(below + 1, last)
    nearest = np.minimum(np.floor(position + 0.5).astype(int), last)
    share = np.clip(position - below, 0, 1).astype(np.float32)
    log_pitch = jnp.log(pitch)
    between = log_pitch[:, below] * (1 - share) + log_pitch[:, above] * share
    result = jnp.where(voiced[:, below] & voiced[:, above], between, log_pitch[:, nearest])
    return jnp.where(voiced[:, nearest], jnp.exp(result), 0.0)
