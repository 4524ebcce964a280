"""A prepared dataset as arrays, and what is known of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from rvc_jax.config import PRESETS, WINDOW_FRAMES
from rvc_jax.errors import UserError
from rvc_jax.storage import places
from rvc_jax.storage.places import Location

FORMAT = "rvc_jax voice"
VERSION = "2.0.0"


class Drop(NamedTuple):
    """Something that was left out, and why."""

    file: str
    seconds: float | None
    """Where in the file; None is the whole file."""
    reason: str


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What a dataset was made of and how."""

    preset: str
    sample_rate: int
    content_encoder: str
    content_channels: int
    content_fingerprint: str
    """Of the content encoder: conversion must use the very same one."""
    f0_method: str
    speakers: tuple[str, ...]
    """Names; the place in this table is the number that records and voices use."""
    speaker_minutes: tuple[float, ...]
    """Usable speech of every speaker, hold-out included."""
    speaker_median_f0: tuple[float, ...]
    """Hz, over the voiced frames of every speaker; 0 if there is none."""
    files: int
    """Files that were read; those that could not be are in `skipped`."""
    source_minutes: float
    speech_minutes: float
    """Between silences, without unusable speech; overlaps of slices count once."""
    train_slices: int
    holdout_slices: int
    holdout_seconds: float
    dropped: tuple[Drop, ...]
    notes: tuple[str, ...]
    """What the user should know besides."""
    config: dict[str, Any]
    """The PrepareConfig."""
    fingerprint: str
    """Hash of the sources' bytes, the settings and the weights of the features."""
    median_f0: float
    """Hz, over the voiced frames; 0 if there is none."""

    @property
    def skipped(self) -> tuple[Drop, ...]:
        """Whole files that gave nothing."""
        return tuple(drop for drop in self.dropped if drop.seconds is None)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON."""
        return dataclasses.asdict(self) | {"dropped": [list(drop) for drop in self.dropped]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DatasetInfo:
        """The inverse of `to_dict`, also after a way through JSON. Raises TypeError if it is
        something else."""
        values = dict(values)
        values["dropped"] = tuple(Drop(*drop) for drop in values["dropped"])
        values |= {
            name: tuple(values[name])
            for name in ("speakers", "speaker_minutes", "speaker_median_f0", "notes")
        }
        return cls(**values)


@dataclasses.dataclass(frozen=True)
class Windows:
    """Slices padded to WINDOW_FRAMES = 336 frames with zeros."""

    wave: np.ndarray
    """float32 [slices, 336 * hop]."""
    content: np.ndarray
    """float16 [slices, 168, channels]."""
    f0: np.ndarray
    """float32 [slices, 336] Hz; 0 is unvoiced."""
    lengths: np.ndarray
    """int32 [slices]: frames that are not padding."""
    speaker: np.ndarray
    """int32 [slices]."""
    source: list[str]
    """The files that the slices are from."""
    start: np.ndarray
    """float64 [slices]: seconds into those files."""

    def __len__(self) -> int:
        return len(self.lengths)


@dataclasses.dataclass(frozen=True)
class VoiceDataset:
    info: DatasetInfo
    train: Windows
    holdout: Windows


def read_info(path: Location) -> DatasetInfo:
    """What is known of a dataset, without reading it.

    Raises:
      UserError: there is no dataset of ours, or its description is damaged or of another version.
    """
    try:
        content = places.read(places.join(path, "metadata.json"))
        if content is None:
            raise _not_ours(path)
        metadata = json.loads(content)
        if not isinstance(metadata, dict) or metadata.pop("format", None) != FORMAT:
            raise _not_ours(path)
        if (version := metadata.pop("version", None)) != VERSION:
            raise UserError(
                f"{path} is a dataset of version {version}, this program reads {VERSION}; prepare it again"
            )
        return DatasetInfo.from_dict(metadata)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is damaged (metadata.json does not read); prepare it again"
        ) from error


def load_dataset(path: Location) -> VoiceDataset:
    """Read a dataset into memory.

    Raises:
      UserError: as `read_info` does, or records are missing or damaged.
    """
    info = read_info(path)
    with places.local_folder(path) as folder:
        splits = [
            _pad(_records(folder, path, split, info), count, info, path)
            for split, count in _counts(info)
        ]
    return VoiceDataset(info, *splits)


def iterate(path: Location, split: Literal["train", "holdout"]) -> Iterator[dict[str, Any]]:
    """The records of a split one by one, unpadded, as `data.records` makes them; a record takes
    about half a megabyte.

    Raises:
      UserError: as `load_dataset` does, once the damage is met.
    """
    info = read_info(path)
    with places.local_folder(path) as folder:
        yield from _records(folder, path, split, info)


def _counts(info: DatasetInfo) -> tuple[tuple[Literal["train", "holdout"], int], ...]:
    return ("train", info.train_slices), ("holdout", info.holdout_slices)


def _records(
    folder: Path, path: Location, split: str, info: DatasetInfo
) -> Iterator[dict[str, Any]]:
    """Records of the dataset in a local folder; errors name the place that the user named."""
    from rvc_jax.data.tfds_import import import_tfds

    expected = dict(_counts(info))[split]
    if expected == 0:  # TFDS has no empty splits
        return
    tfds = import_tfds()
    count = 0
    with _report_damage(path):
        builder = tfds.builder_from_directory(str(folder))
        reading = tfds.ReadConfig(try_autocache=False)  # every record is read once
        for record in tfds.as_numpy(
            builder.as_dataset(split=split, shuffle_files=False, read_config=reading)
        ):
            count += 1
            yield record | {"source": record["source"].decode("utf-8")}
        if count != expected:
            raise ValueError(f"{count} of {expected} records")


def _pad(
    records: Iterable[dict[str, Any]], slices: int, info: DatasetInfo, path: Location
) -> Windows:
    """Records as arrays. Raises UserError unless they have the shapes that `info` promises."""
    hop = PRESETS[info.preset].audio.hop
    windows = Windows(
        wave=np.zeros((slices, WINDOW_FRAMES * hop), np.float32),
        content=np.zeros((slices, WINDOW_FRAMES // 2, info.content_channels), np.float16),
        f0=np.zeros((slices, WINDOW_FRAMES), np.float32),
        lengths=np.zeros(slices, np.int32),
        speaker=np.zeros(slices, np.int32),
        source=[],
        start=np.zeros(slices, np.float64),
    )
    for i, record in enumerate(records):
        frames = len(record["f0"])
        with _report_damage(path):
            windows.wave[i, : frames * hop] = record["wave"]
            windows.content[i, : frames // 2] = record["content"]
            windows.f0[i, :frames] = record["f0"]
        windows.lengths[i] = frames
        windows.speaker[i] = record["speaker"]
        windows.source.append(record["source"])
        windows.start[i] = record["start"]
    return windows


@contextlib.contextmanager
def _report_damage(path: Location) -> Iterator[None]:
    """Whatever reading the records raises becomes one line: what TensorFlow says of them is its own
    affair."""
    try:
        yield
    except (MemoryError, UserError):
        raise
    except Exception as error:
        raise UserError(
            f"{path} is damaged (a record does not read); prepare it again"
        ) from error


def _not_ours(path: Location) -> UserError:
    return UserError(f"{path} is not a dataset made by `rvc-jax prepare`")
