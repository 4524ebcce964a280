"""A recording as clean mono sound: its slices, and why some of them are dropped."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from rvc_jax.audio import blocks as audio_blocks
from rvc_jax.audio.denoise import reduce_noise
from rvc_jax.audio.filters import resample
from rvc_jax.audio.level import SILENT_PEAK, Level, measure_level
from rvc_jax.audio.loudness import normalize_file, normalize_slice, rms
from rvc_jax.audio.offset import OffsetRemover
from rvc_jax.audio.slicing import slice_recording
from rvc_jax.audio.source_separation import isolate_vocals
from rvc_jax.config import FEATURE_RATE, PrepareConfig
from rvc_jax.features.voice_source import open_voice

MARKS_PER_SECOND = 100
"""Resolution of the marks of damage."""

DC_OFFSET = 0.01
"""From here on an offset is mentioned; full scale is 1."""

OFFSET_NOTE = "a constant offset (DC)"
"""How the note on a removed offset begins, by which the audit finds it."""

_QUIET_PEAK = 10 ** (-50 / 20)
_FULL_SCALE = 0.999  # from here on a sample counts as clipped; 16-bit files end at 0.99997
_MAX_LEVEL = 100.0  # a filter rings on for long after a sample of 1e38


@dataclasses.dataclass(frozen=True)
class Recording:
    """A cut, decoded to mono at the dataset's rate and cleaned, with marks of its damage."""

    wave: np.ndarray
    """float32 [samples], finite. A memmap if it is long: read it with `audio.blocks.read_range`."""
    rate: int
    """Samples per second."""
    broken: np.ndarray
    """bool [10 ms]: some channel has NaN or infinite samples; `wave` is silent there."""
    clipped: np.ndarray
    """float32 [10 ms]: share of samples at full scale in some channel."""
    gain: float = 1.0
    """Factor that normalizing the whole file has applied to `wave`."""
    notes: tuple[str, ...] = ()
    """Where preparation could not do what was asked for."""

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return len(self.wave) / self.rate

    @functools.cached_property
    def level(self) -> Level:
        """Level of `wave`."""
        return measure_level(self.wave, self.rate, _holds_speech, check_quiet=True)


def open_recording(
    path: Path,
    rate: int,
    config: PrepareConfig,
    scratch: Path,
    start: float = 0.0,
    stop: float | None = None,
    gain_db: float = 0.0,
) -> Recording:
    """Decode a file, mix it to mono, resample it, remove rumble and clean it.

    Memory stays flat however long the file is; a scratch file takes four bytes per sample.

    Args:
        path: A file that `audio.reading.decode` reads.
        rate: Samples per second of the result.
        config: Which steps of cleaning to take.
        scratch: An existing folder for scratch files.
        start: Beginning of the cut, in seconds.
        stop: End of the cut, in seconds; None: the end of the file.
        gain_db: Gain, applied before the filter.

    Raises:
        AudioError: As `decode` does; or the cut goes beyond the end of the file.
        UserError: A step's package is missing or the step fails; `scratch` has no room.
    """
    opened = open_voice(
        path,
        start,
        stop,
        track=config.track,
        channel=config.channel,
        # The separation uses where in the stereo image the voice is.
        keep_channels=config.separate_vocals and not config.channel,
    )
    file_rate = opened.rate
    damage = _DamageMarks(file_rate)
    # Marked before anything is computed: filters spread damage and hide it.
    blocks = damage.mark_and_repair(opened.blocks)
    if config.separate_vocals:
        blocks = isolate_vocals(blocks, file_rate, scratch)
    gain = np.float32(10 ** (gain_db / 20))
    mono = (channels.mean(axis=0) * gain for channels in blocks)
    offset = OffsetRemover(file_rate)
    if config.high_pass_hz:
        mono = offset.remove(mono)
    resampled = audio_blocks.resample_blocks(mono, file_rate, rate)
    filtered = audio_blocks.high_pass_blocks(resampled, rate, config.high_pass_hz)
    wave = audio_blocks.collect_blocks(filtered, rate, scratch)
    if config.clean_audio:
        reduce_noise(wave, rate, config.clean_strength)
    file_gain, notes = normalize_file(wave, rate, config)
    notes += _describe_offset(offset.largest)
    recording = Recording(wave, rate, damage.broken, damage.clipped, file_gain)
    notes += _describe_quiet(recording.level.speech / file_gain)
    return dataclasses.replace(recording, notes=(*opened.notes, *notes))


def _describe_offset(offset: float) -> tuple[str, ...]:
    """Return a note on an offset that was removed, if it is large enough to be mentioned."""
    if offset < DC_OFFSET:
        return ()
    return (f"{OFFSET_NOTE} of {offset:.0%} of full scale was removed",)


