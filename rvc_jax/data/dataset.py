"""A prepared dataset: its description, its records, and its slices as arrays."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from rvc_jax.config import PRESETS, WINDOW_FRAMES
from rvc_jax.data.quantization import dequantize, quantize, scale_for_peak
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
class Windows:
    """Slices of a split, padded with zeros to WINDOW_FRAMES = 336 frames."""

    wave: np.ndarray
    """int16 [slices, 336 * hop]. float32 with a scale of 1 in the hold-out of datasets from before
    version 3, so that evaluations of their runs stay bit for bit the same."""
    content: np.ndarray
    """float16 [slices, 168, channels]."""
    f0: np.ndarray
    """float32 [slices, 336] in Hz; 0 is unvoiced."""
    lengths: np.ndarray
    """int32 [slices]: frames that are not padding."""
    speaker: np.ndarray
    """int32 [slices]: positions in `DatasetInfo.speakers`."""
    source: list[str]
    """Names of the files that the slices come from."""
    start: np.ndarray
    """float64 [slices]: seconds into those files."""
    scale: float = 1.0
    """Amplitude of 1 in `wave`."""

    def __len__(self) -> int:
        return len(self.lengths)

    def samples(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """Return the sound of some windows as float32 of full scale 1, padding included."""
        return dequantize(self.wave[rows], self.scale)


@dataclasses.dataclass(frozen=True)
class VoiceDataset:
    """A dataset in memory."""

    info: DatasetInfo
    train: Windows
    holdout: Windows

    @functools.cached_property
    def identity(self) -> str:
        """What distinguishes this dataset from others, wherever it is: a hash of what was
        prepared how, and one of what is in the windows.

        Of the training windows, everything but sound and content counts.
        """
        rows = [*_hash_rows(self.train, with_sound=False)]
        rows += _hash_rows(self.holdout, with_sound=True)
        content = hashlib.sha256(b"".join(sorted(rows))).hexdigest()
        return f"{self.info.fingerprint[:16]}-{content[:16]}"


def _hash_rows(windows: Windows, with_sound: bool) -> Iterator[bytes]:
    """Yield a hash of every window: shards may come in another order."""
    for row in range(len(windows)):
        digest = hashlib.sha256(windows.source[row].encode("utf-8", "surrogateescape"))
        for array in (windows.start, windows.lengths, windows.speaker, windows.f0):
            digest.update(array[row].tobytes())
        if with_sound:
            digest.update(windows.samples(row).tobytes())
            digest.update(windows.content[row].tobytes())
        yield digest.digest()


def read_info(path: Location) -> DatasetInfo:
    """Read a dataset's description, but none of its records.

    Raises:
      UserError: no dataset of ours is at `path`, or its description is damaged or of another
        version.
    """
    return _read_description(path)[1]


def load_dataset(path: Location) -> VoiceDataset:
    """Read a dataset into memory. If it is replaced meanwhile, the new one is read.

    Raises:
      UserError: as for `read_info`; also if records are missing or damaged.
    """
    for _ in range(_MAX_READS):
        version, info = _read_description(path)
        try:
            data = _load(path, version, info)
        except UserError:
            if not _has_changed(path, info):
                raise
        else:
            if not _has_changed(path, info):
                return data
    raise _replaced(path)


def _load(path: Location, version: str, info: DatasetInfo) -> VoiceDataset:
    train, holdout = (
        _pad(_read_records(path, split, info), version, count, info, path)
        for split, count in _counts(info)
    )
    if version == _FLOAT_VERSION:
        train = quantize_windows(train)
    return VoiceDataset(info, train, holdout)


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
    for record in _read_records(path, split, info):
        with _report_damage(path):
            wave, scale = _stored_wave(record, version)
            sound = {"wave": dequantize(wave, scale)}
        yield {name: value for name, value in record.items() if name != "scale"} | sound
    if _has_changed(path, info):
        raise _replaced(path)


def quantize_windows(windows: Windows) -> Windows:
    """Convert the float32 samples of an older dataset, as every run on it has trained on them."""
    peak = max((float(np.abs(row).max()) for row in windows.wave), default=0.0)
    scale = scale_for_peak(peak)
    wave = np.empty(windows.wave.shape, np.int16)
    for number, row in enumerate(windows.wave):
        wave[number] = quantize(row, scale)  # row by row: temporaries of one window only
    return dataclasses.replace(windows, wave=wave, scale=scale)


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


def _read_records(path: Location, split: Split, info: DatasetInfo) -> Iterator[dict[str, Any]]:
    """Yield the records of a split as they are stored."""
    expected = dict(_counts(info))[split]
    if expected == 0:  # TFDS has no empty splits
        return
    from rvc_jax.data.tfds_reader import read_stored_records

    count = 0
    with _report_damage(path):
        for record in read_stored_records(path, split, expected):
            count += 1
            yield record | {"source": record["source"].decode("utf-8")}
        if count != expected:
            raise ValueError(f"{count} of {expected} records")


def _stored_wave(record: dict[str, Any], version: str) -> tuple[np.ndarray, float]:
    """Return the samples of a record and their scale. Raises ValueError if they are neither."""
    wave = record["wave"]
    if version == _FLOAT_VERSION:
        return wave, 1.0
    scale = float(record["scale"])
    if wave.dtype != np.int16 or not 0 < scale < math.inf:
        raise ValueError(f"samples of type {wave.dtype} with scale {scale}")
    return wave, scale


def _pad(
    records: Iterable[dict[str, Any]],
    version: str,
    slices: int,
    info: DatasetInfo,
    path: Location,
) -> Windows:
    """Arrange records as arrays.

    Raises UserError unless they have the shapes that `info` promises and one scale.
    """
    hop = PRESETS[info.preset].audio.hop
    records = iter(records)
    # The first record's reader checks the number of slices, before they get any memory.
    first = list(itertools.islice(records, 1))
    sample_type = np.float32 if version == _FLOAT_VERSION else np.int16
    windows = Windows(
        wave=np.zeros((slices, WINDOW_FRAMES * hop), sample_type),
        content=np.zeros((slices, WINDOW_FRAMES // 2, info.content_channels), np.float16),
        f0=np.zeros((slices, WINDOW_FRAMES), np.float32),
        lengths=np.zeros(slices, np.int32),
        speaker=np.zeros(slices, np.int32),
        source=[],
        start=np.zeros(slices, np.float64),
    )
    scales = set()
    for i, record in enumerate(itertools.chain(first, records)):
        frames = len(record["f0"])
        with _report_damage(path):
            wave, scale = _stored_wave(record, version)
            scales.add(scale)
            if len(scales) > 1:
                raise ValueError("records of one split have several scales")
            windows.wave[i, : frames * hop] = wave
            windows.content[i, : frames // 2] = record["content"]
            windows.f0[i, :frames] = record["f0"]
        windows.lengths[i] = frames
        windows.speaker[i] = record["speaker"]
        windows.source.append(record["source"])
        windows.start[i] = record["start"]
    return dataclasses.replace(windows, scale=scales.pop() if scales else 1.0)


@contextlib.contextmanager
def _report_damage(path: Location) -> Iterator[None]:
    """Turn any error of reading records into one line; TensorFlow's own words help nobody."""
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
