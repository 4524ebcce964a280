"""A prepared dataset: its description, its records, and its slices as arrays."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from rvc_jax.config import PRESETS
from rvc_jax.data import tfds_reader
from rvc_jax.data.quantization import dequantize, scale_for_peak
from rvc_jax.data.stored_windows import StoredWindows
from rvc_jax.data.tfds_reader import Address
from rvc_jax.data.windows import (
    FIELDS,
    Layout,
    TrainingWindows,
    Windows,
    hash_row,
    quantize_windows,
)
from rvc_jax.errors import UserError, describe_os_error, sanitize
from rvc_jax.storage import places
from rvc_jax.storage.json_files import convert, parse_json
from rvc_jax.storage.places import Location

FORMAT = "rvc_jax voice"
VERSION = "3.0.0"
"""Format that is written. 3.0.0: samples are int16 with a scale (`data.quantization`)."""

_MAX_READS = 3
"""Times that a dataset is read if it is replaced meanwhile."""

_FLOAT_VERSION = "2.0.0"
"""Older format that is still read: samples are float32."""

_MAX_NUMBER = 1 << 40
_MAX_CHANNELS = 1 << 16

Split = Literal["train", "holdout"]
_Read = TypeVar("_Read")


class Drop(NamedTuple):
    """A file, or a part of one, that preparation left out."""

    file: str
    seconds: float | None
    """Position in the file; None if the whole file was left out."""
    reason: str


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """Description of a dataset: its sources, its settings and its size."""

    preset: str
    sample_rate: int
    content_encoder: str
    content_channels: int
    content_fingerprint: str
    """Hash of the content encoder's weights; conversion must use the same ones."""
    f0_method: str
    speakers: tuple[str, ...]
    """Names. Records and voices refer to a speaker by the position in this tuple."""
    speaker_minutes: tuple[float, ...]
    """Usable speech of every speaker, including the hold-out."""
    speaker_median_f0: tuple[float, ...]
    """Median pitch of every speaker's voiced frames in Hz; 0 without voiced frames."""
    files: int
    """Number of files that were read; `skipped` lists the others."""
    source_minutes: float
    speech_minutes: float
    """Usable speech without silences; overlaps of slices count once."""
    train_slices: int
    holdout_slices: int
    holdout_seconds: float
    dropped: tuple[Drop, ...]
    notes: tuple[str, ...]
    """Further remarks for the user."""
    config: dict[str, Any]
    """The `PrepareConfig` as plain values."""
    fingerprint: str
    """Hash of the sources' bytes, the settings and the feature extractors' weights."""
    median_f0: float
    """Median pitch of all voiced frames in Hz; 0 without voiced frames."""

    @property
    def skipped(self) -> tuple[Drop, ...]:
        """Files that were left out whole."""
        return tuple(drop for drop in self.dropped if drop.seconds is None)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain containers, for JSON."""
        return dataclasses.asdict(self) | {"dropped": [list(drop) for drop in self.dropped]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DatasetInfo:
        """Rebuild a description from the result of `to_dict`, also after a trip through JSON.

        Raises TypeError, KeyError or ValueError for anything else.
        """
        values = dict(values)
        values["dropped"] = tuple(Drop(*drop) for drop in values["dropped"])
        values |= {
            name: convert(values[name], tuple)
            for name in ("speakers", "speaker_minutes", "speaker_median_f0", "notes")
        }
        info = convert(dataclasses.asdict(cls(**values)), cls)
        _check_info(info)
        return info


def _check_info(info: DatasetInfo) -> None:
    """Raise ValueError for a number that no dataset has."""
    numbers = [value for value in vars(info).values() if type(value) in (int, float)]
    numbers += [*info.speaker_minutes, *info.speaker_median_f0]
    if not all(0 <= number < _MAX_NUMBER for number in numbers):  # false for NaN, too
        raise ValueError("a number is out of range")
    if not len(info.speakers) == len(info.speaker_minutes) == len(info.speaker_median_f0) > 0:
        raise ValueError("speakers, their minutes and their pitch are not as many")
    if info.preset not in PRESETS:
        raise ValueError(f"unknown preset {sanitize(info.preset)!r}")
    if not 0 < info.content_channels <= _MAX_CHANNELS:
        raise ValueError(f"{info.content_channels} channels of content")


@dataclasses.dataclass(frozen=True)
class HoldoutDataset:
    """The part of a dataset that voices are measured on."""

    info: DatasetInfo
    holdout: Windows


@dataclasses.dataclass(frozen=True)
class VoiceDataset(HoldoutDataset):
    """A dataset to train on."""

    train: TrainingWindows
    """In memory (`Windows`), or on disk (`StoredWindows`)."""

    @functools.cached_property
    def identity(self) -> str:
        """What distinguishes this dataset from others, wherever it is: a hash of what was
        prepared how, and one of what is in the windows.

        Of the training windows, everything but sound and content counts.
        """
        rows = [*self.train.hash_rows(), *self.holdout.hash_rows(with_sound=True)]
        # Sorted, because shards may come in another order.
        content = hashlib.sha256(b"".join(sorted(rows))).hexdigest()
        return f"{self.info.fingerprint[:16]}-{content[:16]}"


@dataclasses.dataclass(frozen=True)
class LoadedDataset(VoiceDataset):
    """A dataset of which everything is in memory."""

    train: Windows


def read_info(path: Location) -> DatasetInfo:
    """Read a dataset's description, but none of its records.

    Raises:
      UserError: no dataset of ours is at `path`, or its description is damaged or of another
        version.
    """
    return _read_description(path)[1]


def load_dataset(path: Location) -> LoadedDataset:
    """Read a dataset into memory. If it is replaced meanwhile, the new one is read.

    Raises:
      UserError: as for `read_info`; also if records are missing or damaged.
    """
    with open_dataset(path, math.inf) as data:
        assert isinstance(data.train, Windows)  # any number of bytes is allowed
        return LoadedDataset(data.info, data.holdout, data.train)


def load_holdout(path: Location) -> HoldoutDataset:
    """Read the hold-out of a dataset, but none of its training windows.

    Raises:
      UserError: as for `load_dataset`.
    """

    def load(version: str, info: DatasetInfo) -> HoldoutDataset:
        return HoldoutDataset(info, _load(path, "holdout", version, info))

    return _read_unchanged(path, load)


@contextlib.contextmanager
def open_dataset(path: Location, memory_bytes: float) -> Iterator[VoiceDataset]:
    """Open a dataset to train on it, for as long as the context lasts.

    If it is replaced while it is opened, the new one is opened. The windows and their order are
    the same in memory and on disk.

    Args:
        path: Folder or URL of the dataset.
        memory_bytes: Memory that the training windows may take. If they need more, they stay on
            disk, and are read when they are taken.

    Raises:
        UserError: as for `load_dataset`. All records are checked either way.
    """
    with contextlib.ExitStack() as stack:

        def open_both(version: str, info: DatasetInfo) -> VoiceDataset:
            train: TrainingWindows
            if count_bytes(info) <= memory_bytes:
                train = _load(path, "train", version, info)
            else:
                train = _open(path, version, info, stack)
            return VoiceDataset(info, _load(path, "holdout", version, info), train)

        yield _read_unchanged(path, open_both)


def count_bytes(info: DatasetInfo) -> int:
    """Return the bytes that a dataset's training windows take in memory."""
    return info.train_slices * _layout(info).bytes_per_window


