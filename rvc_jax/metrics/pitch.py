"""Pitch of rendered speech compared with that of its target: errors, correlation and delay.

`pitch_errors` is the one definition of pitch and voicing errors. Training's evaluation applies it
to the hold-out, `evaluate` to conversions.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.audio.loudness import rms
from rvc_jax.config import FEATURE_HOP, FEATURE_RATE, PITCH_MAX_HZ, PITCH_MIN_HZ

PITCH_METHOD = "pYIN"
"""Used by `track_pitch`; no voice is trained with it, so it favors none."""
MIN_VOICED_FRAMES = 10
"""Frames, a tenth of a second, that must be voiced in both for their pitch to be compared."""
GROSS_CENTS = 1200 * math.log2(1.2)
"""A pitch more than 20 % off is a gross error (Chu and Alwan 2009): mostly a wrong octave."""

_PYIN_FRAME = 1024
_MAX_DELAY_FRAMES = 50
_LEVEL_RANGE_DB = 50.0
# A delay is reported if the levels correlate at least this well, and this much better than
# without a delay. Less may be chance.
_MIN_CORRELATION = 0.5
_MIN_GAIN = 0.05


def pitch_errors(
    rendered: np.ndarray,
    target: np.ndarray,
    valid: np.ndarray | None = None,
    ignore_transposition: bool = False,
) -> dict[str, float]:
    """Compare two pitch curves frame by frame.

    After W. Chu and A. Alwan, Reducing F0 frame error of F0 tracking algorithms under noisy
    conditions with an unvoiced/voiced classification frontend, ICASSP 2009.

    Args:
      rendered, target: f0 in Hz, 0 = unvoiced; of equal shape.
      valid: bool, same shape: the frames to compare; all if not given.
      ignore_transposition: subtract the median difference first, so that a constant transposition
        does not count.

    Returns:
      `voicing_error`: share of frames voiced in only one of the two. NaN without frames.
      `f0_median_cents`: median absolute difference over the frames voiced in both.
      `gross_pitch_errors`: share of these frames that are more than 20 % off.
      `f0_rmse_cents`: root mean square difference over those that are not; a single wrong octave
        would outweigh a hundred frames.
      Fewer than `MIN_VOICED_FRAMES` voiced in both: `voicing_error` alone. Nothing but gross
      errors: no `f0_rmse_cents`.
    """
    if valid is None:
        valid = np.ones(target.shape, bool)
    rendered_voiced = rendered[valid] > 0
    target_voiced = target[valid] > 0
    errors = {"voicing_error": float(np.mean(rendered_voiced != target_voiced))}
    cents = _cents_between(rendered[valid], target[valid])
    if len(cents) < MIN_VOICED_FRAMES:
        return errors
    if ignore_transposition:
        cents = cents - np.median(cents)
    distance = np.abs(cents)
    is_gross = distance > GROSS_CENTS
    errors["f0_median_cents"] = float(np.median(distance))
    errors["gross_pitch_errors"] = float(np.mean(is_gross))
    if not is_gross.all():
        errors["f0_rmse_cents"] = float(np.sqrt(np.mean(np.square(distance[~is_gross]))))
    return errors


def _cents_between(rendered: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Difference in cents of the frames voiced in both: float64 [voiced frames]."""
    both = (rendered > 0) & (target > 0)
    return 1200 * np.log2(rendered[both].astype(np.float64) / target[both])


@dataclasses.dataclass(frozen=True)
class PitchTracks:
    """f0 of a recording and of its conversion: float32 [frames] in Hz at 100 frames a second.

    0 is unvoiced.
    """

    source: np.ndarray
    converted: np.ndarray

    @property
    def correlation(self) -> float:
        """Pearson's correlation of log f0 over the frames voiced in both.

        NaN if one of the two is constant.
        """
        both = (self.source > 0) & (self.converted > 0)
        curves = (np.log(self.source[both]), np.log(self.converted[both]))
        if min(len(np.unique(curve)) for curve in curves) < 2:
            return math.nan
        return float(np.corrcoef(*curves)[0, 1])


