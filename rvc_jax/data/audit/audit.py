"""Audit a prepared dataset: its quality in numbers, for `rvc-jax audit`.

Every metric is explained where it is computed: `metrics.signal`, `metrics.fingerprint`,
`features.vad`.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rvc_jax.data.audit.repetition import RepeatedSound, Repetitions
from rvc_jax.data.audit.slice_metrics import (
    CLIPPED_SHARE,
    NOISY_DB,
    SliceMetrics,
    measure_slice,
    rank_faults,
)
from rvc_jax.data.audit.spectra import LongTermSpectra, NarrowFile, Spectrum
from rvc_jax.data.dataset import DatasetInfo, iterate, read_info
from rvc_jax.data.recording import OFFSET_NOTE
from rvc_jax.metrics.fingerprint import Fingerprint
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage.places import Location

WORST = 10
"""How many of the worst slices are shown."""

# Semitones as MIDI counts them, in steps of 10 cents: 49 Hz .. 1.2 kHz.
_PITCH_EDGES = np.arange(310, 870) / 10 - 0.05
_DURATION_EDGES = np.arange(0, 3.61, 0.2)
_LOUDNESS_EDGES = np.arange(-50, 1, 1.0)
_NOISE_EDGES = np.arange(-5, 81, 5.0)


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Counts between edges."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    """Values beyond the edges are in the first or the last count."""


@dataclasses.dataclass(frozen=True)
class Spread:
    """5 %, 50 % and 95 % quantiles; None where nothing could be measured."""

    low: float | None
    median: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class SpeakerAudit:
    """The speech of one speaker."""

    name: str
    minutes: float
    pitch_hz: Spread
    """Pitch of the voiced frames; from 5 to 95 % is what the voice covers."""
    pitch: Histogram
    """Frames per semitone, as MIDI counts them."""


@dataclasses.dataclass(frozen=True)
class WorstSlice:
    """A slice with faults, or near to having one."""

    split: str
    file: str
    start: float
    """Seconds into the file."""
    seconds: float
    severity: float
    """Sum over its faults, each from 1; below 1 nothing is wrong with it."""
    reasons: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Audit:
    """A dataset in numbers; shares are 0..1."""

    dataset: str
    preset: str
    sample_rate: int
    voices: tuple[SpeakerAudit, ...]
    files: int
    source_minutes: float
    speech_minutes: float
    """As preparation counted it: between silences, overlaps of slices once."""
    slices: int
    train_slices: int
    slice_minutes: float
    durations: Histogram
    """Seconds."""
    speech_share: float
    """Share of the slices' time with voice activity."""
    silence_share: float
    voiced_share: float
    """Share of the frames with a pitch."""
    loudness: Histogram
    """LUFS of the slices."""
    loudness_spread: Spread
    signal_to_noise: Histogram
    """dB, of the slices with a pause in them."""
    signal_to_noise_spread: Spread
    noisy_slices: int
    bandwidth_hz: float
    """Frequency that at least a quarter of the speech reaches; 0 without speech."""
    fills_band: bool
    """The speech reaches what the sample rate can hold: it may go on above."""
    spectrum: Spectrum | None
    narrow_files: tuple[NarrowFile, ...]
    clipped_slices: int
    dc_offset: float
    """Largest offset of any slice; full scale is 1."""
    offset_files: tuple[str, ...]
    """What preparation noted on recordings with an offset, which it removed."""
    music_slices: int
    repeated: tuple[RepeatedSound, ...]
    repeated_seconds: float
    """Part of the slices' time that is there at least once before."""
    holdout_in_train_seconds: float
    """Part of the hold-out that is in the training, too."""
    worst: tuple[WorstSlice, ...]
    dropped: dict[str, int]
    """Reason -> how often preparation dropped something for it."""


def audit(path: Location, reporter: Reporter = SILENT) -> Audit:
    """Measure a dataset, record by record: some kilobytes of memory for each.

    Raises:
        UserError: There is no dataset of ours, or it is damaged.
    """
    info = read_info(path)
    records = (
        (split, record) for split in ("train", "holdout") for record in iterate(path, split)
    )
    return measure(info, records, str(path), reporter)


def read_waves(path: Location, slices: Sequence[WorstSlice]) -> list[np.ndarray]:
    """Read the sound of some slices of a dataset: float32 [samples] each."""
    wanted = {(item.split, item.file, item.start): number for number, item in enumerate(slices)}
    waves: dict[int, np.ndarray] = {}
    for split in ("train", "holdout"):
        if not any(item.split == split for item in slices):
            continue
        for record in iterate(path, split):
            number = wanted.get((split, record["source"], float(record["start"])))
            if number is not None:
                waves[number] = record["wave"]
    return [waves[number] for number in range(len(slices))]


