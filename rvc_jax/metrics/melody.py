"""Does a conversion follow the recording's melody? Measured with a pitch method that no voice is
made with."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.config import FEATURE_HOP, FEATURE_RATE, PITCH_MAX_HZ, PITCH_MIN_HZ

PITCH_METHOD = "pYIN"
_FRAME = 1024


@dataclasses.dataclass(frozen=True)
class PitchTracks:
    """Pitch of a recording and of its conversion: float32 [frames] in Hz at 100 frames a second, 0
    is unvoiced."""

    source: np.ndarray
    converted: np.ndarray

    @property
    def correlation(self) -> float:
        """Pearson's correlation of log f0 over the frames that are voiced in both; NaN if a pitch
        stands still."""
        both = (self.source > 0) & (self.converted > 0)
        curves = np.log(self.source[both]), np.log(self.converted[both])
        if min(len(np.unique(curve)) for curve in curves) < 2:
            return math.nan
        return float(np.corrcoef(*curves)[0, 1])


def track_pitch(
    source: np.ndarray, source_rate: int, converted: np.ndarray, rate: int
) -> PitchTracks:
    """Pitch of two equally long recordings [samples] by probabilistic YIN (as librosa has it)."""
    source_f0 = _pyin(resample(source, source_rate, FEATURE_RATE))
    converted_f0 = _pyin(resample(converted, rate, FEATURE_RATE))
    frames = min(len(source_f0), len(converted_f0))
    return PitchTracks(source_f0[:frames], converted_f0[:frames])


def _pyin(wave: np.ndarray) -> np.ndarray:
    import librosa

    f0, voiced, _ = librosa.pyin(
        wave,
        fmin=PITCH_MIN_HZ,
        fmax=PITCH_MAX_HZ,
        sr=FEATURE_RATE,
        frame_length=_FRAME,
        hop_length=FEATURE_HOP,
    )
    return np.where(voiced, f0, 0.0).astype(np.float32)
