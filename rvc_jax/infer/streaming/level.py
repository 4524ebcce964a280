"""The level of the speech in a stream, estimated from what has come in so far."""

from __future__ import annotations

import numpy as np

from rvc_jax.audio.level import NORMAL_PEAK, SILENT_PEAK
from rvc_jax.config import FEATURE_HOP, FRAMES_PER_SECOND

_MIN_VOICED_FRAMES = 5
_DECAY = 10 ** (-1 / 20)
"""Factor by which the estimate falls in a second of quieter voice: 1 dB. It keeps its value in
pauses, so that their noise is never taken for speech."""


class StreamLevel:
    """Follows the peak of the voiced frames of a stream.

    Speech that peaks below -20 dB of full scale is raised to there for the extractors of pitch and
    content, and for the silence gate. Nothing is lowered: a stream of usual level is not changed.
    What is voiced counts alone, so that the noise before the first word does not open the gate.
    """

    def __init__(self) -> None:
        self._peak = 0.0

    @property
    def gate_gain(self) -> float:
        """Factor for the level that the silence gate compares with its threshold."""
        return max(1.0, NORMAL_PEAK / self._peak) if self._peak else 1.0

    def feature_gain(self, audio: np.ndarray) -> float:
        """Return the factor for the extractors' input.

        audio: the window [samples] that they get, which may be louder than all before.
        """
        peak = max(self._peak, float(np.abs(audio).max(initial=0.0)))
        return max(1.0, NORMAL_PEAK / peak) if peak >= SILENT_PEAK else 1.0

    def update(self, audio: np.ndarray, f0: np.ndarray, new_frames: int) -> None:
        """Take in a window.

        Args:
          audio: [samples] at 16 kHz, not raised.
          f0: its pitch [frames] in Hz; 0 is unvoiced.
          new_frames: how many of its last frames were not in a window before.
        """
        voiced = f0 > 0
        if np.count_nonzero(voiced) < _MIN_VOICED_FRAMES:
            return
        count = min(len(voiced), len(audio) // FEATURE_HOP)
        heights = np.abs(audio[: count * FEATURE_HOP]).reshape(count, FEATURE_HOP).max(axis=1)
        peak = float(heights[voiced[:count]].max(initial=0.0))
        if peak < SILENT_PEAK:
            return
        seconds = (
            np.count_nonzero(voiced[-new_frames:]) / FRAMES_PER_SECOND if new_frames else 0
        )
        self._peak = max(peak, self._peak * _DECAY**seconds)