def _read_unchanged(path: Location, read: Callable[[str, DatasetInfo], _Read]) -> _Read:
    """Call `read` with a dataset's version and description, again if it is replaced meanwhile."""
    for _ in range(_MAX_READS):
        version, info = _read_description(path)
        try:
            data = read(version, info)
        except UserError:
            if not _has_changed(path, info):
                raise
        else:
            if not _has_changed(path, info):
                return data
    raise _replaced(path)


def iterate(path: Location, split: Split) -> Iterator[dict[str, Any]]:
    """Yield the records of a split one by one; each takes about half a megabyte.

    A record has `wave` float32 [frames * hop], `content` float16 [frames / 2, channels], `f0`
    float32 [frames] in Hz (0 is unvoiced), `speaker`, `source` (name of the cut) and `start`
    (seconds into its file).

    Raises:
      UserError: as for `load_dataset`, when the damaged record is reached; at the end, if the
        dataset was replaced meanwhile.
    """
    version, info = _read_description(path)
    for _, record in _scan(path, split, info):
        with _report_damage(path):
            wave, scale = _stored_wave(record, version)
            sound = {"wave": dequantize(wave, scale)}
        # Copies, because views would hold the bytes of the whole record.
        values = {
            name: value.copy() if isinstance(value, np.ndarray) else value
            for name, value in record.items()
            if name not in ("scale", "wave")
        }
        yield values | sound
    if _has_changed(path, info):
        raise _replaced(path)


def _read_description(path: Location) -> tuple[str, DatasetInfo]:
    """Return the version of a dataset's format, and its description."""
    try:
        content = places.read(places.join(path, "metadata.json"))
        if content is None:
            raise _not_ours(path)
        metadata = parse_json(content)
        if not isinstance(metadata, dict) or metadata.pop("format", None) != FORMAT:
            raise _not_ours(path)
        version = metadata.pop("version", None)
        if version not in (VERSION, _FLOAT_VERSION):
            raise UserError(
                f"{path} is a dataset of version {sanitize(version, 20)}, this program reads "
                f"{VERSION}; prepare it again"
            )
        return version, DatasetInfo.from_dict(metadata)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {describe_os_error(error)}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is damaged (metadata.json does not read); prepare it again"
        ) from error


def _counts(info: DatasetInfo) -> tuple[tuple[Split, int], ...]:
    return ("train", info.train_slices), ("holdout", info.holdout_slices)


def _layout(info: DatasetInfo) -> Layout:
    return Layout(PRESETS[info.preset].audio.hop, info.content_channels)


