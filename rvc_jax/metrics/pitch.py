"""Does a conversion do what its source does, at the same moments? Pitch, voicing, and how much
later it comes."""

from __future__ import annotations

import numpy as np

from rvc_jax.audio.loudness import rms
from rvc_jax.config import FEATURE_HOP
from rvc_jax.metrics.melody import PitchTracks

MIN_VOICED_FRAMES = 10
"""Frames, a tenth of a second, that must be voiced in both for their pitch to be compared."""
_GROSS_CENTS = 1200 * np.log2(1.2)
_MAX_DELAY_FRAMES = 50  # frames
# less may be chance
_MIN_GAIN = 0.05
_MIN_CORRELATION = 0.5
_LEVEL_RANGE_DB = 50.0


def estimate_delay(source: np.ndarray, converted: np.ndarray) -> int:
    """Frames of 10 ms by which `converted` comes later than `source`, both [samples] at 16 kHz; at
    most 50 each way.

    The lag at which their levels in dB correlate best; 0 unless that is much, and clearly better
    than no lag.
    """
    levels = [_level_curve(audio) for audio in (source, converted)]
    reach = min(_MAX_DELAY_FRAMES, min(map(len, levels)) // 2)
    by_lag = {lag: _correlate(*_shift(*levels, lag)) for lag in range(-reach, reach + 1)}
    best = max(by_lag, key=by_lag.__getitem__)
    return best if by_lag[best] > max(by_lag[0] + _MIN_GAIN, _MIN_CORRELATION) else 0


def align(
    source: np.ndarray, converted: np.ndarray, delay: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both recordings [samples] at 16 kHz from their common beginning to their common end, without
    the delay."""
    return _shift(source, converted, delay * FEATURE_HOP)


def pitch_figures(melody: PitchTracks) -> dict[str, float]:
    """The figures of pitch among `infer.figures.Figures`; only the voicing where too little is
    voiced in both."""
    source = melody.source
    converted = melody.converted
    both = (source > 0) & (converted > 0)
    figures = {"voicing_error": float(np.mean((source > 0) != (converted > 0)))}
    if both.sum() < MIN_VOICED_FRAMES:
        return figures
    cents = 1200 * np.log2(converted[both].astype(np.float64) / source[both])
    transposition = np.median(cents)
    rest = cents - transposition
    return figures | {
        "f0_correlation": melody.correlation,
        "f0_rmse_cents": float(np.sqrt(np.mean(np.square(rest)))),
        "gross_pitch_errors": float(np.mean(np.abs(rest) > _GROSS_CENTS)),
        "transposition_semitones": float(transposition / 100),
    }


def _level_curve(audio: np.ndarray) -> np.ndarray:
    level = 20 * np.log10(rms(audio, 4 * FEATURE_HOP, FEATURE_HOP) + 1e-9)
    return np.maximum(level, level.max() - _LEVEL_RANGE_DB)


def _shift(first: np.ndarray, second: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """Both over their common length, `second` read `lag` later."""
    first = first[max(-lag, 0) :]
    second = second[max(lag, 0) :]
    length = min(len(first), len(second))
    return first[:length], second[:length]


def _correlate(first: np.ndarray, second: np.ndarray) -> float:
    """-1 where one of them stands still."""
    if min(first.std(), second.std()) < 1e-6:
        return -1.0
    return float(np.corrcoef(first, second)[0, 1])
