"""Samples as int16 with a common scale: how a dataset stores sound.

A sample's value is `scale` times its integer. All slices of a split share one scale, so that the
training step can hold it as a constant.
"""

from __future__ import annotations

import numpy as np

_FULL_SCALE = 32767
_SILENT_PEAK = 1e-9
"""A quieter split is stored as if it were this loud: the scale must not be 0."""


def scale_for_peak(peak: float) -> float:
    """Return the amplitude of 1 in int16, for sound whose loudest sample is `peak`."""
    return max(peak, _SILENT_PEAK) / _FULL_SCALE


def quantize(wave: np.ndarray, scale: float) -> np.ndarray:
    """Round float32 samples [...] to int16 multiples of `scale`."""
    return np.rint(wave / scale).astype(np.int16)


def dequantize(wave: np.ndarray, scale: float) -> np.ndarray:
    """Return stored samples [...] as float32 of full scale 1."""
    return wave.astype(np.float32) * np.float32(scale)
