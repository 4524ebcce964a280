"""Resonances of the vocal tract (formants) moved, the pitch left alone.

The spectral envelope of short frames is found by cepstral smoothing, stretched along the frequency
axis, and what it differs from the old one is a filter for the frame. The envelope is the "true
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
"""Samples before and after it that a sample of the result depends on."""

_QUEFRENCY = (
    FEATURE_RATE // 500
)  # cepstrum kept: finer would see single harmonics of voices up to 500 Hz
_SMOOTHINGS = 10
_RELATIVE_FLOOR = 1e-6  # of a spectrum's largest value: digital silence has no logarithm
_MAX_LOG_GAIN = np.log(10 ** (40 / 20))
_FRAMES_AT_ONCE = 2048


def shift_formants(wave: np.ndarray, semitones: float) -> np.ndarray:
    """Move the formants of a recording by a number of semitones: float32 [samples] of [samples], at
    16 kHz.

    The level of every frame is kept. A long recording can be treated in blocks: one that begins at
    a multiple of HOP, with REACH samples more on either side, has in its middle what the whole has
    there.
    """
    before = WINDOW
    count = -(-len(wave) // HOP) + WINDOW // HOP
    padded = np.pad(
        np.asarray(wave, np.float32), (before, count * HOP + WINDOW - before - len(wave) + HOP)
    )
    window = np.hanning(WINDOW + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    shifted = np.zeros_like(padded)
    for begin in range(0, len(frames), _FRAMES_AT_ONCE):
        some = (
            _stretch_envelopes(
                frames[begin : begin + _FRAMES_AT_ONCE] * window, 2 ** (semitones / 12)
            )
            * window
        )
        for number, frame in enumerate(some, begin):
            shifted[number * HOP : number * HOP + WINDOW] += frame
    return shifted[before : before + len(wave)] / np.float32(np.square(window).sum() / HOP)


def log_envelope(spectrum: np.ndarray) -> np.ndarray:
    """Natural logarithm of the spectral envelope: [frames, bins] of magnitudes [frames, bins]."""
    floor = np.maximum(
        spectrum.max(axis=-1, keepdims=True) * _RELATIVE_FLOOR, np.finfo(np.float32).tiny
    )
    logs = np.log(np.maximum(spectrum, floor))
    smooth = _smooth(logs)
    for _ in range(_SMOOTHINGS):
        smooth = _smooth(np.maximum(logs, smooth))
    return smooth


def _stretch_envelopes(frames: np.ndarray, ratio: float) -> np.ndarray:
    """Windowed frames [frames, WINDOW] with their envelopes stretched by `ratio`, at the level they
    had."""
    spectrum = np.fft.rfft(frames)
    old = log_envelope(np.abs(spectrum))
    bins = np.arange(old.shape[1])
    lower = np.minimum(bins / ratio, bins[-1])
    whole = np.minimum(lower.astype(int), bins[-1] - 1)
    share = lower - whole
    new = old[:, whole] * (1 - share) + old[:, whole + 1] * share
    spectrum *= np.exp(np.clip(new - old, -_MAX_LOG_GAIN, _MAX_LOG_GAIN))
    filtered = np.fft.irfft(spectrum)
    power = np.square(filtered).sum(-1, keepdims=True)
    before = np.square(frames).sum(-1, keepdims=True)
    return (filtered * np.sqrt(before / np.maximum(power, 1e-30))).astype(np.float32)


def _smooth(logs: np.ndarray) -> np.ndarray:
    """Logarithms [frames, bins] without the fine structure that cepstra have beyond _QUEFRENCY."""
    cepstra = np.fft.irfft(logs)
    cepstra[:, _QUEFRENCY + 1 : -_QUEFRENCY] = 0
    return np.fft.rfft(cepstra).real
