"""The quality of a prepared dataset in numbers, for `rvc-jax audit`.

Every measure is explained where it is computed: `audio.quality`, `audio.fingerprint`,
`features.vad`.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rvc_jax.data.audit import slice_metrics
from rvc_jax.data.audit.slice_metrics import (
    SliceMetrics,
    SliceSignature,
    measure_slice,
    rank_faults,
)
from rvc_jax.data.dataset import DatasetInfo, iterate, read_info
from rvc_jax.metrics.fingerprint import FRAMES_PER_SECOND as PRINTS_PER_SECOND
from rvc_jax.metrics.fingerprint import Fingerprint, Repeat, find_repeats
from rvc_jax.metrics.signal import FRAMES_PER_SECOND, bandwidth
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage.places import Location

WORST = 10
"""Slices that are shown."""

_PITCH_EDGES = (
    np.arange(310, 870) / 10 - 0.05
)  # semitones of MIDI in steps of 10 cents: 49 Hz .. 1.2 kHz
_DURATION_EDGES = np.arange(0, 3.61, 0.2)
_LOUDNESS_EDGES = np.arange(-50, 1, 1.0)
_NOISE_EDGES = np.arange(-5, 81, 5.0)
_SPECTRUM_POINTS = 192
_LEAST_FILE_SPEECH = 5.0  # seconds that a file's bandwidth is told from


@dataclasses.dataclass(frozen=True)
class Histogram:
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    """What lies beyond the edges is counted in the first or the last."""


@dataclasses.dataclass(frozen=True)
class Spread:
    """5 %, 50 % and 95 % of something; None where nothing could be measured."""

    low: float | None
    median: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class SpeakerAudit:
    """One speaker."""

    name: str
    minutes: float
    pitch_hz: Spread
    """Over the voiced frames; the span between 5 and 95 % is what the voice covers."""
    pitch: Histogram
    """Frames per semitone of MIDI."""


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """Long-term spectra in dB of the speech's total power."""

    hz: tuple[float, ...]
    speech: tuple[float, ...]
    pause: tuple[float, ...] | None


@dataclasses.dataclass(frozen=True)
class NarrowFile:
    """A file whose speech ends well below the rest of the dataset's."""

    file: str
    speech_seconds: float
    bandwidth_hz: float


@dataclasses.dataclass(frozen=True)
class RepeatedSound:
    """Two files, or two places of one, with the same sound."""

    first: str
    first_at: float
    """Seconds into the file."""
    second: str
    second_at: float
    seconds: float
    """How long, over all slices of the two that share some."""


@dataclasses.dataclass(frozen=True)
class WorstSlice:
    split: str
    file: str
    start: float
    seconds: float
    severity: float
    """The sum of its faults, each from 1; below 1 nothing is wrong with it."""
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
    """Of the slices' time, by the detector of voice activity."""
    silence_share: float
    voiced_share: float
    """Of the frames: those with a pitch."""
    loudness: Histogram
    """LUFS of the slices."""
    loudness_spread: Spread
    signal_to_noise: Histogram
    """dB, of the slices with a pause in them."""
    signal_to_noise_spread: Spread
    noisy_slices: int
    bandwidth_hz: float
    """What at least a quarter of the speech reaches; 0 if none was heard."""
    fills_band: bool
    """The speech reaches up to what the sample rate can hold: it may go on above."""
    spectrum: Spectrum | None
    narrow_files: tuple[NarrowFile, ...]
    clipped_slices: int
    dc_offset: float
    """The largest of any slice; 1 is full scale."""
    music_slices: int
    repeated: tuple[RepeatedSound, ...]
    repeated_seconds: float
    """Of the slices' time: what is there at least once before."""
    holdout_in_train_seconds: float
    """Of the hold-out: what the training hears as well."""
    worst: tuple[WorstSlice, ...]
    dropped: dict[str, int]
    """Reason -> how often preparation left something out for it."""


