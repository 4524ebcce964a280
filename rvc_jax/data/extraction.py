"""Extraction, the expensive part of preparation: slices of every cut, their pitch and content.

The slices of a cut and their features depend on the cut and the settings alone, not on other
sources. So one more file costs that file's work only, and any process can extract any cut. Results
go to the cache.

A preparation decodes every recording twice: here, and in `data.records` when the dataset is
written. Between the two stands the split, which needs the slices of all sources; the samples
themselves are not cached, so memory and disk stay small and any process can write any record.
Separated vocals are the exception: they are kept, since they take longer than everything else.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from rvc_jax.audio.filters import resample
from rvc_jax.audio.reading import AudioError
from rvc_jax.config import (
    FEATURE_HOP,
    FEATURE_RATE,
    FRAMES_PER_SECOND,
    PRESETS,
    WINDOW_FRAMES,
    PrepareConfig,
    to_dict,
)
from rvc_jax.data.cache import Cache, make_cache_key
from rvc_jax.data.cut import Cut
from rvc_jax.data.peaks import measure_peaks, peaks_key
from rvc_jax.data.recording import Recording, find_slices, open_recording, read_slice
from rvc_jax.errors import UserError, describe_os_error
from rvc_jax.features.content import ContentEncoder, load_content_encoder
from rvc_jax.features.f0 import PitchExtractor, load_pitch_extractor
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage.files import file_sha256
from rvc_jax.storage.places import local_file
from rvc_jax.storage.scratch import temporary_folder
from rvc_jax.version import __version__

BLOCK = 64
"""Slices per entry of the cache: the most that a kill can lose."""

_SLICING_VERSION = 2
"""Part of every key. Raise it when the same settings give other slices than before."""

_UNRELATED_SETTINGS = (
    "preset",
    "f0_method",
    "content_encoder",
    "speakers",
    "holdout",
    "holdout_min",
    "holdout_max",
    "feature_batch",
)
"""Settings that do not change a cut's slices (of the preset, only the rate does)."""
_MAX_THREADS = 8

Feature = Literal["pitch", "content"]
FEATURES: tuple[Feature, Feature] = ("pitch", "content")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Slice(NamedTuple):
    """A slice of a cut, in samples at the preset's rate."""

    start: int
    stop: int
    reason: str | None
    """Why it is dropped; None if it is good."""


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The slices of a cut; their features are in the cache."""

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
        return [number for number, item in enumerate(self.slices) if item.reason is None]

    def blocks(self) -> list[list[int]]:
        """Return the numbers of the good slices, grouped by entry of the cache."""
        good = self.good
        return [good[begin : begin + BLOCK] for begin in range(0, len(good), BLOCK)]


@dataclasses.dataclass(frozen=True)
class Extractors:
    """The pitch extractor and the content encoder that a configuration names."""

    pitch: PitchExtractor
    content: ContentEncoder

    @classmethod
    def from_config(cls, config: PrepareConfig) -> Extractors:
        """Make the extractors of a resolved configuration. Raises UserError as they do."""
        assert config.f0_method is not None
        assert config.content_encoder is not None
        version = PRESETS[config.preset].version
        return cls(
            load_pitch_extractor(config.f0_method),
            load_content_encoder(config.content_encoder, version),
        )

    def make_key(self, feature: Feature, analysis: Analysis, block: int) -> str:
        """Return the cache key of a block's pitch or content."""
        extractor = self.pitch if feature == "pitch" else self.content
        return make_cache_key(analysis.key, feature, extractor.fingerprint, block, __version__)


