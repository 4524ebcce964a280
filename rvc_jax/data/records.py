"""The records of a dataset: one slice each, with its pitch and content features."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.audio.reading import AudioError
from rvc_jax.config import PRESETS, to_dict
from rvc_jax.data.cache import Cache
from rvc_jax.data.dataset import DatasetInfo
from rvc_jax.data.extraction import (
    Analysis,
    Extractors,
    compute_sound_key,
    count_slice_frames,
    load_features,
    load_peaks,
    load_recording,
    map_ahead,
)
from rvc_jax.data.quantization import quantize, scale_for_peak
from rvc_jax.data.recording import read_slice
from rvc_jax.data.split import AssignedSlice, SplitPlan
from rvc_jax.errors import UserError
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage.places import local_file
from rvc_jax.storage.scratch import temporary_folder

Record = dict[str, Any]

_NAMES_SHOWN = 3
_NOT_ABOUT_CONTENT = ("feature_batch", "content_encoder")
"""Settings that the fingerprint leaves out. The encoder's name may be a folder; the hash of its
weights is part of the fingerprint instead."""


@dataclasses.dataclass(frozen=True)
class Records:
    """The records of a plan.

    It can be sent to other processes; they need the same sources and the same cache.
    """

    plan: SplitPlan
    cache: Cache = dataclasses.field(default_factory=Cache)

    def split(self, split: str, reporter: Reporter = SILENT) -> Iterator[tuple[str, Record]]:
        """Yield (unique key, record) of one split, in the order of the sources."""
        total = self.plan.count(split)
        done = 0
        for number, pieces in enumerate(self.plan.assigned):
            if not any(piece.split == split for piece in pieces):
                continue
            for key, record in self.of_source(number, split):
                done += 1
                reporter.progress("write", done, total, split)
                yield key, record

    def of_source(self, number: int, split: str) -> Iterator[tuple[str, Record]]:
        """Yield (unique key, record) of the part of one source that goes to a split.

        A record has `wave` int16 [frames * hop] with its `scale`, `content` float16
        [frames / 2, channels], `f0` float32 [frames] in Hz (0 is unvoiced), `speaker`, `source`
        (name of the cut) and `start` (seconds into its file).
        """
        analysis = self.plan.analyses[number]
        config = self.plan.config
        cut = analysis.cut
        hop = PRESETS[config.preset].audio.hop
        scale = self.scales[split]
        with (
            temporary_folder() as scratch,
            _unchanged(cut.name),
            local_file(cut.path) as path,
        ):
            if compute_sound_key(path, cut, config) != analysis.key:
                raise AudioError("other bytes")
            recording = load_recording(
                path, analysis.key, cut, config, self.cache, Path(scratch)
            )
            for piece, f0, content in self._with_features(number, split):
                start, stop, _ = analysis.slices[piece.number]
                first, last = self._frame_range(analysis, piece)
                wave = read_slice(recording, start, stop, config)[first * hop : last * hop]
                yield (
                    f"{cut.name}:{piece.start}",
                    {
                        "wave": quantize(wave, scale),
                        "scale": scale,
                        "content": content[first // 2 : last // 2],
                        "f0": f0[first:last],
                        "speaker": self.plan.speakers.index(cut.speaker),
                        "source": cut.name,
                        "start": cut.start + piece.start / self.plan.rate,
                    },
                )

    @functools.cached_property
    def scales(self) -> dict[str, float]:
        """Scale of the samples by split: its loudest sample is stored as 32767."""
        peaks = {"train": 0.0, "holdout": 0.0}
        for analysis, pieces in zip(self.plan.analyses, self.plan.assigned, strict=True):
            if not pieces:
                continue
            by_slice = load_peaks(analysis, self.plan.config, self.cache)
            for piece in pieces:
                first, last = self._frame_range(analysis, piece)
                loudest = float(by_slice[piece.number][first:last].max(initial=0.0))
                peaks[piece.split] = max(peaks[piece.split], loudest)
        return {split: scale_for_peak(peak) for split, peak in peaks.items()}

    def _frame_range(self, analysis: Analysis, piece: AssignedSlice) -> tuple[int, int]:
        """Return the first frame of a record in its slice, and the one behind its last."""
        start, stop, _ = analysis.slices[piece.number]
        first = (piece.start - start) // PRESETS[self.plan.config.preset].audio.hop
        frames = count_slice_frames(piece.start, piece.stop, self.plan.rate)
        last = min(first + frames, count_slice_frames(start, stop, self.plan.rate))
        return first, last

    def _with_features(
        self, number: int, split: str
    ) -> Iterator[tuple[AssignedSlice, np.ndarray, np.ndarray]]:
        """Yield the parts of one source that go to a split, each with the pitch and content of its
        whole slice."""
        analysis = self.plan.analyses[number]
        wanted = {
            piece.number: piece for piece in self.plan.assigned[number] if piece.split == split
        }
        for block, numbers in enumerate(analysis.blocks()):
            if not any(piece in wanted for piece in numbers):
                continue
            pitch, content = load_features(analysis, block, self.plan.config, self.cache)
            for piece, f0, encoded in zip(numbers, pitch, content, strict=True):
                if piece in wanted:
                    yield wanted[piece], f0, encoded

    def info(self) -> DatasetInfo:
        """Describe the dataset."""
        plan = self.plan
        encoder = plan.config.content_encoder
        pitch_method = plan.config.f0_method
        assert encoder is not None and pitch_method is not None  # the config is resolved
        extractors = Extractors.from_config(plan.config)
        voiced = self._voiced_pitch()
        minutes = dict.fromkeys(plan.sources.speakers, 0.0)
        for analysis, pieces in zip(plan.analyses, plan.assigned, strict=True):
            minutes[analysis.cut.speaker] += _count_unique_samples(pieces) / plan.rate / 60
        return DatasetInfo(
            preset=plan.config.preset,
            sample_rate=plan.rate,
            content_encoder=encoder,
            content_channels=extractors.content.channels,
            content_fingerprint=extractors.content.fingerprint,
            f0_method=pitch_method,
            speakers=plan.speakers,
            speaker_minutes=tuple(minutes[name] for name in plan.speakers),
            speaker_median_f0=tuple(_median(f0) for f0 in voiced),
            files=sum(analysis.error is None for analysis in plan.analyses),
            source_minutes=plan.source_seconds / 60,
            speech_minutes=plan.speech_seconds / 60,
            train_slices=plan.count("train"),
            holdout_slices=plan.count("holdout"),
            holdout_seconds=plan.holdout_seconds,
            dropped=plan.dropped,
            notes=self._notes(voiced),
            config=to_dict(plan.config),
            fingerprint=self._fingerprint(extractors),
            median_f0=_median(np.concatenate([np.zeros(0), *voiced])),
        )

    def _voiced_pitch(self) -> list[np.ndarray]:
        """Collect the pitch of every speaker's voiced frames in Hz, from good slices."""

        def voiced(analysis: Analysis) -> np.ndarray:
            found = [np.zeros(0, np.float32)]
            for block in range(len(analysis.blocks())):
                f0 = np.concatenate(
                    load_features(analysis, block, self.plan.config, self.cache)[0]
                )
                found.append(f0[f0 > 0])
            return np.concatenate(found)

        by_speaker: dict[str, list[np.ndarray]] = {
            name: [np.zeros(0)] for name in self.plan.sources.speakers
        }
        for analysis, f0 in zip(
            self.plan.analyses, map_ahead(voiced, self.plan.analyses), strict=True
        ):
            by_speaker[analysis.cut.speaker].append(f0)
        return [np.concatenate(by_speaker[name]) for name in self.plan.speakers]

    def _notes(self, voiced: Sequence[np.ndarray]) -> tuple[str, ...]:
        """Return remarks for the user; voiced: pitch of every speaker's voiced frames."""
        plan = self.plan
        cuts_by_note: dict[str, list[str]] = {}
        for analysis in plan.analyses:
            for note in analysis.notes:
                cuts_by_note.setdefault(note, []).append(analysis.cut.name)
        notes = [f"{_shorten_list(cuts)}: {note}" for note, cuts in cuts_by_note.items()]
        if not plan.count("holdout"):
            notes.append("too little speech to hold any out: the voice cannot be measured")
        for name, f0 in zip(plan.speakers, voiced, strict=True):
            if not len(f0):
                notes.append(
                    f"speaker {name}: no pitch was found; if it is speech, and not noise or a "
                    "whisper, try another --f0-method"
                )
        for name in plan.sources.speakers:
            if name not in plan.speakers:
                notes.append(f"speaker {name} has no usable speech, and gets no number")
        if len(plan.speakers) > 1:
            notes.append(
                f"{len(plan.speakers)} speakers, by sub-folder or recipe; --speakers one makes "
                "them one"
            )
        return tuple(notes)

    def _fingerprint(self, extractors: Extractors) -> str:
        settings = {
            key: value
            for key, value in to_dict(self.plan.config).items()
            if key not in _NOT_ABOUT_CONTENT
        }
        speakers = self.plan.speakers
        used = [
            (analysis.key, speakers.index(analysis.cut.speaker), pieces)
            for analysis, pieces in zip(self.plan.analyses, self.plan.assigned, strict=True)
            if pieces
        ]
        parts = [used, settings, extractors.pitch.fingerprint, extractors.content.fingerprint]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _shorten_list(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _median(f0: np.ndarray) -> float:
    return float(np.median(f0)) if len(f0) else 0.0


def _count_unique_samples(pieces: Sequence[AssignedSlice]) -> int:
    """Count the samples of parts of one source; overlaps count once."""
    total = end = 0
    for piece in pieces:
        total += piece.stop - max(piece.start, min(end, piece.stop))
        end = max(end, piece.stop)
    return total


@contextlib.contextmanager
def _unchanged(name: str) -> Iterator[None]:
    """Turn an error of reading a source into advice: it did read when it was analyzed."""
    try:
        yield
    except (AudioError, FileNotFoundError) as error:
        raise UserError(
            f"{name} has changed while it was read ({error}); prepare again"
        ) from error
