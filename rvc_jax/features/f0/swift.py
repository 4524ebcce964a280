"""SwiftF0: a small convolutional pitch detector on log-frequency spectrograms of three resolutions.

Port of the model of the PyPI package swift-f0 0.3.0 (MIT); the idea is described in arXiv
2508.18440. Layout is [batch, time, frequency, channels].
"""

from __future__ import annotations

import functools
import hashlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.spectrogram import frames, periodic_hann, rfft
from rvc_jax.config import FEATURE_HOP
from rvc_jax.features.framing import check_batch
from rvc_jax.weights import bundled

HOP = 256
"""Samples at 16 kHz between the model's own frames; frame i is centred on sample 256 * i."""
MIN_HZ = 46.875
MAX_HZ = 2093.75
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
        self._params = {
            name: jnp.asarray(array) for name, array in bundled.load("swift_f0").items()
        }
        settings = (MIN_HZ, MAX_HZ, VOICED_CONFIDENCE, SILENCE_PEAK)
        self.fingerprint = hashlib.sha256(
            f"{bundled.sha256('swift_f0')} {settings}".encode()
        ).hexdigest()

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        return np.asarray(_pitch_at_100_per_second(self._params, *check_batch(audio, lengths)))

    def native(self, audio: np.ndarray) -> NativePitch:
        """The model's own frames of audio [batch, samples] at 16 kHz, 62.5 a second."""
        audio = jnp.asarray(audio, jnp.float32)
        lengths = jnp.full(audio.shape[0], audio.shape[1])
        return jax.tree.map(np.asarray, detect(self._params, audio, lengths))


@functools.partial(jax.jit, static_argnames=("min_hz", "max_hz"))
def detect(
    params: Params,
    audio: jax.Array,
    lengths: jax.Array,
    min_hz: float = MIN_HZ,
    max_hz: float = MAX_HZ,
) -> NativePitch:
    """Detect pitch between two limits in audio [batch, samples >= 256]; a pitch outside them is
    unvoiced.

    Rows end at `lengths` [batch], at least 256, with zeros behind. What is said of the frames there
    means nothing.
    """
    with jax.default_matmul_precision("float32"):
        spectra = log_spectra(params, audio)
        inside = jnp.arange(spectra.shape[1]) < lengths[:, None] // HOP
        logits, voicing = _network(
            params, spectra, inside.astype(spectra.dtype)[..., None, None]
        )
    frequencies = params["log_frequencies"]
    allowed = (frequencies >= np.log(min_hz) - 1e-6) & (frequencies <= np.log(max_hz) + 1e-6)
    confidence = jnp.where(allowed[jnp.argmax(logits, axis=-1)], jax.nn.sigmoid(voicing), 0.0)
    frames = confidence.shape[1]
    peaks = jnp.abs(audio[:, : frames * HOP]).reshape(audio.shape[0], frames, HOP).max(axis=-1)
    confidence = jnp.where(peaks < SILENCE_PEAK, 0.0, confidence)
    pitch = _refine_pitch(jnp.where(allowed, logits, -jnp.inf), frequencies)
    return NativePitch(pitch, confidence, confidence >= VOICED_CONFIDENCE)


