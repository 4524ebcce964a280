"""One file as clean sound: its slices, and what is wrong with some of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from rvc_jax.audio import blocks as stream
from rvc_jax.audio.denoise import reduce_noise
from rvc_jax.audio.filters import resample
from rvc_jax.audio.loudness import normalize_file, normalize_slice, rms
from rvc_jax.audio.reading import decode_blocks
from rvc_jax.audio.slicing import slice_recording
from rvc_jax.audio.source_separation import isolate_vocals
from rvc_jax.config import FEATURE_RATE, PrepareConfig

MARKS_PER_SECOND = 100
"""Blocks of a recording's time line that its damage is noted for."""

_FULL_SCALE = 0.999
_ABSURD = 100.0


@dataclasses.dataclass(frozen=True)
class Recording:
    """A file, or a cut of it, mono at the rate of the dataset and cleaned, with marks of the
    original's damage."""

    wave: np.ndarray
    """float32 [samples], finite; a long one is a memmap: read it with `stream.read`."""
    rate: int
    broken: np.ndarray
    """bool, one per 10 ms: NaN or infinite samples in some channel; silence in `wave`."""
    clipped: np.ndarray
    """float32, one per 10 ms: share of samples at full scale in some channel."""
    gain: float = 1.0
    """Factor that normalising the whole file has put on the wave."""
    notes: tuple[str, ...] = ()
    """What preparation could not do as it was asked to."""

    @property
    def seconds(self) -> float:
        return len(self.wave) / self.rate


def open_recording(
    path: Path,
    rate: int,
    config: PrepareConfig,
    scratch: Path,
    start: float = 0.0,
    stop: float | None = None,
    gain_db: float = 0.0,
) -> Recording:
    """Decode a file, mix it to mono, resample it to `rate`, remove rumble and clean it as `config`
    says.

    Memory stays flat however long the file is; a folder for scratch files holds four bytes per
    sample.

    Args:
      path: any file that `audio.io.decode` reads.
      rate: in Hz.
      scratch: an existing folder.
      start, stop: the cut that is wanted, in seconds; None is the end of the file.
      gain_db: put on the sound before anything else.

    Raises:
      AudioError: as `decode` does; a cut beyond the end of the file.
      UserError: a cleaning step whose package is not installed or fails; no room in `scratch`.
    """
    file_rate, blocks = decode_blocks(path, start, stop)
    damage = _Damage(file_rate)
    blocks = damage.mended(blocks)
    if config.separate_vocals:
        blocks = isolate_vocals(blocks, file_rate, scratch)
    mono = (channels.mean(axis=0) * np.float32(10 ** (gain_db / 20)) for channels in blocks)
    filtered = stream.high_pass_blocks(
        stream.resample_blocks(mono, file_rate, rate), rate, config.high_pass_hz
    )
    wave = stream.collect_blocks(filtered, rate, scratch)
    if config.clean_audio:
        reduce_noise(wave, rate, config.clean_strength)
    gain, notes = normalize_file(wave, rate, config)
    return Recording(wave, rate, damage.broken, damage.clipped, gain, notes)


def slices(recording: Recording, config: PrepareConfig) -> list[tuple[int, int, str | None]]:
    """Every slice of a recording in order: (start, stop) in samples, and why it is no use, or None.

    The slices depend on the recording and the settings alone. Windows that follow each other in a
    piece start `chunk_len` - `overlap_len` apart.
    """
    cuts = slice_recording(recording.wave, recording.rate, config)
    if not cuts:
        return [(0, len(recording.wave), "silent")]
    return [
        (start, stop, find_drop_reason(recording, start, stop, config)) for start, stop in cuts
    ]


def read_slice(
    recording: Recording, start: int, stop: int, config: PrepareConfig
) -> np.ndarray:
    """The samples start..stop as they go into the dataset: float32, normalised if `config` wants
    that per slice."""
    wave = stream.read_range(recording.wave, start, stop)
    return normalize_slice(wave, config) if config.normalization == "post" else wave


def find_drop_reason(
    recording: Recording, start: int, stop: int, config: PrepareConfig
) -> str | None:
    """Why the samples start..stop of a recording are no use, or None."""
    rate = recording.rate
    if stop - start < max(config.min_slice * rate, 1):
        return f"shorter than {config.min_slice:g} s"
    marks = slice(start * MARKS_PER_SECOND // rate, -(-stop * MARKS_PER_SECOND // rate))
    if recording.broken[marks].any():
        return "non-finite samples"
    wave = stream.read_range(recording.wave, start, stop)
    if np.abs(wave).max() > config.max_peak * recording.gain:
        return "too loud"
    clipped = recording.clipped[marks]
    if clipped.sum() > config.max_clipped * len(clipped):
        return "clipped"
    hop = max(round(config.silence_hop * rate), 1)
    if rms(wave, 4 * hop, hop).max() < 10 ** (config.silence_db / 20):
        return "silent"
    if config.vad and not _has_speech(wave, rate, config):
        return "no speech"
    return None


def _has_speech(wave: np.ndarray, rate: int, config: PrepareConfig) -> bool:
    from rvc_jax.features.vad import speech_probability_in_slice

    speech = (
        speech_probability_in_slice(resample(wave, rate, FEATURE_RATE)) >= config.vad_threshold
    )
    return speech.mean() >= config.vad_min_speech


class _Damage:
    """Notes where samples are broken or clipped while they pass."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._samples = 0
        self._counts: dict[str, list[tuple[int, np.ndarray]]] = {"broken": [], "clipped": []}

    def mended(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The blocks [channels, samples] with silence for what is broken and without absurd
        levels."""
        for channels in blocks:
            finite = np.isfinite(channels).all(axis=0)
            self._count("broken", ~finite)
            self._count("clipped", (np.abs(channels) >= _FULL_SCALE).any(axis=0))
            self._samples += channels.shape[1]
            yield np.where(
                finite, np.clip(channels, -_ABSURD, _ABSURD), 0
            )  # a filter rings on after a 1e38

    @property
    def broken(self) -> np.ndarray:
        return self._totals("broken") > 0

    @property
    def clipped(self) -> np.ndarray:
        edges = -(
            -np.arange(self._marks + 1) * self._rate // MARKS_PER_SECOND
        )  # first samples of the blocks
        return (self._totals("clipped") / np.diff(np.minimum(edges, self._samples))).astype(
            np.float32
        )

    @property
    def _marks(self) -> int:
        return -(-self._samples * MARKS_PER_SECOND // self._rate)

    def _count(self, kind: str, marked: np.ndarray) -> None:
        marks = (self._samples + np.flatnonzero(marked)) * MARKS_PER_SECOND // self._rate
        if len(marks):
            self._counts[kind].append((int(marks[0]), np.bincount(marks - marks[0])))

    def _totals(self, kind: str) -> np.ndarray:
        totals = np.zeros(self._marks, np.int64)
        for first, counts in self._counts[kind]:
            totals[first : first + len(counts)] += counts
        return totals
