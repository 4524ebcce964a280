"""Silero VAD: how likely each moment of a recording is speech.

Port of the 16 kHz model of the PyPI package silero-vad 6.2.3 (MIT) with the state handling of its
streaming wrapper: a short Fourier transform, four convolutions, and an LSTM that remembers what it
has heard.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.spectrogram import periodic_hann, rfft
from rvc_jax.weights import bundled

WINDOW = 512
"""Samples at 16 kHz, 32 ms, that one probability is about."""

_WARM_UP_WINDOWS = 16
_CONTEXT = 64  # samples of the window before that the model sees as well
# windows per call, 4.1 s: a slice of a dataset is one call, and no length is compiled twice
_BLOCK = 128
_HALF = 128  # half a Fourier window, and the step between two of them
_STRIDES = (1, 2, 2, 1)
_KERNEL = 3
_HIDDEN = 128

Params = dict[str, jax.Array]
State = tuple[jax.Array, jax.Array]


def speech_probability(audio16k: np.ndarray) -> np.ndarray:
    """Probability of speech in every 32 ms of a recording, which starts in silence and is followed
    by it.

    Args:
      audio16k: float [samples] at 16 kHz, finite, full scale 1. Any length; memory for the work
          does not depend on it.

    Returns: float32 [ceil(samples / 512)], 0..1.

    Raises:
      ValueError: the audio is not one-dimensional.
    """
    if audio16k.ndim != 1:
        raise ValueError(f"audio must be [samples], not {audio16k.shape}")
    windows = -(-len(audio16k) // WINDOW)
    params = _params()
    state = (jnp.zeros(_HIDDEN), jnp.zeros(_HIDDEN))
    probabilities = []
    context = np.zeros(_CONTEXT, np.float32)
    for first in range(0, len(audio16k), _BLOCK * WINDOW):
        block = np.zeros(_CONTEXT + _BLOCK * WINDOW, np.float32)
        samples = audio16k[first : first + _BLOCK * WINDOW]
        block[:_CONTEXT] = context
        block[_CONTEXT : _CONTEXT + len(samples)] = samples
        context = block[-_CONTEXT:]
        result, state = _detect(params, block, state)
        probabilities.append(np.asarray(result))
    return np.concatenate(probabilities or [np.zeros(0, np.float32)])[:windows]


def speech_probability_in_slice(audio16k: np.ndarray) -> np.ndarray:
    """`speech_probability` of a slice that may begin amid a word.

    The detector needs some 0.1 s to warm up; it hears the slice's first half second backwards
    before.
    """
    before = audio16k[: _WARM_UP_WINDOWS * WINDOW][::-1]
    windows = len(before) // WINDOW
    before = before[len(before) - windows * WINDOW :]
    return speech_probability(np.concatenate([before, audio16k]))[windows:]


@functools.cache
def _params() -> Params:
    return {name: jnp.asarray(array) for name, array in bundled.load("silero_vad").items()}


@jax.jit
def _detect(params: Params, block: jax.Array, state: State) -> tuple[jax.Array, State]:
    """Context and windows [64 + windows * 512] -> probabilities [windows], and the LSTM's state
    after them."""
    with jax.default_matmul_precision("float32"):
        hidden = _window_spectra(block)
        for layer, stride in enumerate(_STRIDES):
            hidden = jax.nn.relu(_convolution(params, f"convolutions.{layer}", hidden, stride))
        hidden, state = _lstm(params, hidden[:, 0], state)
        return jax.nn.sigmoid(jax.nn.relu(hidden) @ params["out.kernel"] + params["out.bias"])[
            :, 0
        ], state


def _window_spectra(block: jax.Array) -> jax.Array:
    """Magnitudes of four half-overlapping Hann windows of 256 samples for each window: [windows, 4,
    129].

    A window begins with its context, and its last 64 samples are reflected behind it.
    """
    windows = block[_CONTEXT:].reshape(-1, WINDOW)
    before = jnp.concatenate([block[None, :_CONTEXT], windows[:-1, -_CONTEXT:]])
    padded = jnp.pad(
        jnp.concatenate([before, windows], axis=1), ((0, 0), (0, _CONTEXT)), mode="reflect"
    )
    halves = padded.reshape(len(windows), -1, _HALF)
    frames = jnp.concatenate([halves[:, :-1], halves[:, 1:]], axis=-1)
    return jnp.abs(rfft(frames * periodic_hann(2 * _HALF)))


def _convolution(params: Params, name: str, x: jax.Array, stride: int) -> jax.Array:
    """Convolution of x [windows, time, channels], as one product: with so few moments that is the
    fastest."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
    taps = jnp.concatenate(
        [padded[:, tap : tap + x.shape[1] : stride] for tap in range(_KERNEL)], axis=-1
    )
    return taps @ params[f"{name}.kernel"] + params[f"{name}.bias"]


def _lstm(params: Params, inputs: jax.Array, state: State) -> tuple[jax.Array, State]:
    """inputs [windows, channels] -> hidden [windows, channels], and (hidden, cell) after the
    last."""

    def step(state: State, projected: jax.Array) -> tuple[State, jax.Array]:
        hidden, cell = state
        gates = projected + hidden @ params["lstm.recurrent.kernel"]
        input_gate, forget_gate, candidate, output_gate = jnp.split(gates, 4)
        cell = jax.nn.sigmoid(forget_gate) * cell + jax.nn.sigmoid(input_gate) * jnp.tanh(
            candidate
        )
        hidden = jax.nn.sigmoid(output_gate) * jnp.tanh(cell)
        return (hidden, cell), hidden

    state, hidden = jax.lax.scan(
        step, state, inputs @ params["lstm.input.kernel"] + params["lstm.bias"]
    )
    return hidden, state