def log_spectra(params: Params, audio: jax.Array) -> jax.Array:
    """Logarithm of three spectrograms, each summed into 128 bands: [batch, samples] -> [batch,
    frames, 128, 3]."""
    spectra = []
    for window in _WINDOWS:
        padded = jnp.pad(audio, ((0, 0), (window // 2, window // 2)))
        framed = frames(padded, window, HOP)[:, : audio.shape[1] // HOP]
        magnitudes = jnp.abs(rfft(framed * periodic_hann(window)))
        spectra.append(jnp.log(magnitudes @ params[f"bands.{window}"] + _SPECTRUM_FLOOR))
    return jnp.stack(spectra, axis=-1)


def _network(
    params: Params, spectra: jax.Array, inside: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Spectra [batch, frames, 128, 3] -> scores of the candidates [batch, frames, 95], voicing
    [batch, frames].

    `inside` [batch, frames, 1, 1] is 1 in the frames of a row and 0 behind them.
    """

    def convolution(name: str, x: jax.Array) -> jax.Array:
        # Behind its end, a row must look like the convolution's own padding.
        return _convolution(params, name, x * inside)

    hidden = _hidden(params, spectra, inside)
    logits = convolution("pitch", hidden)[..., 0]
    strongest = convolution("voicing.frequency", hidden).max(axis=2)
    level = spectra.mean(axis=(2, 3))
    voicing = jnp.concatenate([strongest, level[..., None]], axis=-1)[:, :, None]
    voicing = jax.nn.relu(convolution("voicing.hidden", voicing))
    return logits, convolution("voicing.out", voicing)[..., 0, 0]


def _hidden(params: Params, spectra: jax.Array, inside: jax.Array) -> jax.Array:
    """Spectra [batch, frames, 128, 3] -> features of the candidates [batch, frames, 95, 4].

    The layout is [batch, frequency, frames, channels].
    """
    batch, frames, bands, _ = spectra.shape
    inside = inside.swapaxes(1, 2)

    def convolution(name: str, x: jax.Array, dilation: int = 1) -> jax.Array:
        if (
            len(params[f"{name}.kernel"]) > 1
        ):  # behind its end, a row must look like the convolution's own padding
            x = x * inside
        return _frequency_convolution(params, name, x, dilation)

    x = jax.nn.relu(convolution("stem", spectra.swapaxes(1, 2)))
    for i, dilation in enumerate(_DILATIONS):
        if (
            dilation == 2
        ):  # the last, in time too: faster with even and odd bands as rows of their own
            x = (
                x.reshape(batch, bands // 2, 2, frames, -1)
                .swapaxes(1, 2)
                .reshape(2 * batch, bands // 2, frames, -1)
            )
            inside = jnp.repeat(inside, 2, axis=0)
            dilation = 1
        inner = jax.nn.relu(convolution(f"blocks.{i}.0", x, dilation))
        x = jax.nn.relu(x + convolution(f"blocks.{i}.1", inner, dilation))
    x = (
        x.reshape(batch, 2, bands // 2, frames, -1)
        .swapaxes(1, 2)
        .reshape(batch, bands, frames, -1)
    )
    inside = inside[::2]
    # Unlike the others, no padding above: 96 bands become 95 candidates.
    x = jax.nn.relu(convolution("narrow", x[:, :_FREQUENCIES_USED])[:, :-1])
    return x.swapaxes(1, 2)


def _frequency_convolution(params: Params, name: str, x: jax.Array, dilation: int) -> jax.Array:
    """Convolution of x [batch, frequency, frames, channels], dilated along frequency.

    Neighbouring frames are computed together, as if they were channels of one: on CPUs, few
    channels cost more than the zeros that such a kernel has.
    """
    kernel = params[f"{name}.kernel"].swapaxes(0, 1)
    bands, taps, inputs, outputs = kernel.shape
    together = 2 if min(inputs, outputs) > 4 else 4  # as measured
    kernel = jnp.concatenate(
        [
            jnp.pad(kernel, ((0, 0), (i, together - 1 - i), (0, 0), (0, 0)))
            for i in range(together)
        ],
        axis=-1,
    )
    missing = -x.shape[2] % together
    y = jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, together),
        [(dilation * (bands // 2),) * 2, (taps // 2, taps // 2 + missing)],
        rhs_dilation=(dilation, 1),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y.reshape(*x.shape[:2], -1, outputs)[:, :, : x.shape[2]] + params[f"{name}.bias"]


def _convolution(params: Params, name: str, x: jax.Array) -> jax.Array:
    """Convolution of x [batch, time, frequency, channels]."""
    kernel = params[f"{name}.kernel"]
    if kernel.ndim == 3:  # over time alone
        kernel = kernel[:, None]
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y + params[f"{name}.bias"]


def _refine_pitch(scores: jax.Array, log_frequencies: jax.Array) -> jax.Array:
    """Hz between candidates: mean of the best one and its two neighbours, weighted by softmax, in
    log frequency."""
    best = jnp.argmax(scores, axis=-1, keepdims=True)
    around = best + jnp.arange(-1, 2)
    padded = jnp.pad(scores, ((0, 0), (0, 0), (1, 1)), constant_values=-jnp.inf)
    weights = jax.nn.softmax(jnp.take_along_axis(padded, around + 1, axis=-1), axis=-1)
    return jnp.exp(
        (weights * log_frequencies[jnp.clip(around, 0, len(log_frequencies) - 1)]).sum(axis=-1)
    )


@jax.jit
def _pitch_at_100_per_second(params: Params, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    native = detect(params, audio, lengths)
    # As the model has fewer frames, the last one of a row stands for what is left of it.
    nearest = jnp.minimum(jnp.arange(native.pitch.shape[1]), lengths[:, None] // HOP - 1)
    pitch, voiced = (
        jnp.take_along_axis(x, nearest, axis=1) for x in (native.pitch, native.voiced)
    )
    pitch = resample_frames(pitch, voiced, audio.shape[1] // FEATURE_HOP)
    return jnp.where(jnp.arange(pitch.shape[1]) < lengths[:, None] // FEATURE_HOP, pitch, 0.0)


def resample_frames(pitch: jax.Array, voiced: jax.Array, frames: int) -> jax.Array:
    """Native frames [batch, n] -> pitch [batch, frames] at 100 a second, 0 where the nearest native
    frame is unvoiced.

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