def _describe_quiet(peak: float) -> tuple[str, ...]:
    """Return a note on a recording whose speech is hardly above the noise of 16-bit samples."""
    if not SILENT_PEAK <= peak < _QUIET_PEAK:
        return ()
    return (
        f"very quiet: its speech peaks at {20 * math.log10(peak):.0f} dB of full scale, and noise "
        "is raised with it; record it louder, or leave it out",
    )


def find_slices(
    recording: Recording, config: PrepareConfig
) -> list[tuple[int, int, str | None]]:
    """Find the slices of a recording: (start, stop, drop reason or None), in samples.

    The slices depend on the recording and the settings alone. Between two silences, slices start
    `chunk_len` - `overlap_len` apart.
    """
    raising = recording.level.raising_gain
    ranges = slice_recording(recording.wave, recording.rate, config, raising)
    if not ranges:
        return [(0, len(recording.wave), "silent")]
    return [
        (start, stop, find_drop_reason(recording, start, stop, config))
        for start, stop in ranges
    ]


def read_slice(
    recording: Recording, start: int, stop: int, config: PrepareConfig
) -> np.ndarray:
    """Read a slice as it goes into the dataset: float32 [stop - start].

    It is normalized if `config` says so per slice.
    """
    wave = audio_blocks.read_range(recording.wave, start, stop)
    return normalize_slice(wave, config) if config.normalization == "post" else wave


def find_drop_reason(
    recording: Recording, start: int, stop: int, config: PrepareConfig
) -> str | None:
    """Return why the samples start..stop are dropped; None if they are good."""
    rate = recording.rate
    if stop - start < max(config.min_slice * rate, 1):
        return f"shorter than {config.min_slice:g} s"
    first_mark = start * MARKS_PER_SECOND // rate
    end_mark = -(-stop * MARKS_PER_SECOND // rate)  # rounded up
    marks = slice(first_mark, end_mark)
    if recording.broken[marks].any():
        return "non-finite samples"
    wave = audio_blocks.read_range(recording.wave, start, stop)
    # The limit holds for the original's level, not for that of the normalized file.
    if np.abs(wave).max() > config.max_peak * recording.gain:
        return "too loud"
    clipped = recording.clipped[marks]
    if clipped.sum() > config.max_clipped * len(clipped):
        return "clipped"
    hop = max(round(config.silence_hop * rate), 1)
    raising = recording.level.raising_gain
    if rms(wave, 4 * hop, hop).max() < 10 ** (config.silence_db / 20) / raising:
        return "silent"
    if config.vad and not _has_speech(wave * np.float32(raising), rate, config):
        return "no speech"
    return None


def _holds_speech(wave: np.ndarray, rate: int) -> bool:
    from rvc_jax.features.vad import has_speech

    return has_speech(wave, rate)


def _has_speech(wave: np.ndarray, rate: int, config: PrepareConfig) -> bool:
    from rvc_jax.features.vad import speech_probability_in_slice

    probability = speech_probability_in_slice(resample(wave, rate, FEATURE_RATE))
    is_speech = probability >= config.vad_threshold
    return bool(is_speech.mean() >= config.vad_min_speech)


class _DamageMarks:
    """Counts broken and clipped samples while blocks pass.

    Args:
        rate: Samples per second of the blocks.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._samples = 0
        # (first mark, samples per mark) of each block
        self._counts: dict[str, list[tuple[int, np.ndarray]]] = {"broken": [], "clipped": []}

    def mark_and_repair(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield blocks [channels, samples] with silence for broken samples and limited levels."""
        for channels in blocks:
            finite = np.isfinite(channels).all(axis=0)
            self._count("broken", ~finite)
            self._count("clipped", (np.abs(channels) >= _FULL_SCALE).any(axis=0))
            self._samples += channels.shape[1]
            yield np.where(finite, np.clip(channels, -_MAX_LEVEL, _MAX_LEVEL), 0)

    @property
    def broken(self) -> np.ndarray:
        """bool [marks]."""
        return self._sum_counts("broken") > 0

    @property
    def clipped(self) -> np.ndarray:
        """float32 [marks]: share of the samples."""
        # First sample of each mark, rounded up; the last mark may be short.
        edges = -(-np.arange(self._marks + 1) * self._rate // MARKS_PER_SECOND)
        lengths = np.diff(np.minimum(edges, self._samples))
        return (self._sum_counts("clipped") / lengths).astype(np.float32)

    @property
    def _marks(self) -> int:
        return -(-self._samples * MARKS_PER_SECOND // self._rate)

    def _count(self, kind: str, is_damaged: np.ndarray | np.bool_) -> None:
        marks = (self._samples + np.flatnonzero(is_damaged)) * MARKS_PER_SECOND // self._rate
        if len(marks):
            self._counts[kind].append((int(marks[0]), np.bincount(marks - marks[0])))

    def _sum_counts(self, kind: str) -> np.ndarray:
        totals = np.zeros(self._marks, np.int64)
        for first, counts in self._counts[kind]:
            totals[first : first + len(counts)] += counts
        return totals
