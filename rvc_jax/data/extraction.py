"""The expensive part of preparation: the slices of every source with their pitch and content, kept
in the cache.

What a source's slices are, and their features, depends on the source and the settings alone, never
on the other sources: one more file is one more file's work, whichever process does it.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.audio.reading import AudioError
from rvc_jax.config import (
    FEATURE_HOP,
    FEATURE_RATE,
    PRESETS,
    WINDOW_FRAMES,
    PrepareConfig,
    to_dict,
)
from rvc_jax.data.cache import Cache, make_cache_key
from rvc_jax.data.cut import Cut
from rvc_jax.data.peaks import measure_peaks, peaks_key
from rvc_jax.data.recording import Recording, open_recording, read_slice, slices
from rvc_jax.errors import UserError
from rvc_jax.features.content import ContentEncoder, content_encoder
from rvc_jax.features.f0 import PitchExtractor, pitch_extractor
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage.files import file_sha256
from rvc_jax.storage.places import local_file
from rvc_jax.version import __version__

BLOCK = 64
"""Slices per entry of the cache: what a kill can lose."""

_ROUND = 1
"""Raise it when slices come out otherwise than before with the same settings: it is part of every
key."""

_NOT_ABOUT_SLICES = (
    "preset",
    "f0_method",
    "content_encoder",
    "speakers",
    "holdout",
    "holdout_min",
    "holdout_max",
    "feature_batch",
)
_MOST_THREADS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


class Slice(NamedTuple):
    """A slice of a source, in samples at the preset's rate."""

    start: int
    stop: int
    reason: str | None
    """Why it is no use; None is a good one."""


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What is known of a cut; its features are in the cache."""

    cut: Cut
    key: str
    """Hash of the sound and of all settings that its slices depend on."""
    seconds: float
    slices: tuple[Slice, ...]
    notes: tuple[str, ...] = ()
    error: str | None = None
    """Why the cut gives nothing at all."""

    @property
    def good(self) -> list[int]:
        """Numbers of the good slices."""
        return [number for number, piece in enumerate(self.slices) if piece.reason is None]

    def blocks(self) -> list[list[int]]:
        """Numbers of the good slices, as they lie together in the cache."""
        return [self.good[begin : begin + BLOCK] for begin in range(0, len(self.good), BLOCK)]


@dataclasses.dataclass(frozen=True)
class Extractors:
    """The pitch extractor and the content encoder that a configuration names. Raises UserError as
    those do."""

    pitch: PitchExtractor
    content: ContentEncoder

    @classmethod
    def of(cls, config: PrepareConfig) -> Extractors:
        version = PRESETS[config.preset].version
        return cls(
            pitch_extractor(config.f0_method), content_encoder(config.content_encoder, version)
        )

    def key(self, part: str, analysis: Analysis, block: int) -> str:
        """Where a block's "pitch" or "content" lies in the cache."""
        return make_cache_key(
            analysis.key, part, getattr(self, part).fingerprint, block, __version__
        )