def count_slice_frames(start: int, stop: int, rate: int) -> int:
    """Return the frames of a slice, an even number: content has half as many."""
    return min((stop - start) * FRAMES_PER_SECOND // rate, WINDOW_FRAMES) // 2 * 2


def analyze(
    cuts: Sequence[Cut], config: PrepareConfig, cache: Cache, reporter: Reporter = SILENT
) -> Iterator[Analysis]:
    """Slice every cut, and put what the cache lacks of its good slices' features there.

    Yields an analysis per cut, in order, once the cut has been read; all features are in the cache
    when the iterator ends. Threads read a few cuts ahead; long ones are kept on disk.

    Raises:
        UserError: As `Extractors.from_config` does. A cut without sound raises nothing: its
            analysis has an `error`.
    """
    extractors = Extractors.from_config(config)
    batches = {
        "pitch": BatchExtractor(extractors.pitch, FEATURE_HOP, np.float32, config, cache),
        "content": BatchExtractor(
            extractors.content, 2 * FEATURE_HOP, np.float16, config, cache
        ),
    }
    with temporary_folder() as scratch:

        def open_cut(cut: Cut) -> _OpenCut:
            own_scratch = Path(tempfile.mkdtemp(dir=scratch))
            return _open_cut(cut, config, extractors, cache, own_scratch)

        for number, opened in enumerate(map_ahead(open_cut, cuts)):
            analysis = opened.analysis
            name = analysis.cut.name
            for item in opened.read_missing():
                key = extractors.make_key(item.feature, analysis, item.block)
                batches[item.feature].add(key, item)
                reporter.progress("features", number + item.share, len(cuts), name)
            opened.close()
            yield analysis
            reporter.progress("features", number + 1, len(cuts), name)
        for batch in batches.values():
            batch.flush()


def load_features(
    analysis: Analysis, block: int, config: PrepareConfig, cache: Cache
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Load the features of a block's slices from the cache.

    Entries that have vanished meanwhile are computed again.

    Returns:
        Pitch float32 [frames] in Hz, 0 = unvoiced; content float16 [frames / 2, channels].

    Raises:
        UserError: The source has changed meanwhile.
    """
    extractors = Extractors.from_config(config)
    keys = [extractors.make_key(feature, analysis, block) for feature in FEATURES]
    pitch, content = _load_arrays(analysis, keys, config, cache)
    rate = PRESETS[config.preset].audio.sample_rate
    numbers = analysis.blocks()[block]
    edges = np.cumsum(_count_frames(analysis, numbers, rate))[:-1]
    return np.split(pitch, edges), np.split(content, edges // 2)


def load_peaks(
    analysis: Analysis, config: PrepareConfig, cache: Cache
) -> dict[int, np.ndarray]:
    """Load the peak of every frame of a cut's good slices: float32 [frames] by slice number.

    Entries that have vanished meanwhile are computed again.

    Raises:
        UserError: The source has changed meanwhile.
    """
    (peaks,) = _load_arrays(analysis, [peaks_key(analysis.key)], config, cache)
    if not analysis.good:
        return {}
    rate = PRESETS[config.preset].audio.sample_rate
    edges = np.cumsum(_count_frames(analysis, analysis.good, rate))[:-1]
    return dict(zip(analysis.good, np.split(peaks, edges), strict=True))


def load_recording(
    path: Path, key: str, cut: Cut, config: PrepareConfig, cache: Cache, scratch: Path
) -> Recording:
    """Decode and clean a cut, or load it from the cache if its vocals were separated before.

    Args:
        path: A local file with the cut's recording.
        key: The key of the cut's `Analysis`.
        cut: The cut.
        config: The settings.
        cache: Receives separated vocals.
        scratch: Folder for scratch files.

    Raises:
        AudioError: As `open_recording` does.
        UserError: As `open_recording` does.
    """
    rate = PRESETS[config.preset].audio.sample_rate
    if config.separate_vocals:
        cached = _load_separated(key, rate, cache)
        if cached is not None:
            return cached
    recording = open_recording(path, rate, config, scratch, cut.start, cut.stop, cut.gain_db)
    if config.separate_vocals:
        _store_separated(key, recording, cache)
    return recording


def compute_sound_key(path: Path, cut: Cut, config: PrepareConfig) -> str:
    """Compute the key of the `Analysis` of a cut of a local file. Raises OSError."""
    settings = {
        name: value
        for name, value in to_dict(config).items()
        if name not in _UNRELATED_SETTINGS
    }
    rate = PRESETS[config.preset].audio.sample_rate
    return make_cache_key(
        _SLICING_VERSION,
        _hash_once(path, _file_identity(path)),
        cut.start,
        cut.stop,
        cut.gain_db,
        rate,
        settings,
    )


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Map in order; threads compute a few results before they are asked for."""
    threads = min(_MAX_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        pending: collections.deque[Future[Result]] = collections.deque()
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


class MissingSlice(NamedTuple):
    """A slice whose pitch or content the cache lacks."""

    share: float
    """How much of the cut has been read, 0..1."""
    feature: Feature
    block: int
    block_slices: int
    """Slices in that block."""
    frames: int
    audio: np.ndarray
    """float32 [samples] at 16 kHz."""


class BatchExtractor:
    """Runs one extractor on full batches of slices, whichever cuts they are from.

    A block goes to the cache when its last slice is done.

    Args:
        extractor: The pitch extractor or content encoder.
        hop: Samples at 16 kHz per frame of its result.
        dtype: How the cache stores the result.
        config: Settings; the batch size is one of them.
        cache: Where blocks go.
    """

    def __init__(
        self,
        extractor: PitchExtractor | ContentEncoder,
        hop: int,
        dtype: type[np.floating],
        config: PrepareConfig,
        cache: Cache,
    ) -> None:
        self.dtype = dtype
        self._extractor = extractor
        self._hop = hop
        self._cache = cache
        self._batch = config.feature_batch
        self._pending: list[tuple[str, MissingSlice]] = []
        self._finished: dict[str, list[np.ndarray]] = collections.defaultdict(list)

    def add(self, key: str, item: MissingSlice) -> None:
        """Add a slice of the block with that key, and compute the batch if it is full."""
        self._pending.append((key, item))
        if len(self._pending) == self._batch:
            self.flush()

    def flush(self) -> None:
        """Compute what is pending; always at the same shape, so that nothing is compiled twice."""
        if not self._pending:
            return
        audio = np.zeros((self._batch, WINDOW_FRAMES * FEATURE_HOP), np.float32)
        lengths = np.full(self._batch, audio.shape[1], np.int32)
        for row, (_, item) in enumerate(self._pending):
            audio[row, : len(item.audio)] = item.audio
            lengths[row] = len(item.audio)
        results = self._extractor(audio, lengths)
        if not np.isfinite(results).all():
            raise UserError(
                f"{self._extractor.name} gives values that are not numbers: "
                "its weights are damaged"
            )
        for (key, item), result in zip(self._pending, results, strict=False):
            frames = item.frames * FEATURE_HOP // self._hop
            self._finished[key].append(result[:frames].astype(self.dtype))
            if len(self._finished[key]) == item.block_slices:
                self._cache.put_array(key, np.concatenate(self._finished.pop(key)))
        self._pending.clear()


@dataclasses.dataclass(frozen=True)
class _CachedCut:
    """What the cache keeps of a cut: the schema of an entry."""

    seconds: float
    slices: tuple[Slice, ...]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _CachedRecording:
    """What the cache keeps of a separated recording beside its arrays."""

    gain: float
    notes: tuple[str, ...]


@dataclasses.dataclass
class _OpenCut:
    """An analysis; with the recording, if something has to be computed from it."""

    analysis: Analysis
    config: PrepareConfig
    missing: list[tuple[int, Feature]] = dataclasses.field(default_factory=list)
    """(block, feature) that the cache lacks."""
    recording: Recording | None = None
    scratch: Path | None = None

    def read_missing(self) -> Iterator[MissingSlice]:
        """Read the slices that have to be computed."""
        if self.recording is None:
            return
        rate = self.recording.rate
        blocks = self.analysis.blocks()
        for block in sorted({block for block, _ in self.missing}):
            features: list[Feature] = [
                feature for other, feature in self.missing if other == block
            ]
            for number in blocks[block]:
                start, stop, _ = self.analysis.slices[number]
                wave = read_slice(self.recording, start, stop, self.config)
                if self.config.normalization != "post":
                    # The extractors take speech of a quiet recording for silence.
                    wave = wave * np.float32(self.recording.level.raising_gain)
                audio = resample(wave, rate, FEATURE_RATE)[: WINDOW_FRAMES * FEATURE_HOP]
                frames = count_slice_frames(start, stop, rate)
                share = number / len(self.analysis.slices)
                for feature in features:
                    yield MissingSlice(share, feature, block, len(blocks[block]), frames, audio)

    def close(self) -> None:
        """Free the disk space that the recording takes."""
        self.recording = None
        if self.scratch is not None:
            for file in self.scratch.iterdir():
                file.unlink()


def _open_cut(
    cut: Cut, config: PrepareConfig, extractors: Extractors, cache: Cache, scratch: Path
) -> _OpenCut:
    """Look a cut up in the cache; decode and slice it if something is missing there."""
    try:
        with local_file(cut.path) as path:
            # Reading a pipe or a device would not end.
            if path.exists() and not path.is_file():
                raise AudioError("not a file")
            before = _file_identity(path)
            key = compute_sound_key(path, cut, config)
            known = cache.get_value(key, _CachedCut)
            if known is not None:
                analysis = Analysis(cut, key, known.seconds, known.slices, known.notes)
                missing = _find_missing(analysis, extractors, cache)
                if not missing and cache.has_array(peaks_key(key)):
                    return _OpenCut(analysis, config)
            recording = load_recording(path, key, cut, config, cache, scratch)
            # If the file has changed, the key may not belong to what was read.
            if _file_identity(path) != before:
                raise AudioError("it changed while it was read")
    except AudioError as error:
        return _OpenCut(Analysis(cut, "", 0.0, (), error=str(error)), config)
    except OSError as error:
        reason = f"cannot be read: {describe_os_error(error)}"
        return _OpenCut(Analysis(cut, "", 0.0, (), error=reason), config)
    found = tuple(Slice(*values) for values in find_slices(recording, config))
    analysis = Analysis(cut, key, recording.seconds, found, recording.notes)
    cache.put_value(
        key, {"seconds": analysis.seconds, "slices": found, "notes": recording.notes}
    )
    if not cache.has_array(peaks_key(key)):
        cache.put_array(peaks_key(key), _measure_good_peaks(analysis, recording, config))
    missing = _find_missing(analysis, extractors, cache)
    return _OpenCut(analysis, config, missing, recording, scratch)


def _measure_good_peaks(
    analysis: Analysis, recording: Recording, config: PrepareConfig
) -> np.ndarray:
    ranges = []
    for number in analysis.good:
        start, stop, _ = analysis.slices[number]
        ranges.append((start, stop, count_slice_frames(start, stop, recording.rate)))
    return measure_peaks(recording, ranges, config)


def _find_missing(
    analysis: Analysis, extractors: Extractors, cache: Cache
) -> list[tuple[int, Feature]]:
    return [
        (block, feature)
        for block in range(len(analysis.blocks()))
        for feature in FEATURES
        if not cache.has_array(extractors.make_key(feature, analysis, block))
    ]


def _count_frames(analysis: Analysis, numbers: Iterable[int], rate: int) -> list[int]:
    return [count_slice_frames(*analysis.slices[number][:2], rate) for number in numbers]


def _load_arrays(
    analysis: Analysis, keys: Sequence[str], config: PrepareConfig, cache: Cache
) -> list[np.ndarray]:
    """Load arrays of a cut, and analyze it again if one is missing."""
    arrays = [array for key in keys if (array := cache.get_array(key)) is not None]
    if len(arrays) < len(keys):
        for _ in analyze([analysis.cut], config, cache):
            pass  # computes while it is consumed
        arrays = [array for key in keys if (array := cache.get_array(key)) is not None]
    if len(arrays) < len(keys):
        raise UserError(f"{analysis.cut.name} has changed since it was read; prepare again")
    return arrays


def _load_separated(key: str, rate: int, cache: Cache) -> Recording | None:
    facts = cache.get_value(make_cache_key(key, "recording"), _CachedRecording)
    if facts is None:
        return None
    wave = cache.get_array(make_cache_key(key, "recording", "wave"))
    broken = cache.get_array(make_cache_key(key, "recording", "broken"))
    clipped = cache.get_array(make_cache_key(key, "recording", "clipped"))
    if wave is None or broken is None or clipped is None:
        return None
    return Recording(wave, rate, broken, clipped, facts.gain, facts.notes)


def _store_separated(key: str, recording: Recording, cache: Cache) -> None:
    arrays = {
        "wave": np.asarray(recording.wave),
        "broken": recording.broken,
        "clipped": recording.clipped,
    }
    for name, array in arrays.items():
        cache.put_array(make_cache_key(key, "recording", name), array)
    facts = {"gain": recording.gain, "notes": recording.notes}
    cache.put_value(make_cache_key(key, "recording"), facts)


@functools.lru_cache(maxsize=64)
def _hash_once(path: Path, identity: tuple[int, int, int]) -> str:
    """Hash a file once for all its cuts, while its identity stays the same."""
    return file_sha256(path)


def _file_identity(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
