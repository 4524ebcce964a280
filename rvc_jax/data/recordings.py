"""One file as clean sound, and what is wrong with parts of it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np

from rvc_jax.audio.filters import high_pass, resample
from rvc_jax.audio.io import decode
from rvc_jax.audio.loudness import rms
from rvc_jax.config import PrepareConfig

_FULL_SCALE = 0.999
_ABSURD = 100.0


@dataclasses.dataclass(frozen=True)
class Recording:
    """A file at the rate of the dataset, mono and high-passed, with marks of its original's damage."""

    wave: np.ndarray
    """float32 [samples], finite."""
    rate: int
    broken: np.ndarray
    """bool [original samples]: NaN or infinite in some channel; silence in `wave`."""
    clipped: np.ndarray
    """bool [original samples]: at full scale in some channel."""

    @property
    def seconds(self) -> float:
        return len(self.wave) / self.rate


def read_recording(path: Path, rate: int, config: PrepareConfig) -> Recording:
    """Decode a file, mix it to mono, resample it to `rate` and remove rumble. Raises AudioError as `decode` does."""
    mono, file_rate, broken, clipped = _read_mono(path)
    wave = high_pass(resample(mono, file_rate, rate), rate, config.high_pass_hz)
    return Recording(wave, rate, broken, clipped)


def _read_mono(path: Path) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
    """(samples, rate, broken, clipped) of a file; works in place, for an hour of stereo is more than a gigabyte."""
    channels, rate = decode(path)
    broken = ~np.isfinite(channels).all(axis=0)
    clipped = ((channels >= _FULL_SCALE) | (channels <= -_FULL_SCALE)).any(axis=0)
    channels[:, broken] = 0
    np.clip(channels, -_ABSURD, _ABSURD, out=channels)  # a filter rings on long after a sample of 1e38
    return channels.mean(axis=0), rate, broken, clipped


def drop_reason(recording: Recording, start: int, stop: int, config: PrepareConfig) -> str | None:
    """Why the samples start..stop of a recording are no use, or None."""
    if stop - start < config.min_slice * recording.rate:
        return f"shorter than {config.min_slice:g} s"
    per_sample = len(recording.broken) / len(recording.wave)
    original = slice(math.floor(start * per_sample), math.ceil(stop * per_sample))
    if recording.broken[original].any():
        return "non-finite samples"
    wave = recording.wave[start:stop]
    if np.abs(wave).max() > config.max_peak:
        return "too loud"
    if recording.clipped[original].mean() > config.max_clipped:
        return "clipped"
    hop = max(round(config.silence_hop * recording.rate), 1)
    if rms(wave, 4 * hop, hop).max() < 10 ** (config.silence_db / 20):
        return "silent"
    return None
