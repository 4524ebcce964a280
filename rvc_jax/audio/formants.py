"""Moves formants, the resonances of the vocal tract, without changing the pitch.

The spectral envelope of short frames is found by cepstral smoothing and stretched along the
frequency axis; the ratio of the new one to the old one filters the frame. The envelope is the "true
envelope" of Roebel and Rodet (DAFx 2005): smoothing is repeated on the larger of spectrum and
envelope, until it rests on the harmonics and not between them.
"""

from __future__ import annotations

import numpy as np

from rvc_jax.config import FEATURE_RATE

WINDOW = 1024
"""Samples of a frame, 64 ms."""

HOP = WINDOW // 4

CONTEXT = WINDOW
"""A sample of the result depends on this many samples before and after it."""

_QUEFRENCY = FEATURE_RATE // 500
"""Cepstral coefficients to keep: more would resolve the harmonics of voices up to 500 Hz."""
_SMOOTHINGS = 10
_RELATIVE_FLOOR = 1e-6  # below a spectrum's maximum: digital silence has no logarithm
_MAX_LOG_GAIN = np.log(10 ** (40 / 20))
_FRAMES_AT_ONCE = 2048


def shift_formants(wave: np.ndarray, semitones: float) -> np.ndarray:
    """Move the formants of a recording; the level of every frame stays.

    A long recording can be processed in blocks. A block that begins at a multiple of HOP, with
    CONTEXT samples more on either side, equals the whole in its middle.

    Args:
      wave: [samples] at 16 kHz.
      semitones: up if positive.

    Returns: float32 [samples].
    """
    before = WINDOW
    count = -(-len(wave) // HOP) + WINDOW // HOP
    behind = count * HOP + WINDOW - before - len(wave) + HOP
    padded = np.pad(np.asarray(wave, np.float32), (before, behind))
    window = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    ratio = 2 ** (semitones / 12)
    shifted = np.zeros_like(padded)
    for begin in range(0, len(frames), _FRAMES_AT_ONCE):
        some = frames[begin : begin + _FRAMES_AT_ONCE] * window
        for number, frame in enumerate(_stretch_envelopes(some, ratio) * window, begin):
            shifted[number * HOP : number * HOP + WINDOW] += frame
    return shifted[before : before + len(wave)] / np.float32(np.square(window).sum() / HOP)


def log_envelope(spectrum: np.ndarray) -> np.ndarray:
    """Find the natural logarithm of the spectral envelope of magnitudes [frames, bins]."""
    highest = spectrum.max(axis=-1, keepdims=True)
    floor = np.maximum(highest * _RELATIVE_FLOOR, np.finfo(np.float32).tiny)
    logs = np.log(np.maximum(spectrum, floor))
    smooth = _smooth(logs)
    for _ in range(_SMOOTHINGS):
        smooth = _smooth(np.maximum(logs, smooth))
    return smooth


def _stretch_envelopes(frames: np.ndarray, ratio: float) -> np.ndarray:
    """Stretch the envelopes of windowed frames [frames, WINDOW] by `ratio`, at equal level."""
    spectrum = np.fft.rfft(frames)
    old = log_envelope(np.abs(spectrum))
    bins = np.arange(old.shape[1])
    position = np.minimum(bins / ratio, bins[-1])
    below = np.minimum(position.astype(int), bins[-1] - 1)
    share = position - below
    new = old[:, below] * (1 - share) + old[:, below + 1] * share
    spectrum *= np.exp(np.clip(new - old, -_MAX_LOG_GAIN, _MAX_LOG_GAIN))
    filtered = np.fft.irfft(spectrum)
    power = np.square(filtered).sum(-1, keepdims=True)
    wanted = np.square(frames).sum(-1, keepdims=True)
    return (filtered * np.sqrt(wanted / np.maximum(power, 1e-30))).astype(np.float32)


def _smooth(logs: np.ndarray) -> np.ndarray:
    """Remove the fine structure of logarithms [frames, bins]: cepstra beyond _QUEFRENCY."""
    cepstra = np.fft.irfft(logs)
    cepstra[:, _QUEFRENCY + 1 : -_QUEFRENCY] = 0
    return np.fft.rfft(cepstra).real