def _scan(
    path: Location, split: Split, info: DatasetInfo
) -> Iterator[tuple[Address, dict[str, Any]]]:
    """Yield the records of a split as they are stored, and where."""
    expected = dict(_counts(info))[split]
    if expected == 0:  # TFDS has no empty splits
        return
    with _report_damage(path), tfds_reader.open_split(path, split, expected) as records:
        for address, record in records.scan():
            yield address, _with_text(record)


def _with_text(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"source": record["source"].decode("utf-8")}


def _stored_wave(record: dict[str, Any], version: str) -> tuple[np.ndarray, float]:
    """Return the samples of a record and their scale. Raises ValueError if they are neither."""
    wave = record["wave"]
    if version == _FLOAT_VERSION:
        return wave, 1.0
    scale = float(record["scale"])
    if wave.dtype != np.int16 or not 0 < scale < math.inf:
        raise ValueError(f"samples of type {wave.dtype} with scale {scale}")
    return wave, scale


def _load(path: Location, split: Split, version: str, info: DatasetInfo) -> Windows:
    """Read a split into memory.

    Raises UserError unless its records have the shapes that `info` promises and one scale.
    """
    layout = _layout(info)
    scan = iter(_scan(path, split, info))
    # The first record's reader checks the number of slices, before they get any memory.
    first = list(itertools.islice(scan, 1))
    count = dict(_counts(info))[split]
    sample_type = np.float32 if version == _FLOAT_VERSION else np.int16
    fields = layout.allocate((count,), FIELDS, sample_type)
    start = np.zeros(count, np.float64)
    sources: list[str] = []
    scales = set()
    for row, (_, record) in enumerate(itertools.chain(first, scan)):
        with _report_damage(path):
            layout.fill(fields, row, record, _wave_of_one_scale(record, version, scales))
            start[row] = record["start"]
        sources.append(record["source"])
    windows = Windows(
        **fields, source=sources, start=start, scale=scales.pop() if scales else 1.0
    )
    if split == "train" and version == _FLOAT_VERSION:
        return quantize_windows(windows)
    return windows


def _open(
    path: Location, version: str, info: DatasetInfo, stack: contextlib.ExitStack
) -> StoredWindows:
    """Check all training records, and keep where they are.

    Raises UserError as `_load`.
    """
    layout = _layout(info)
    sample_type = np.float32 if version == _FLOAT_VERSION else np.int16
    addresses: list[Address] = []
    lengths: list[int] = []
    speakers: list[int] = []
    hashes: list[bytes] = []
    scales = set()
    peak = 0.0
    report_damage = functools.partial(_report_damage, path)
    with report_damage():
        split = stack.enter_context(tfds_reader.open_split(path, "train", info.train_slices))
        for address, record in split.scan():
            row = layout.allocate((1,), FIELDS, sample_type)
            wave = _wave_of_one_scale(record, version, scales)
            layout.fill(row, 0, record, wave)
            if version == _FLOAT_VERSION:
                peak = max(peak, float(np.abs(wave).max(initial=0.0)))
            addresses.append(address)
            lengths.append(int(row["lengths"][0]))
            speakers.append(int(row["speaker"][0]))
            values = (row["lengths"][0], row["speaker"][0], row["f0"][0])
            source = _with_text(record)["source"]
            hashes.append(hash_row(source, np.float64(record["start"]), *values))
    windows = StoredWindows(
        split,
        layout,
        addresses,
        np.array(lengths, np.int32),
        np.array(speakers, np.int32),
        hashes,
        scale_for_peak(peak) if version == _FLOAT_VERSION else scales.pop(),
        report_damage,
    )
    stack.callback(windows.close)
    return windows


def _wave_of_one_scale(record: dict[str, Any], version: str, scales: set[float]) -> np.ndarray:
    """Return the samples of a record as they are stored, and add their scale to those seen.

    Raises ValueError if they have another scale than those before.
    """
    wave, scale = _stored_wave(record, version)
    scales.add(scale)
    if len(scales) > 1:
        raise ValueError("records of one split have several scales")
    return wave


@contextlib.contextmanager
def _report_damage(path: Location) -> Iterator[None]:
    """Turn any error of reading records into one line; a parser's words help nobody."""
    try:
        yield
    except (MemoryError, UserError):
        raise
    except (AttributeError, ImportError, NotImplementedError, TypeError) as error:
        # What packages that do not fit together raise, not what damaged files do.
        reason = f"{type(error).__name__}: {sanitize(error, 200)}"
        raise UserError(
            f"{path} cannot be read ({reason}): if other datasets cannot, either, bring the "
            "packages up to date (pip install -U tensorflow-datasets protobuf)"
        ) from error
    except Exception as error:
        raise UserError(
            f"{path} is damaged (a record does not read); prepare it again"
        ) from error


def _has_changed(path: Location, info: DatasetInfo) -> bool:
    """Return whether a dataset was replaced by another one since its description was read."""
    try:
        return read_info(path) != info
    except UserError:
        return True


def _replaced(path: Location) -> UserError:
    return UserError(
        f"{path} was replaced while it was read: run the command again when its preparation has "
        "ended"
    )


def _not_ours(path: Location) -> UserError:
    return UserError(f"{path} is not a dataset made by `rvc-jax prepare`")
