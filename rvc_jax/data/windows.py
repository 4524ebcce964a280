"""Windows of a split as arrays: slices of speech padded with zeros to one static shape."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from rvc_jax.config import WINDOW_FRAMES
from rvc_jax.data.quantization import dequantize, quantize, scale_for_peak

FIELDS = ("content", "f0", "lengths", "speaker", "wave")
"""What training takes of a window."""

Fields = dict[str, np.ndarray]
"""Arrays by the names of FIELDS, with the dimensions of `Windows` behind those of the rows."""


class Layout(NamedTuple):
    """Size of a dataset's windows."""

    hop: int
    """Samples per frame."""
    channels: int
    """Channels of the content features."""

    @property
    def bytes_per_window(self) -> int:
        """Bytes of a window in memory."""
        arrays = self.allocate((1,), FIELDS).values()
        return sum(array.nbytes for array in arrays)

    def allocate(
        self, shape: tuple[int, ...], names: Sequence[str], sample_type: type = np.int16
    ) -> Fields:
        """Make zeros for windows of silence [*shape, ...].

        Args:
            shape: Dimensions of the rows.
            names: Which fields.
            sample_type: int16 or float32.
        """
        kinds: dict[str, tuple[type, tuple[int, ...]]] = {
            "content": (np.float16, (WINDOW_FRAMES // 2, self.channels)),
            "f0": (np.float32, (WINDOW_FRAMES,)),
            "lengths": (np.int32, ()),
            "speaker": (np.int32, ()),
            "wave": (sample_type, (WINDOW_FRAMES * self.hop,)),
        }
        return {name: np.zeros((*shape, *kinds[name][1]), kinds[name][0]) for name in names}

    def fill(
        self, fields: Fields, row: int | tuple[int, ...], record: dict[str, Any], wave: Any
    ) -> None:
        """Write a record into a row of zeros.

        Args:
            fields: Arrays of `allocate`.
            row: Where.
            record: Features as `data.tfds_reader` returns them.
            wave: Samples of the record [frames * hop], of the type of `fields`.

        Raises:
            ValueError: The record has other shapes.
        """
        frames = len(record["f0"])
        values = {
            "content": (record["content"], frames // 2),
            "f0": (record["f0"], frames),
            "wave": (wave, frames * self.hop),
        }
        for name, array in fields.items():
            if name in values:
                value, size = values[name]
                array[row][:size] = value
            else:
                array[row] = frames if name == "lengths" else record[name]


class TrainingWindows(Protocol):
    """Windows to train on, in memory or on disk."""

    @property
    def lengths(self) -> np.ndarray:
        """int32 [slices]: frames that are not padding."""
        ...

    @property
    def speaker(self) -> np.ndarray:
        """int32 [slices]: positions in `DatasetInfo.speakers`."""
        ...

    @property
    def scale(self) -> float:
        """Amplitude of 1 in `wave`."""
        ...

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray, names: Sequence[str] = FIELDS) -> Fields:
        """Return windows by their numbers [...]: arrays [..., ...] of the named fields."""
        ...

    def hash_rows(self) -> Iterator[bytes]:
        """Yield a hash of every window without its sound and content."""
        ...


@dataclasses.dataclass(frozen=True)
class Windows:
    """Slices of a split in memory, padded with zeros to WINDOW_FRAMES = 336 frames."""

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

    def take(self, rows: np.ndarray, names: Sequence[str] = FIELDS) -> Fields:
        """Return windows by their numbers [...]: arrays [..., ...] of the named fields."""
        return {name: getattr(self, name)[rows] for name in names}

    def hash_rows(self, with_sound: bool = False) -> Iterator[bytes]:
        """Yield a hash of every window.

        Args:
            with_sound: Whether sound and content count.
        """
        for row in range(len(self)):
            sound = (self.samples(row), self.content[row]) if with_sound else ()
            arrays = (self.start[row], self.lengths[row], self.speaker[row], self.f0[row])
            yield hash_row(self.source[row], *arrays, *sound)


def hash_row(source: str, *arrays: Any) -> bytes:
    """Hash what a window is made of: start, length, speaker, padded f0, and perhaps more."""
    digest = hashlib.sha256(source.encode("utf-8", "surrogateescape"))
    for array in arrays:
        digest.update(array.tobytes())
    return digest.digest()


def quantize_windows(windows: Windows) -> Windows:
    """Convert the float32 samples of an older dataset, as every run on it has trained on them."""
    peak = max((float(np.abs(row).max()) for row in windows.wave), default=0.0)
    scale = scale_for_peak(peak)
    wave = np.empty(windows.wave.shape, np.int16)
    for number, row in enumerate(windows.wave):
        wave[number] = quantize(row, scale)  # row by row: temporaries of one window only
    return dataclasses.replace(windows, wave=wave, scale=scale)