def track_pitch(
    source: np.ndarray, source_rate: int, converted: np.ndarray, rate: int
) -> PitchTracks:
    """Find the pitch of a recording and of its conversion with probabilistic YIN, by librosa.

    Args:
      source, converted: float [samples], at `source_rate` and `rate` Hz, of equal duration.

    Returns: both over their common length.
    """
    source_f0 = _pyin(resample(source, source_rate, FEATURE_RATE))
    converted_f0 = _pyin(resample(converted, rate, FEATURE_RATE))
    frames = min(len(source_f0), len(converted_f0))
    return PitchTracks(source_f0[:frames], converted_f0[:frames])


def _pyin(wave: np.ndarray) -> np.ndarray:
    """Samples at 16 kHz -> f0 float32 [frames], 0 = unvoiced."""
    import librosa

    f0, voiced, _ = librosa.pyin(
        wave,
        fmin=PITCH_MIN_HZ,
        fmax=PITCH_MAX_HZ,
        sr=FEATURE_RATE,
        frame_length=_PYIN_FRAME,
        hop_length=FEATURE_HOP,
    )
    return np.where(voiced, f0, 0.0).astype(np.float32)


def compare_tracks(tracks: PitchTracks) -> dict[str, float]:
    """Measure how a conversion follows its source's pitch, apart from a constant transposition.

    Returns: `pitch_errors` without the transposition, `transposition_semitones` and
      `f0_correlation`, as fields of `conversion_table.ConversionMetrics`; `voicing_error` alone if
      too few frames are voiced in both.
    """
    metrics = pitch_errors(tracks.converted, tracks.source, ignore_transposition=True)
    if "f0_median_cents" not in metrics:
        return metrics
    transposition = np.median(_cents_between(tracks.converted, tracks.source))
    metrics["transposition_semitones"] = float(transposition / 100)
    metrics["f0_correlation"] = tracks.correlation
    return metrics


def estimate_delay(source: np.ndarray, converted: np.ndarray) -> int:
    """Estimate how much later a conversion comes than its source, by their level curves.

    Args:
      source, converted: float [samples] at 16 kHz.

    Returns: the lag in frames of 10 ms, -50..50, at which the levels in dB correlate best; 0 unless
      they correlate well there, and clearly better than without a lag.
    """
    first = _level_curve(source)
    second = _level_curve(converted)
    furthest = min(_MAX_DELAY_FRAMES, min(len(first), len(second)) // 2)
    by_lag = {
        lag: _correlate(*_shift(first, second, lag)) for lag in range(-furthest, furthest + 1)
    }
    best = max(by_lag, key=by_lag.__getitem__)
    return best if by_lag[best] > max(by_lag[0] + _MIN_GAIN, _MIN_CORRELATION) else 0


def align(
    source: np.ndarray, converted: np.ndarray, delay: int
) -> tuple[np.ndarray, np.ndarray]:
    """Remove a delay in frames; both recordings [samples] at 16 kHz over their common length."""
    return _shift(source, converted, delay * FEATURE_HOP)


def _level_curve(audio: np.ndarray) -> np.ndarray:
    """Level in dB at 100 frames a second, limited to 50 dB below the loudest frame."""
    level = 20 * np.log10(rms(audio, 4 * FEATURE_HOP, FEATURE_HOP) + 1e-9)
    return np.maximum(level, level.max() - _LEVEL_RANGE_DB)


def _shift(first: np.ndarray, second: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """Both over their common length, `second` read `lag` later."""
    first = first[max(-lag, 0) :]
    second = second[max(lag, 0) :]
    length = min(len(first), len(second))
    return first[:length], second[:length]


def _correlate(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation; -1 where one of the two is constant."""
    if min(first.std(), second.std()) < 1e-6:
        return -1.0
    return float(np.corrcoef(first, second)[0, 1])
