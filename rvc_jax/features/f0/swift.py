"""SwiftF0: a small convolutional pitch detector on log-frequency spectrograms of three resolutions.

Port of the model of the PyPI package swift-f0 0.3.0 (MIT); arXiv 2508.18440 describes the idea.
Layout is [batch, time, frequency, channels].
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
from rvc_jax.features.nn import Parameters, convolution
from rvc_jax.weights import bundled

HOP = 256
"""Samples at 16 kHz between the model's own frames; frame i is centered on sample 256 * i."""
MIN_HZ = 46.875
"""The lowest of the 95 pitch candidates."""
MAX_HZ = 2093.75
"""The highest of the pitch candidates."""
VOICED_CONFIDENCE = 0.5
SILENCE_PEAK = 1e-3
"""Frames with no sample above this are unvoiced; the model was not trained on digital silence."""

_WINDOWS = (1024, 2048, 512)
_DILATIONS = (1, 17, 27, 40, 48, 2)
_SPECTRUM_FLOOR = 1e-8
_FREQUENCIES_USED = 96


class NativePitch(NamedTuple):
    """The model's own frames, each [batch, samples // 256]."""

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
        """Load the bundled weights."""
        weights = bundled.load("swift_f0")
        self.parameters = {name: jnp.asarray(array) for name, array in weights.items()}
        # Features are cached by this hash: its text must not change.
        settings = (MIN_HZ, MAX_HZ, VOICED_CONFIDENCE, SILENCE_PEAK)
        text = f"{bundled.sha256('swift_f0')} {settings}"
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """Find the pitch; see `features.f0.PitchExtractor`."""
        batch = check_batch(audio, lengths)
        return np.asarray(_pitch_at_100_per_second(self.parameters, *batch))

    def native(self, audio: np.ndarray) -> NativePitch:
        """Run the model on audio [batch, samples] at 16 kHz; its own frames, 62.5 a second."""
        samples = jnp.asarray(audio, jnp.float32)
        lengths = jnp.full(samples.shape[0], samples.shape[1])
        return jax.tree.map(np.asarray, detect(self.parameters, samples, lengths))


@functools.partial(jax.jit, static_argnames=("min_hz", "max_hz"))
def detect(
    parameters: Parameters,
    audio: jax.Array,
    lengths: jax.Array,
    min_hz: float = MIN_HZ,
    max_hz: float = MAX_HZ,
) -> NativePitch:
    """Detect pitch between two limits; a frame whose best candidate is outside is unvoiced.

    Args:
      audio: [batch, samples >= 256], zeros behind the end of a row.
      lengths: int [batch], samples of each row, at least 256. Frames behind have no meaning.
      min_hz, max_hz: the limits.
    """
    with jax.default_matmul_precision("float32"):
        spectra = log_spectra(parameters, audio)
        inside = jnp.arange(spectra.shape[1]) < lengths[:, None] // HOP
        inside = inside.astype(spectra.dtype)[..., None, None]
        logits, voicing = _network(parameters, spectra, inside)
    frequencies = parameters["log_frequencies"]
    allowed = (frequencies >= np.log(min_hz) - 1e-6) & (frequencies <= np.log(max_hz) + 1e-6)
    best_is_allowed = allowed[jnp.argmax(logits, axis=-1)]
    confidence = jnp.where(best_is_allowed, jax.nn.sigmoid(voicing), 0.0)
    count = confidence.shape[1]
    framed = jnp.abs(audio[:, : count * HOP]).reshape(audio.shape[0], count, HOP)
    confidence = jnp.where(framed.max(axis=-1) < SILENCE_PEAK, 0.0, confidence)
    pitch = _refine_pitch(jnp.where(allowed, logits, -jnp.inf), frequencies)
    return NativePitch(pitch, confidence, confidence >= VOICED_CONFIDENCE)


