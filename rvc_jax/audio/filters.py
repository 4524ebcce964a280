"""High-pass filters and resampling."""

from __future__ import annotations

import numpy as np
import scipy.signal
import soxr

from rvc_jax.config import PrepareConfig
from rvc_jax.errors import UserError

_ORDER = 5


def high_pass(
    wave: np.ndarray, rate: int, corner_hz: float = PrepareConfig.high_pass_hz
) -> np.ndarray:
    """Remove rumble with a causal fifth-order Butterworth filter, as RVC's preparation does.

    Args:
      wave: [..., samples], any float type.
      rate: in Hz.
      corner_hz: frequency that comes out 3 dB lower; 0 turns the filter off.

    Returns: float32, same shape; computed in float64 as second-order sections, which stay accurate
      where the corner is a thousandth of the sample rate.

    Raises:
      UserError: the corner is impossible at this rate.
    """
    if wave.shape[-1] == 0 or not corner_hz:
        return wave.astype(np.float32)
    sections = high_pass_sections(rate, corner_hz)
    filtered = scipy.signal.sosfilt(sections, wave.astype(np.float64))
    return np.asarray(filtered).astype(np.float32)


def high_pass_zero_phase(
    wave: np.ndarray, rate: int, corner_hz: float = PrepareConfig.high_pass_hz
) -> np.ndarray:
    """Run the same filter forward and backward without delay, as RVC's conversion does.

    The corner comes out 6 dB lower. Arguments and result as in `high_pass`.
    """
    if wave.shape[-1] == 0 or not corner_hz:
        return wave.astype(np.float32)
    sections = high_pass_sections(rate, corner_hz)
    edge = min(3 * (_ORDER + 1), wave.shape[-1] - 1)
    filtered = scipy.signal.sosfiltfilt(sections, wave.astype(np.float64), padlen=edge)
    return filtered.astype(np.float32)


def high_pass_sections(rate: int, corner_hz: float) -> np.ndarray:
    """Make the second-order sections of the high-pass filter: float64 [sections, 6].

    Raises:
      UserError: the corner is impossible at this rate.
    """
    if not 0 < corner_hz < rate / 2:
        raise UserError(
            f"a high-pass filter of {corner_hz:g} Hz is impossible at {rate} Hz; "
            "take 48, or 0 for none"
        )
    sections = scipy.signal.butter(_ORDER, corner_hz, "high", fs=rate, output="sos")
    return np.asarray(sections)


def resampled_length(samples: int, from_rate: int, to_rate: int) -> int:
    """Compute the samples of a wave at another rate: rounded, halves up."""
    return (2 * samples * to_rate + from_rate) // (2 * from_rate)


def resample(wave: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Change the sample rate with soxr at its best quality.

    Args:
      wave: [samples].
      from_rate, to_rate: in Hz.

    Returns: float32 [round(samples * to_rate / from_rate)].
    """
    wave = np.asarray(wave, np.float32)
    if from_rate == to_rate:
        return wave
    length = resampled_length(len(wave), from_rate, to_rate)
    resampled = soxr.resample(wave, from_rate, to_rate, quality="VHQ")[:length]
    return np.pad(resampled, (0, length - len(resampled)))