def audit(path: Location, reporter: Reporter = SILENT) -> Audit:
    """Measure a dataset, one record after the other: memory holds some kilobytes for each.

    Raises:
      UserError: it is no dataset of ours, or damaged.
    """
    info = read_info(path)
    records = (
        (split, record) for split in ("train", "holdout") for record in iterate(path, split)
    )
    return measure(info, records, str(path), reporter)


def read_waves(path: Location, slices: Sequence[WorstSlice]) -> list[np.ndarray]:
    """The sound of some slices of a dataset, float32 [samples] each."""
    wanted = {(item.split, item.file, item.start): number for number, item in enumerate(slices)}
    waves: dict[int, np.ndarray] = {}
    for split in {item.split for item in slices}:
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
    """The audit of (split, record) pairs; the description of their dataset tells what they are."""
    total = info.train_slices + info.holdout_slices
    high_pass_hz = float(info.config.get("high_pass_hz", 0.0))
    slices: list[SliceMetrics] = []
    prints: list[Fingerprint] = []
    bands = _Bands()
    pitch = np.zeros((len(info.speakers), len(_PITCH_EDGES) - 1), int)
    frames = 0
    for split, record in records:
        item, sound = measure_slice(split, record, info.sample_rate, high_pass_hz)
        slices.append(item)
        prints.append(sound.fingerprint)
        bands.add(item.file, sound)
        pitch[item.speaker] += _pitch_counts(record["f0"])
        frames += len(record["f0"])
        reporter.progress("audit", len(slices), total, item.file)
    narrow = bands.narrow_files()
    repeated = _Repeated(slices, prints)
    seconds = np.array([item.seconds for item in slices])
    loudness = [item.loudness for item in slices if item.loudness is not None]
    noise = [item.signal_to_noise for item in slices if item.signal_to_noise is not None]
    reach = bands.bandwidth()
    return Audit(
        dataset=name,
        preset=info.preset,
        sample_rate=info.sample_rate,
        voices=tuple(
            _voice(*voice)
            for voice in zip(info.speakers, info.speaker_minutes, pitch, strict=True)
        ),
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
        loudness_spread=_spread(loudness),
        signal_to_noise=_histogram(noise, _NOISE_EDGES),
        signal_to_noise_spread=_spread(noise),
        noisy_slices=sum(value < slice_metrics.NOISY_DB for value in noise),
        bandwidth_hz=reach,
        fills_band=reach > 0.9 * info.sample_rate / 2,
        spectrum=bands.spectrum(),
        narrow_files=tuple(narrow),
        clipped_slices=sum(item.flat_tops > slice_metrics.CLIPPED_SHARE for item in slices),
        dc_offset=max((item.dc_offset for item in slices), default=0.0),
        music_slices=sum(item.is_music for item in slices),
        repeated=repeated.by_file(),
        repeated_seconds=sum(repeated.seconds.values()),
        holdout_in_train_seconds=repeated.holdout_in_train_seconds,
        worst=_worst(
            slices,
            {item.file: item.bandwidth_hz for item in narrow},
            repeated,
            _spread(loudness).median,
        ),
        dropped=dict(collections.Counter(drop.reason for drop in info.dropped).most_common()),
    )