def count_slice_frames(start: int, stop: int, rate: int) -> int:
    """Frames of a slice, an even number: content has half as many."""
    return min((stop - start) * 100 // rate, WINDOW_FRAMES) // 2 * 2


def analyze(
    cuts: Sequence[Cut], config: PrepareConfig, cache: Cache, reporter: Reporter = SILENT
) -> Iterator[Analysis]:
    """Slice every cut and see to it that the features of its good slices are in the cache.

    Analyses come in the order of the cuts, when their source has been read; all features are there
    when the last one has come. Several sources are read at once; only a few are held, and long ones
    lie on disk.

    Raises:
      UserError: as `Extractors.of` does. Sources without sound become analyses with an `error`.
    """
    extractors = Extractors.of(config)
    with tempfile.TemporaryDirectory(prefix="rvc_jax-") as scratch:

        def opened(cut: Cut) -> _Opened:
            return _open(cut, config, extractors, cache, Path(tempfile.mkdtemp(dir=scratch)))

        runs = {
            "pitch": _Extraction(extractors.pitch, FEATURE_HOP, np.float32, config, cache),
            "content": _Extraction(
                extractors.content, 2 * FEATURE_HOP, np.float16, config, cache
            ),
        }
        for number, source in enumerate(map_ahead(opened, cuts)):
            name = source.analysis.cut.name
            for share, (block, part, audio) in source.missing_slices():
                runs[part].add(extractors.key(part, source.analysis, block), *audio)
                reporter.progress("features", number + share, len(cuts), name)
            source.close()
            yield source.analysis
            reporter.progress("features", number + 1, len(cuts), name)
        for run in runs.values():
            run.flush()


def features(
    analysis: Analysis, block: int, config: PrepareConfig, cache: Cache
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pitch [frames] float32 and content [frames / 2, channels] float16 of a block's slices.

    What has vanished from the cache since is computed again.
    """
    extractors = Extractors.of(config)
    keys = [extractors.key(part, analysis, block) for part in ("pitch", "content")]
    pitch, content = (cache.array(key) for key in keys)
    if pitch is None or content is None:
        for _ in analyze([analysis.cut], config, cache):
            pass
        pitch, content = (cache.array(key) for key in keys)
    if pitch is None or content is None:
        raise UserError(f"{analysis.cut.name} has changed since it was read; prepare again")
    rate = PRESETS[config.preset].audio.sample_rate
    counts = [
        count_slice_frames(*analysis.slices[number][:2], rate)
        for number in analysis.blocks()[block]
    ]
    edges = np.cumsum(counts)[:-1]
    return np.split(pitch, edges), np.split(content, edges // 2)


def load_peaks(
    analysis: Analysis, config: PrepareConfig, cache: Cache
) -> dict[int, np.ndarray]:
    """Load the peak of every frame of a cut's good slices: float32 [frames] by number of the slice.

    What has vanished from the cache since is computed again.

    Raises:
      UserError: the source has changed meanwhile.
    """
    peaks = cache.array(peaks_key(analysis.key))
    if peaks is None:
        for _ in analyze([analysis.cut], config, cache):
            pass
        peaks = cache.array(peaks_key(analysis.key))
    if peaks is None:
        raise UserError(f"{analysis.cut.name} has changed since it was read; prepare again")
    rate = PRESETS[config.preset].audio.sample_rate
    counts = [
        count_slice_frames(*analysis.slices[number][:2], rate) for number in analysis.good
    ]
    parts = np.split(peaks, np.cumsum(counts)[:-1])
    return dict(zip(analysis.good, parts, strict=True)) if counts else {}


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Map in order, with a few items computed by threads before they are asked for."""
    threads = min(_MOST_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        pending = collections.deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


@dataclasses.dataclass
class _Opened:
    """A cut that has been looked at; with its recording, if something has to be computed from
    it."""

    analysis: Analysis
    config: PrepareConfig
    missing: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    """(block, part) that the cache lacks."""
    recording: Recording | None = None
    scratch: Path | None = None

    def missing_slices(
        self,
    ) -> Iterator[tuple[float, tuple[int, str, tuple[int, int, np.ndarray]]]]:
        """What has to be computed: (share of the cut, (block, part, (its slices, frames, audio at
        16 kHz)))."""
        blocks = self.analysis.blocks()
        for block in sorted({block for block, _ in self.missing}):
            parts = [part for other, part in self.missing if other == block]
            for number in blocks[block]:
                start, stop, _ = self.analysis.slices[number]
                wave = read_slice(self.recording, start, stop, self.config)
                audio = resample(wave, self.recording.rate, FEATURE_RATE)[
                    : WINDOW_FRAMES * FEATURE_HOP
                ]
                frames = count_slice_frames(start, stop, self.recording.rate)
                for part in parts:
                    yield (
                        number / len(self.analysis.slices),
                        (block, part, (len(blocks[block]), frames, audio)),
                    )

    def close(self) -> None:
        """Gives back what the recording holds on disk."""
        self.recording = None
        if self.scratch is not None:
            for file in self.scratch.iterdir():
                file.unlink()


def _open(
    cut: Cut, config: PrepareConfig, extractors: Extractors, cache: Cache, scratch: Path
) -> _Opened:
    try:
        with local_file(cut.path) as path:
            if (
                path.exists() and not path.is_file()
            ):  # a pipe or a device would be read for ever
                raise AudioError("not a file")
            before = _stamp(path)
            key = compute_sound_key(path, cut, config)
            known = cache.value(key)
            if known is not None:
                found = [Slice(*piece) for piece in known["slices"]]
                analysis = Analysis(
                    cut, key, known["seconds"], tuple(found), tuple(known["notes"])
                )
                missing = _missing(analysis, extractors, cache)
                if not missing and cache.has_array(peaks_key(key)):
                    return _Opened(analysis, config)
            recording = load_recording(path, key, cut, config, cache, scratch)
            if _stamp(path) != before:  # what was read may not be what the key says
                raise AudioError("it changed while it was read")
    except AudioError as error:
        return _Opened(Analysis(cut, "", 0.0, (), error=str(error)), config)
    except OSError as error:
        return _Opened(
            Analysis(cut, "", 0.0, (), error=f"cannot be read: {error.strerror or error}"),
            config,
        )
    found = tuple(Slice(*piece) for piece in slices(recording, config))
    analysis = Analysis(cut, key, recording.seconds, found, recording.notes)
    cache.put_value(
        key, {"seconds": analysis.seconds, "slices": found, "notes": recording.notes}
    )
    if not cache.has_array(peaks_key(key)):
        good = [found[number][:2] for number in analysis.good]
        lengths = [(*piece, count_slice_frames(*piece, recording.rate)) for piece in good]
        cache.put_array(peaks_key(key), measure_peaks(recording, lengths, config))
    return _Opened(analysis, config, _missing(analysis, extractors, cache), recording, scratch)


def load_recording(
    path: Path, key: str, cut: Cut, config: PrepareConfig, cache: Cache, scratch: Path
) -> Recording:
    """The cleaned sound of a cut. Separated vocals, which take longer than everything else, are
    kept in the cache.

    Args:
      path: a local file with the bytes of the cut's.
      key: of the cut's sound, as in its `Analysis`.

    Raises AudioError and UserError as `open_recording` does.
    """
    rate = PRESETS[config.preset].audio.sample_rate
    keys = {
        name: make_cache_key(key, "recording", name) for name in ("wave", "broken", "clipped")
    }
    if (
        config.separate_vocals
        and (rest := cache.value(make_cache_key(key, "recording"))) is not None
    ):
        arrays = {name: cache.array(entry) for name, entry in keys.items()}
        if all(array is not None for array in arrays.values()):
            return Recording(**arrays, rate=rate, gain=rest["gain"], notes=tuple(rest["notes"]))
    recording = open_recording(path, rate, config, scratch, cut.start, cut.stop, cut.gain_db)
    if config.separate_vocals:
        for name, entry in keys.items():
            cache.put_array(entry, np.asarray(getattr(recording, name)))
        rest = {"gain": recording.gain, "notes": recording.notes}
        cache.put_value(make_cache_key(key, "recording"), rest)
    return recording


def _missing(analysis: Analysis, extractors: Extractors, cache: Cache) -> list[tuple[int, str]]:
    return [
        (block, part)
        for block in range(len(analysis.blocks()))
        for part in ("pitch", "content")
        if not cache.has_array(extractors.key(part, analysis, block))
    ]


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def compute_sound_key(path: Path, cut: Cut, config: PrepareConfig) -> str:
    """`Analysis.key` of a cut of a local file. Raises OSError."""
    settings = {
        name: value for name, value in to_dict(config).items() if name not in _NOT_ABOUT_SLICES
    }
    rate = PRESETS[config.preset].audio.sample_rate
    return make_cache_key(
        _ROUND, file_sha256(path), cut.start, cut.stop, cut.gain_db, rate, settings
    )


class _Extraction:
    """One extractor, run on full batches of slices from whatever source; a finished block goes to
    the cache."""

    def __init__(
        self, extract: Callable, hop: int, dtype: type, config: PrepareConfig, cache: Cache
    ) -> None:
        self._extract = extract
        self._hop = hop
        self._dtype = dtype
        self._cache = cache
        self._batch = config.feature_batch
        self._pending: list[tuple[str, int, int, np.ndarray]] = []
        self._finished: dict[str, list[np.ndarray]] = collections.defaultdict(list)

    def add(self, key: str, expected: int, frames: int, audio: np.ndarray) -> None:
        """One more slice of the block `key`, which has `expected` slices in all."""
        self._pending.append((key, expected, frames, audio))
        if len(self._pending) == self._batch:
            self.flush()

    def flush(self) -> None:
        """Compute what is waiting; always at the same shape, so that nothing is compiled twice."""
        if not self._pending:
            return
        audio = np.zeros((self._batch, WINDOW_FRAMES * FEATURE_HOP), np.float32)
        lengths = np.full(self._batch, audio.shape[1], np.int32)
        for row, (_, _, _, samples) in enumerate(self._pending):
            audio[row, : len(samples)] = samples
            lengths[row] = len(samples)
        results = self._extract(audio, lengths)
        if not np.isfinite(results).all():
            raise UserError(
                f"{self._extract.name} gives values that are no numbers: its weights are damaged"
            )
        for (key, expected, frames, _), result in zip(self._pending, results, strict=False):
            self._finished[key].append(
                result[: frames * FEATURE_HOP // self._hop].astype(self._dtype)
            )
            if len(self._finished[key]) == expected:
                self._cache.put_array(key, np.concatenate(self._finished.pop(key)))
        self._pending.clear()