def measure(
    info: DatasetInfo,
    records: Iterable[tuple[str, dict[str, Any]]],
    name: str,
    reporter: Reporter = SILENT,
) -> Audit:
    """Measure records.

    Args:
        info: Description of their dataset.
        records: (split, record) of each.
        name: The dataset's name in the audit.
        reporter: Receives the progress.
    """
    total = info.train_slices + info.holdout_slices
    high_pass_hz = float(info.config.get("high_pass_hz", 0.0))
    slices: list[SliceMetrics] = []
    prints: list[Fingerprint] = []
    spectra = LongTermSpectra()
    pitch = np.zeros((len(info.speakers), len(_PITCH_EDGES) - 1), int)
    frames = 0
    for split, record in records:
        item, signature = measure_slice(split, record, info.sample_rate, high_pass_hz)
        slices.append(item)
        prints.append(signature.fingerprint)
        spectra.add(item.file, signature)
        pitch[item.speaker] += _count_pitches(record["f0"])
        frames += len(record["f0"])
        reporter.progress("audit", len(slices), total, item.file)
    narrow = spectra.narrow_files()
    repetitions = Repetitions(slices, prints)
    seconds = np.array([item.seconds for item in slices])
    loudness = [item.loudness for item in slices if item.loudness is not None]
    loudness_spread = _spread(loudness)
    noise = [item.signal_to_noise for item in slices if item.signal_to_noise is not None]
    bandwidth_hz = spectra.bandwidth()
    speakers = zip(info.speakers, info.speaker_minutes, pitch, strict=True)
    return Audit(
        dataset=name,
        preset=info.preset,
        sample_rate=info.sample_rate,
        voices=tuple(_audit_speaker(*speaker) for speaker in speakers),
        files=info.files,
        source_minutes=info.source_minutes,
        speech_minutes=info.speech_minutes,
        slices=len(slices),
        train_slices=info.train_slices,
        slice_minutes=float(seconds.sum() / 60),
        durations=_histogram(seconds, _DURATION_EDGES),
        speech_share=_mean([item.speech for item in slices], seconds),
        silence_share=_mean([item.silence for item in slices], seconds),
        voiced_share=float(pitch.sum() / max(frames, 1)),
        loudness=_histogram(loudness, _LOUDNESS_EDGES),
        loudness_spread=loudness_spread,
        signal_to_noise=_histogram(noise, _NOISE_EDGES),
        signal_to_noise_spread=_spread(noise),
        noisy_slices=sum(value < NOISY_DB for value in noise),
        bandwidth_hz=bandwidth_hz,
        fills_band=bandwidth_hz > 0.9 * info.sample_rate / 2,
        spectrum=spectra.spectrum(),
        narrow_files=tuple(narrow),
        clipped_slices=sum(item.flat_tops > CLIPPED_SHARE for item in slices),
        dc_offset=max((item.dc_offset for item in slices), default=0.0),
        offset_files=tuple(note for note in info.notes if OFFSET_NOTE in note),
        music_slices=sum(item.is_music for item in slices),
        repeated=repetitions.by_file(),
        repeated_seconds=repetitions.seconds,
        holdout_in_train_seconds=repetitions.holdout_in_train_seconds,
        worst=_find_worst(slices, narrow, repetitions, loudness_spread.median),
        dropped=dict(collections.Counter(drop.reason for drop in info.dropped).most_common()),
    )


def _find_worst(
    slices: Sequence[SliceMetrics],
    narrow: Sequence[NarrowFile],
    repetitions: Repetitions,
    loudness: float | None,
) -> tuple[WorstSlice, ...]:
    """Return the slices with the gravest faults; if too few have any, the ones nearest to one."""
    narrow_hz = {item.file: item.bandwidth_hz for item in narrow}
    ranked = []
    for item in slices:
        repeated = repetitions.find_share(item)
        candidates = rank_faults(item, loudness or 0.0, narrow_hz.get(item.file), repeated)
        candidates.sort(reverse=True)
        faults = list(itertools.takewhile(lambda candidate: candidate[0] >= 1, candidates))
        if faults:
            severity = sum(severity for severity, _ in faults)
            reasons = tuple(text for _, text in faults)
        else:
            severity, text = candidates[0]
            reasons = (f"no fault; nearest to one: {text}",)
        ranked.append(
            WorstSlice(item.split, item.file, item.start, item.seconds, severity, reasons)
        )
    ranked.sort(key=lambda item: (-item.severity, item.file, item.start))
    return tuple(ranked[:WORST])


def _audit_speaker(name: str, minutes: float, counts: np.ndarray) -> SpeakerAudit:
    """Summarize a speaker's pitch; counts: frames per 10 cents."""
    centers = (_PITCH_EDGES[:-1] + _PITCH_EDGES[1:]) / 2
    below = np.cumsum(counts)
    spread = Spread(None, None, None)
    if below[-1]:
        semitones = centers[np.searchsorted(below, np.array([0.05, 0.5, 0.95]) * below[-1])]
        spread = Spread(*(440 * 2 ** ((semitones - 69) / 12)).tolist())
    notes = np.round(centers).astype(int)
    first = int(notes[0])
    per_note = np.bincount(notes - first, weights=counts).astype(int)
    edges = tuple(float(note) - 0.5 for note in range(first, first + len(per_note) + 1))
    return SpeakerAudit(name, minutes, spread, Histogram(edges, tuple(per_note.tolist())))


def _count_pitches(f0: np.ndarray) -> np.ndarray:
    """Count the voiced frames per 10 cents."""
    voiced = f0[f0 > 0]
    semitones = np.clip(69 + 12 * np.log2(voiced / 440), _PITCH_EDGES[0], _PITCH_EDGES[-1])
    return np.histogram(semitones, _PITCH_EDGES)[0]


def _histogram(values: Sequence[float] | np.ndarray, edges: np.ndarray) -> Histogram:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return Histogram(tuple(np.round(edges, 3).tolist()), tuple(counts.tolist()))


def _spread(values: Sequence[float]) -> Spread:
    if not len(values):
        return Spread(None, None, None)
    return Spread(*np.percentile(values, [5, 50, 95]).tolist())


def _mean(values: Sequence[float], weights: np.ndarray) -> float:
    return float(np.average(values, weights=weights)) if len(values) and weights.sum() else 0.0