class _Bands:
    """Long-term spectra of speech and pauses, of every file. Add all slices, then ask."""

    def __init__(self) -> None:
        self._spectra: dict[str, np.ndarray] = {}
        self._frames: dict[str, np.ndarray] = collections.defaultdict(lambda: np.zeros(2, int))

    def add(self, file: str, sound: SliceSignature) -> None:
        self._spectra[file] = self._spectra.get(file, 0) + sound.spectra.astype(np.float32)
        self._frames[file] += sound.spectra_frames

    def bandwidth(self) -> float:
        """What a quarter of the speech reaches, in Hz; 0 without speech.

        By files, for the noise of one of them would hide what others hold above it; where most
        files have too little speech to tell, of all together.
        """
        reaches, seconds = self._files[1:]
        if (
            not len(seconds)
            or seconds.sum()
            < sum(frames[0] for frames in self._frames.values()) / FRAMES_PER_SECOND / 2
        ):
            mean = self._mean(self._spectra)
            return bandwidth(*mean) if mean else 0.0
        order = np.argsort(reaches)
        below = np.cumsum(seconds[order])
        return float(reaches[order][np.searchsorted(below, 0.75 * below[-1])])

    def narrow_files(self) -> list[NarrowFile]:
        """Files with enough speech to tell, the narrowest first."""
        limit = slice_metrics.NARROW_SHARE * self.bandwidth()
        narrow = [
            NarrowFile(file, float(seconds), float(reach))
            for file, reach, seconds in zip(*self._files, strict=True)
        ]
        return sorted(
            (item for item in narrow if item.bandwidth_hz < limit),
            key=lambda item: (item.bandwidth_hz, item.file),
        )

    @functools.cached_property
    def _files(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Files with enough speech to tell their bandwidth: their names, what they reach, and
        seconds of speech."""
        files = [
            file
            for file, frames in self._frames.items()
            if frames[0] >= _LEAST_FILE_SPEECH * FRAMES_PER_SECOND
        ]
        reaches = np.array([bandwidth(*self._mean([file])) for file in files])
        return (
            files,
            reaches,
            np.array([self._frames[file][0] / FRAMES_PER_SECOND for file in files]),
        )

    def spectrum(self) -> Spectrum | None:
        mean = self._mean(self._spectra)
        if mean is None:
            return None
        group = -(-len(mean[0]) // _SPECTRUM_POINTS)

        def in_db(power: np.ndarray) -> tuple[float, ...]:
            grouped = np.add.reduceat(power, np.arange(0, len(power), group)) / mean[0].sum()
            return tuple(np.round(10 * np.log10(grouped + 1e-15), 1).tolist())

        hz = np.arange(0, len(mean[0]), group) * FRAMES_PER_SECOND
        return Spectrum(
            tuple(hz.tolist()), in_db(mean[0]), None if mean[1] is None else in_db(mean[1])
        )

    def _mean(self, files: Iterable[str]) -> tuple[np.ndarray, np.ndarray | None] | None:
        """Mean spectra of speech and of pauses over some files; None where there are none."""
        files = list(files)
        if not files or not (frames := sum(self._frames[file] for file in files))[0]:
            return None
        speech, pause = sum(self._spectra[file].astype(np.float64) for file in files)
        return speech / frames[0], pause / frames[1] if frames[1] else None


class _Repeated:
    """Sound that is in several slices. A slice is a repetition of one that comes before it by file
    and time."""

    def __init__(self, slices: Sequence[SliceMetrics], prints: Sequence[Fingerprint]) -> None:
        order = sorted(range(len(slices)), key=lambda i: (slices[i].file, slices[i].start))
        self._slices = [slices[i] for i in order]
        ordered = [prints[i] for i in order]
        files = [item.file for item in self._slices]
        starts = [item.start for item in self._slices]
        self._pairs = find_repeats(ordered, files, starts)
        self.seconds: dict[SliceMetrics, float] = {}
        self.where: dict[SliceMetrics, str] = {}
        covered: dict[int, np.ndarray] = {}
        for pair in self._pairs:
            mask = covered.setdefault(
                pair.second, np.zeros(len(ordered[pair.second].bits), bool)
            )
            begin = max(0, -pair.offset)
            mask[begin : begin + pair.frames] = True
            first = self._slices[pair.first]
            second = self._slices[pair.second]
            self.seconds[second] = float(mask.sum() / PRINTS_PER_SECOND)
            self.where[second] = f"{first.file} at {self._place(pair)[0]:.1f} s"

    @property
    def holdout_in_train_seconds(self) -> float:
        """Seconds of the hold-out's slices that some slice of the training shares."""
        total = collections.Counter()
        for pair in self._pairs:
            splits = [self._slices[number].split for number in (pair.first, pair.second)]
            if len(set(splits)) == 2:
                held_out = (pair.first, pair.second)[splits.index("holdout")]
                total[held_out] = max(total[held_out], pair.frames)
        return sum(total.values()) / PRINTS_PER_SECOND

    def share(self, item: SliceMetrics) -> tuple[float, str] | None:
        """Which share of a slice is there before, and where; None if none is."""
        if item not in self.seconds:
            return None
        return min(self.seconds[item] / item.seconds, 1.0), self.where[item]

    def by_file(self) -> tuple[RepeatedSound, ...]:
        """One entry for every two files that share sound, the longest first."""
        groups: dict[tuple[str, str], list[Repeat]] = collections.defaultdict(list)
        for pair in self._pairs:
            groups[self._slices[pair.first].file, self._slices[pair.second].file].append(pair)
        found = []
        for (first, second), pairs in groups.items():
            places = min(self._place(pair) for pair in pairs)
            seconds = sum(pair.frames for pair in pairs) / PRINTS_PER_SECOND
            found.append(RepeatedSound(first, places[0], second, places[1], seconds))
        return tuple(sorted(found, key=lambda item: (-item.seconds, item.first, item.second)))

    def _place(self, pair: Repeat) -> tuple[float, float]:
        """Where in the two files the common sound begins, in seconds."""
        shift = pair.offset / PRINTS_PER_SECOND
        return self._slices[pair.first].start + max(0, shift), self._slices[
            pair.second
        ].start + max(0, -shift)


def _worst(
    slices: Sequence[SliceMetrics],
    narrow: dict[str, float],
    repeated: _Repeated,
    loudness: float | None,
) -> tuple[WorstSlice, ...]:
    """The slices with the gravest faults; where too few have any, those that come nearest to
    one."""
    ranked = []
    for item in slices:
        found = sorted(
            rank_faults(item, loudness or 0.0, narrow.get(item.file), repeated.share(item)),
            reverse=True,
        )
        wrong = list(itertools.takewhile(lambda fault: fault[0] >= 1, found))
        severity = sum(fault[0] for fault in wrong) if wrong else found[0][0]
        reasons = [text for _, text in wrong] or [f"no fault; nearest to one: {found[0][1]}"]
        ranked.append(
            WorstSlice(
                item.split, item.file, item.start, item.seconds, severity, tuple(reasons)
            )
        )
    return tuple(
        sorted(ranked, key=lambda item: (-item.severity, item.file, item.start))[:WORST]
    )


def _voice(name: str, minutes: float, counts: np.ndarray) -> SpeakerAudit:
    """counts: frames per 10 cents."""
    centers = (_PITCH_EDGES[:-1] + _PITCH_EDGES[1:]) / 2
    below = np.cumsum(counts)
    quantiles = [None] * 3
    if below[-1]:
        semitones = centers[np.searchsorted(below, np.array([0.05, 0.5, 0.95]) * below[-1])]
        quantiles = (440 * 2 ** ((semitones - 69) / 12)).tolist()
    notes = np.round(centers).astype(int)
    first = int(notes[0])
    per_note = np.bincount(notes - first, weights=counts).astype(int)
    edges = tuple(float(note) - 0.5 for note in range(first, first + len(per_note) + 1))
    return SpeakerAudit(
        name, minutes, Spread(*quantiles), Histogram(edges, tuple(per_note.tolist()))
    )


def _pitch_counts(f0: np.ndarray) -> np.ndarray:
    voiced = f0[f0 > 0]
    semitones = np.clip(69 + 12 * np.log2(voiced / 440), _PITCH_EDGES[0], _PITCH_EDGES[-1])
    return np.histogram(semitones, _PITCH_EDGES)[0]


def _histogram(values: Sequence[float], edges: np.ndarray) -> Histogram:
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return Histogram(tuple(np.round(edges, 3).tolist()), tuple(counts.tolist()))


def _spread(values: Sequence[float]) -> Spread:
    return Spread(*(np.percentile(values, [5, 50, 95]).tolist() if len(values) else [None] * 3))


def _mean(values: Sequence[float], weights: np.ndarray) -> float:
    return float(np.average(values, weights=weights)) if len(values) and weights.sum() else 0.0
