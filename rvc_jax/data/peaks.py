"""The loudest sample of every frame of a recording's slices.

A dataset stores samples as int16 with one scale per split (`data.quantization`). The scale follows
from the loudest sample of the whole split, so it must be known before the first record is written.
Which frames go to which split depends on all sources. So the peaks of every frame are measured
while the recording is open for its features, and kept in the cache beside them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rvc_jax.config import FRAMES_PER_SECOND, PrepareConfig
from rvc_jax.data.cache import make_cache_key
from rvc_jax.data.recording import Recording, read_slice


def peaks_key(sound_key: str) -> str:
    """Return the cache key of a cut's peaks; sound_key: `Analysis.key`."""
    return make_cache_key(sound_key, "peaks")


def measure_peaks(
    recording: Recording, slices: Iterable[tuple[int, int, int]], config: PrepareConfig
) -> np.ndarray:
    """Measure slices as they go into the dataset: float32 [frames of all slices].

    Args:
      recording: the cleaned sound.
      slices: (start, stop, frames) of each, in samples; what is beyond the last frame is ignored.
      config: settings of the preparation.
    """
    hop = recording.rate // FRAMES_PER_SECOND
    peaks = [np.zeros(0, np.float32)]
    for start, stop, frames in slices:
        wave = read_slice(recording, start, stop, config)[: frames * hop]
        peaks.append(np.abs(wave).reshape(frames, hop).max(axis=1))
    return np.concatenate(peaks)