def log_spectra(parameters: Parameters, audio: jax.Array) -> jax.Array:
    """Compute the logarithm of three spectrograms, each summed into 128 bands.

    audio: [batch, samples]. Returns: [batch, frames, 128, 3].
    """
    spectra = []
    for window in _WINDOWS:
        padded = jnp.pad(audio, ((0, 0), (window // 2, window // 2)))
        framed = frames(padded, window, HOP)[:, : audio.shape[1] // HOP]
        magnitudes = jnp.abs(rfft(framed * periodic_hann(window)))
        bands = magnitudes @ parameters[f"bands.{window}"]
        spectra.append(jnp.log(bands + _SPECTRUM_FLOOR))
    return jnp.stack(spectra, axis=-1)


def _network(
    parameters: Parameters, spectra: jax.Array, inside: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Run the network.

    Args:
      spectra: [batch, frames, 128, 3].
      inside: [batch, frames, 1, 1], 1 in the frames of a row and 0 behind them.

    Returns: logits of the candidates [batch, frames, 95], and of voicing [batch, frames].
    """

    def convolve_inside(name: str, x: jax.Array) -> jax.Array:
        # Behind its end, a row must look like the convolution's own padding.
        return convolution(parameters, name, x * inside)

    hidden = _hidden(parameters, spectra, inside)
    logits = convolve_inside("pitch", hidden)[..., 0]
    strongest = convolve_inside("voicing.frequency", hidden).max(axis=2)
    level = spectra.mean(axis=(2, 3))
    voicing = jnp.concatenate([strongest, level[..., None]], axis=-1)[:, :, None]
    voicing = jax.nn.relu(convolve_inside("voicing.hidden", voicing))
    return logits, convolve_inside("voicing.out", voicing)[..., 0, 0]


def _hidden(parameters: Parameters, spectra: jax.Array, inside: jax.Array) -> jax.Array:
    """Spectra [batch, frames, 128, 3] -> features of the candidates [batch, frames, 95, 4].

    Inside, the layout is [batch, frequency, frames, channels].
    """
    batch, count, bands, _ = spectra.shape
    inside = inside.swapaxes(1, 2)

    def convolve_bands(name: str, x: jax.Array, dilation: int = 1) -> jax.Array:
        spans_frames = len(parameters[f"{name}.kernel"]) > 1
        if spans_frames:  # behind its end, a row must look like the convolution's own padding
            x = x * inside
        return _frequency_convolution(parameters, name, x, dilation)

    x = jax.nn.relu(convolve_bands("stem", spectra.swapaxes(1, 2)))
    for i, dilation in enumerate(_DILATIONS):
        # The last is dilated in time too: faster with even and odd bands as rows of their own.
        if dilation == 2:
            x = x.reshape(batch, bands // 2, 2, count, -1).swapaxes(1, 2)
            x = x.reshape(2 * batch, bands // 2, count, -1)
            inside = jnp.repeat(inside, 2, axis=0)
            dilation = 1
        inner = jax.nn.relu(convolve_bands(f"blocks.{i}.0", x, dilation))
        x = jax.nn.relu(x + convolve_bands(f"blocks.{i}.1", inner, dilation))
    x = x.reshape(batch, 2, bands // 2, count, -1).swapaxes(1, 2)
    x = x.reshape(batch, bands, count, -1)
    inside = inside[::2]
    # Unlike the others, this one has no padding above: 96 bands become 95 candidates.
    x = jax.nn.relu(convolve_bands("narrow", x[:, :_FREQUENCIES_USED])[:, :-1])
    return x.swapaxes(1, 2)


def _frequency_convolution(
    parameters: Parameters, name: str, x: jax.Array, dilation: int
) -> jax.Array:
    """Convolve x [batch, frequency, frames, channels], dilated along frequency.

    Neighboring frames are computed together, as if they were channels of one: on CPUs, few channels
    cost more than the zeros in such a kernel.
    """
    kernel = parameters[f"{name}.kernel"].swapaxes(0, 1)
    bands, taps, inputs, outputs = kernel.shape
    together = 2 if min(inputs, outputs) > 4 else 4  # as measured
    shifted = [
        jnp.pad(kernel, ((0, 0), (i, together - 1 - i), (0, 0), (0, 0)))
        for i in range(together)
    ]
    margin = dilation * (bands // 2)
    missing = -x.shape[2] % together
    y = jax.lax.conv_general_dilated(
        x,
        jnp.concatenate(shifted, axis=-1),
        (1, together),
        [(margin, margin), (taps // 2, taps // 2 + missing)],
        rhs_dilation=(dilation, 1),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    y = y.reshape(*x.shape[:2], -1, outputs)[:, :, : x.shape[2]]
    return y + parameters[f"{name}.bias"]


def _refine_pitch(scores: jax.Array, log_frequencies: jax.Array) -> jax.Array:
    """Find the pitch between the candidates, in Hz.

    It is the mean of the best candidate and its two neighbors in log frequency, weighted by
    softmax.
    """
    best = jnp.argmax(scores, axis=-1, keepdims=True)
    around = best + jnp.arange(-1, 2)
    padded = jnp.pad(scores, ((0, 0), (0, 0), (1, 1)), constant_values=-jnp.inf)
    weights = jax.nn.softmax(jnp.take_along_axis(padded, around + 1, axis=-1), axis=-1)
    frequencies = log_frequencies[jnp.clip(around, 0, len(log_frequencies) - 1)]
    return jnp.exp((weights * frequencies).sum(axis=-1))


@jax.jit
def _pitch_at_100_per_second(
    parameters: Parameters, audio: jax.Array, lengths: jax.Array
) -> jax.Array:
    native = detect(parameters, audio, lengths)
    # The model has fewer frames: the last one of a row stands for the rest of it.
    last = lengths[:, None] // HOP - 1
    nearest = jnp.minimum(jnp.arange(native.pitch.shape[1]), last)
    pitch = jnp.take_along_axis(native.pitch, nearest, axis=1)
    voiced = jnp.take_along_axis(native.voiced, nearest, axis=1)
    pitch = resample_frames(pitch, voiced, audio.shape[1] // FEATURE_HOP)
    inside = jnp.arange(pitch.shape[1]) < lengths[:, None] // FEATURE_HOP
    return jnp.where(inside, pitch, 0.0)


def resample_frames(pitch: jax.Array, voiced: jax.Array, frames: int) -> jax.Array:
    """Interpolate native frames to 100 a second; between two voiced frames in log frequency.

    Args:
      pitch: Hz [batch, n].
      voiced: bool [batch, n].
      frames: of the result.

    Returns: Hz [batch, frames], 0 where the nearest native frame is unvoiced.
    """
    last = pitch.shape[1] - 1
    position = np.arange(frames) * (FEATURE_HOP / HOP)
    below = np.minimum(np.floor(position).astype(int), last)
    above = np.minimum(below + 1, last)
    nearest = np.minimum(np.floor(position + 0.5).astype(int), last)
    share = np.clip(position - below, 0, 1).astype(np.float32)
    log_pitch = jnp.log(pitch)
    between = log_pitch[:, below] * (1 - share) + log_pitch[:, above] * share
    both_voiced = voiced[:, below] & voiced[:, above]
    result = jnp.where(both_voiced, between, log_pitch[:, nearest])
    return jnp.where(voiced[:, nearest], jnp.exp(result), 0.0)
