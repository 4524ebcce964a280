"""Level of a wave: the level meter, the normaliser of slices, and the loudness matching of conversions."""

from __future__ import annotations

import numpy as np

from rvc_jax.config import PrepareConfig


def rms(wave: np.ndarray, frame: int, hop: int) -> np.ndarray:
    """Root mean square over centred frames; outside the wave there is silence (like `librosa.feature.rms`).

    Args:
      wave: [samples].
      frame: length of a frame in samples.
      hop: step between frames in samples.

    Returns: float32 [samples // hop + 1]; frame i is centred on sample i * hop.
    """
    padded = np.pad(np.asarray(wave, np.float32), (frame // 2, frame // 2 + frame % 2))
    frames = np.lib.stride_tricks.sliding_window_view(padded, frame)[::hop]
    return np.sqrt(np.einsum("ft,ft->f", frames, frames) / frame)


def normalise(wave: np.ndarray, config: PrepareConfig) -> np.ndarray:
    """Bring the peak of a slice towards `normalise_peak`, keeping some of its own level (RVC's preparation).

    Args:
      wave: [samples] float32.

    Returns: float32 [samples]; digital silence is returned as it is.
    """
    peak = np.abs(wave).max(initial=0.0)
    if peak == 0:
        return wave
    gain = config.normalise_peak * config.normalise_mix / peak + 1 - config.normalise_mix
    return (wave * gain).astype(np.float32)


def match_volume_envelope(
    source: np.ndarray, source_rate: int, target: np.ndarray, target_rate: int, mix: float
) -> np.ndarray:
    """Give a converted voice the loudness of the recording that it was made from (RVC's `change_rms`).

    Both levels are metered in frames of a second every half second and interpolated over the target's samples.

    Args:
      source: [samples] the recording, at source_rate Hz.
      target: [samples] the converted voice, at target_rate Hz; both last equally long.
      mix: 1 returns the target unchanged, 0 follows the recording's loudness wholly.

    Returns: float32, as long as the target.
    """
    if mix == 1 or len(target) == 0 or len(source) == 0:
        return target
    wanted = _envelope(source, source_rate, len(target))
    present = np.maximum(_envelope(target, target_rate, len(target)), 1e-6)
    return (target * (wanted / present) ** (1 - mix)).astype(np.float32)


def _envelope(wave: np.ndarray, rate: int, length: int) -> np.ndarray:
    """Level of the wave at `length` points spread evenly over it; both sides count their samples as intervals."""
    levels = rms(wave, rate // 2 * 2, rate // 2)
    points = (np.arange(length) + 0.5) * (len(levels) / length) - 0.5
    return np.interp(points, np.arange(len(levels)), levels)
