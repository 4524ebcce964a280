"""Silero VAD: the probability of speech, for every 32 ms of a recording.

Port of the 16 kHz model of the PyPI package silero-vad 6.2.3 (MIT), with the state handling of its
streaming wrapper: a short Fourier transform, four convolutions, and an LSTM.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.audio.spectrogram import periodic_hann, rfft
from rvc_jax.config import FEATURE_RATE
from rvc_jax.features.nn import LstmState, Parameters, linear, lstm, short_convolution
from rvc_jax.weights import bundled

WINDOW = 512
"""Samples at 16 kHz, 32 ms, that one probability stands for."""

_PROBABILITY = 0.5
_MIN_WINDOWS = 10
_WARM_UP_WINDOWS = 16
_CONTEXT = 64  # samples of the previous window that the model also sees
_BLOCK = 128  # windows per call, 4.1 s: a slice of a dataset is one call of one compiled shape
_HOP = 128  # of the Fourier transform: half its window
_STRIDES = (1, 2, 2, 1)
_HIDDEN = 128


def speech_probability(audio16k: np.ndarray) -> np.ndarray:
    """Compute the probability of speech in every 32 ms of a recording surrounded by silence.

    Args:
      audio16k: float [samples] at 16 kHz, finite, full scale 1. Any length: the memory for the work
        does not depend on it.

    Returns: float32 [ceil(samples / 512)], 0..1.

    Raises:
      ValueError: the audio is not one-dimensional.
    """
    if audio16k.ndim != 1:
        raise ValueError(f"audio must be [samples], not {audio16k.shape}")
    windows = -(-len(audio16k) // WINDOW)
    parameters = _load_parameters()
    state = (jnp.zeros(_HIDDEN), jnp.zeros(_HIDDEN))
    context = np.zeros(_CONTEXT, np.float32)
    probabilities = [np.zeros(0, np.float32)]
    for first in range(0, len(audio16k), _BLOCK * WINDOW):
        samples = audio16k[first : first + _BLOCK * WINDOW]
        block = np.zeros(_CONTEXT + _BLOCK * WINDOW, np.float32)
        block[:_CONTEXT] = context
        block[_CONTEXT : _CONTEXT + len(samples)] = samples
        context = block[-_CONTEXT:]
        result, state = _detect(parameters, block, state)
        probabilities.append(np.asarray(result))
    return np.concatenate(probabilities)[:windows]


def speech_probability_in_slice(audio16k: np.ndarray) -> np.ndarray:
    """Compute `speech_probability` of a slice that may begin in the middle of a word.

    The detector needs about 0.1 s to warm up, so the first half second is played to it backward
    before the slice begins.
    """
    before = audio16k[: _WARM_UP_WINDOWS * WINDOW][::-1]
    windows = len(before) // WINDOW
    before = before[len(before) - windows * WINDOW :]
    return speech_probability(np.concatenate([before, audio16k]))[windows:]


def has_speech(wave: np.ndarray, rate: int) -> bool:
    """Whether there are 0.3 s of speech in some seconds of a wave [samples] at a rate in Hz."""
    probability = speech_probability(resample(wave, rate, FEATURE_RATE))
    return int(np.count_nonzero(probability >= _PROBABILITY)) >= _MIN_WINDOWS


@functools.cache
def _load_parameters() -> Parameters:
    return {name: jnp.asarray(array) for name, array in bundled.load("silero_vad").items()}


@jax.jit
def _detect(
    parameters: Parameters, block: jax.Array, state: LstmState
) -> tuple[jax.Array, LstmState]:
    """Detect speech in a block of windows.

    Args:
      block: context and windows [64 + windows * 512].
      state: of the LSTM, after the windows before.

    Returns: probabilities [windows], and the state after them.
    """
    with jax.default_matmul_precision("float32"):
        hidden = _window_spectra(block)
        for layer, stride in enumerate(_STRIDES):
            hidden = short_convolution(parameters, f"convolutions.{layer}", hidden, stride)
            hidden = jax.nn.relu(hidden)
        hidden, state = lstm(parameters, "lstm", hidden[:, 0], state)
        logits = linear(parameters, "out", jax.nn.relu(hidden))[:, 0]
        return jax.nn.sigmoid(logits), state


def _window_spectra(block: jax.Array) -> jax.Array:
    """Magnitudes of four half-overlapping Hann windows of 256 samples each: [windows, 4, 129].

    A window begins with its context, and its last 64 samples are reflected behind it.
    """
    windows = block[_CONTEXT:].reshape(-1, WINDOW)
    before = jnp.concatenate([block[None, :_CONTEXT], windows[:-1, -_CONTEXT:]])
    joined = jnp.concatenate([before, windows], axis=1)
    padded = jnp.pad(joined, ((0, 0), (0, _CONTEXT)), mode="reflect")
    halves = padded.reshape(len(windows), -1, _HOP)
    frames = jnp.concatenate([halves[:, :-1], halves[:, 1:]], axis=-1)
    return jnp.abs(rfft(frames * periodic_hann(2 * _HOP)))
