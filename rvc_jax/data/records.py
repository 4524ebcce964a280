"""The second pass over the files: slices with their pitch and content, one record each."""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.audio.loudness import normalise
from rvc_jax.audio.slicing import windows
from rvc_jax.config import FEATURE_HOP, FEATURE_RATE, PRESETS, WINDOW_FRAMES, to_dict
from rvc_jax.data.dataset import DatasetInfo, Drop
from rvc_jax.data.holdout import Piece
from rvc_jax.data.plan import Plan, ahead
from rvc_jax.data.progress import Listener, Progress, silent
from rvc_jax.data.recordings import drop_reason, read_recording
from rvc_jax.features.content import content_encoder
from rvc_jax.features.f0 import pitch_extractor

Record = dict[str, Any]


class _Slice(NamedTuple):
    """A slice before its features are known."""

    file: int
    start: int
    wave: np.ndarray
    """float32 [frames * hop], normalised."""
    audio16k: np.ndarray


class Records:
    """The records of a plan, and what is learnt of them on the way.

    Iterate each split once, then ask for `info`.
    """

    def __init__(self, plan: Plan, listener: Listener = silent) -> None:
        self.plan = plan
        self._listener = listener
        self._audio = PRESETS[plan.config.preset].audio
        self._pitch = pitch_extractor(plan.config.f0_method)
        self._content = content_encoder(plan.config.content_encoder)
        self._total = sum(len(_windows(piece, plan)) for pieces in plan.splits.values() for piece in pieces)
        self._done = 0
        self._dropped = list(plan.dropped)
        self._counts: collections.Counter[str] = collections.Counter()
        self._hashes = {split: hashlib.sha256() for split in plan.splits}
        self._voiced: list[np.ndarray] = []

    @property
    def content_channels(self) -> int:
        return self._content.channels

    def split(self, split: str) -> Iterator[tuple[str, Record]]:
        """(unique key, record) of one split, in the order of the files.

        A record has `wave` float32 [frames * hop], `content` float16 [ceil(frames / 2), channels], `f0` float32
        [frames] in Hz with 0 = unvoiced, `speaker`, `source` (the file) and `start` (seconds into it).
        """
        slices = self._slices(self.plan.splits[split])
        while batch := list(itertools.islice(slices, self.plan.config.feature_batch)):
            for item, record in zip(batch, self._with_features(batch), strict=True):
                self._counts[split] += 1
                self._hashes[split].update(hashlib.sha256(item.wave.tobytes()).digest())
                if split == "train":
                    self._voiced.append(record["f0"][record["f0"] > 0])
                yield f"{item.file}:{item.start}", record

    def info(self) -> DatasetInfo:
        """What the dataset is made of."""
        plan, config = self.plan, to_dict(self.plan.config)
        voiced = np.concatenate(self._voiced or [np.zeros(0)])
        settings = {key: value for key, value in config.items() if key != "feature_batch"}
        parts = [self._hashes[split].hexdigest() for split in sorted(self._hashes)]
        parts += [json.dumps(settings, sort_keys=True), self._pitch.fingerprint, self._content.fingerprint]
        notes = ()
        if not self._counts["holdout"]:
            notes = ("too little speech to hold any out: the voice cannot be measured",)
        return DatasetInfo(
            preset=plan.config.preset,
            sample_rate=self._audio.sample_rate,
            content_encoder=self._content.name,
            content_channels=self._content.channels,
            f0_method=self._pitch.name,
            speakers=(plan.sources.speaker,),
            files=plan.files,
            source_minutes=plan.source_seconds / 60,
            speech_minutes=plan.speech_seconds / 60,
            train_slices=self._counts["train"],
            holdout_slices=self._counts["holdout"],
            holdout_seconds=plan.holdout_seconds,
            dropped=tuple(sorted(self._dropped, key=lambda drop: (drop.file, drop.seconds or 0.0))),
            notes=notes,
            config=config,
            fingerprint=hashlib.sha256("\n".join(parts).encode()).hexdigest(),
            median_f0=float(np.median(voiced)) if len(voiced) else 0.0,
        )

    @property
    def dropped(self) -> tuple[Drop, ...]:
        return tuple(self._dropped)

    def _slices(self, pieces: Iterable[Piece]) -> Iterator[_Slice]:
        """Good slices of the pieces; the others are noted as dropped."""
        by_file = [list(group) for _, group in itertools.groupby(pieces, lambda piece: piece.file)]
        for slices, dropped in ahead(self._cut, by_file):
            self._dropped += dropped
            self._done += len(dropped)
            yield from slices

    def _cut(self, pieces: list[Piece]) -> tuple[list[_Slice], list[Drop]]:
        """Cut pieces out of the file that they are all from."""
        config, sources, hop = self.plan.config, self.plan.sources, self._audio.hop
        file = pieces[0].file
        recording = read_recording(sources.paths[file], self._audio.sample_rate, config)
        slices, dropped = [], []
        for start, stop in itertools.chain.from_iterable(_windows(piece, self.plan) for piece in pieces):
            if reason := drop_reason(recording, start, stop, config):
                dropped.append(Drop(sources.names[file], start / self._audio.sample_rate, reason))
                continue
            wave = normalise(recording.wave[start:stop], config)
            audio16k = resample(wave, self._audio.sample_rate, FEATURE_RATE)
            frames = min(len(wave) // hop, WINDOW_FRAMES)
            slices.append(_Slice(file, start, wave[: frames * hop], audio16k[: WINDOW_FRAMES * FEATURE_HOP]))
        return slices, dropped

    def _with_features(self, batch: list[_Slice]) -> Iterator[Record]:
        """Records of up to `feature_batch` slices; one shape for every call, so that nothing is compiled twice."""
        audio = np.zeros((self.plan.config.feature_batch, WINDOW_FRAMES * FEATURE_HOP), np.float32)
        for row, item in zip(audio, batch, strict=False):
            row[: len(item.audio16k)] = item.audio16k
        all_f0, all_content = self._pitch(audio), self._content(audio)
        for item, f0, content in zip(batch, all_f0, all_content, strict=False):
            frames = len(item.wave) // self._audio.hop
            name = self.plan.sources.names[item.file]
            self._done += 1
            self._listener(Progress("features", self._done, self._total, name))
            yield {
                "wave": item.wave,
                "content": content[: (frames + 1) // 2].astype(np.float16),
                "f0": f0[:frames].astype(np.float32),
                "speaker": 0,
                "source": name,
                "start": item.start / self._audio.sample_rate,
            }


def _windows(piece: Piece, plan: Plan) -> list[tuple[int, int]]:
    return windows(piece.start, piece.stop, plan.rate, plan.config)
