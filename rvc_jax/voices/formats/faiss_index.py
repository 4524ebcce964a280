"""Retrieval indices as faiss keeps them, written and read without faiss: `IVF{n},Flat`, as the
tools of the RVC world make and expect them.

The layout is that of https://github.com/facebookresearch/faiss (index_write.cpp). All numbers are
little-endian, and most arrays are preceded by their length. A file is: the four letters of its
kind, a header, then

    flat   the rows
    IVF    number of cells, cells to probe; the centres as a flat index; a map of ids; per cell its rows and their ids
"""

from __future__ import annotations

import dataclasses
import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from rvc_jax.errors import UserError, sanitize
from rvc_jax.storage.files import atomic_write

MAX_ROWS = 200_000
"""Rows that an index holds; of more, REDUCED_ROWS centres are made first, as RVC does."""

REDUCED_ROWS = 10_000

_ROWS_PER_CELL = 39  # with fewer, faiss warns
_WIDEST = 1 << 14
_LARGEST = 1e15  # so that squared distances stay finite in float32
_L2 = 1
_HEADER = struct.Struct("<iqqq?i")
_UNUSED = 1 << 20
_FLAT = (b"IxF2", b"IxFI", b"IxFl")
_OLD_IVF = (b"IvFl", b"IvFL")
_WITH_IDS = (b"IxMp", b"IxM2")
_HASHED_IDS = 2
_DEPTH = 3
_OTHERS = {
    b"IHN": "HNSW graph",
    b"INS": "NSG graph",
    b"INN": "NNDescent graph",
    b"IxP": "product quantiser or transform",
    b"IvP": "IVF with a product quantiser",
    b"IwP": "IVF with a product quantiser",
    b"IwQ": "IVF with residuals",
    b"IxS": "scalar quantiser",
    b"IwS": "IVF with a scalar quantiser",
    b"IvS": "IVF with a scalar quantiser",
    b"IwF": "IVF of a kind without plain rows",
    b"IxH": "LSH",
    b"Ixh": "LSH",
    b"IxR": "refined or residual index",
    b"IB": "binary index",
    b"Ix": "index of codes",
    b"Iw": "IVF of codes",
    b"Iv": "IVF of codes",
}


@dataclasses.dataclass(frozen=True)
class WrittenIndex:
    """What became an index."""

    rows: int
    """That the file holds."""
    given: int
    """Rows that it was made of; more than `rows` if they were reduced."""
    channels: int
    cells: int


def count_cells(rows: int) -> int:
    """Number of cells by RVC's formula; 1 where that gives none."""
    return max(1, min(int(16 * math.sqrt(rows)), rows // _ROWS_PER_CELL))


def write(path: Path | str, rows: np.ndarray, seed: int = 0) -> WrittenIndex:
    """Makes an `IVF{n},Flat` index, to be searched with one probe, that faiss reads. Row 0 gets the
    id 0, and so on.

    rows: [rows, channels], any float type. No cell is empty: other tools get NaN from a search that
    ends in such a one.

    Raises:
      UserError: if there are no rows, they are too wide or hold NaN, or the file can't be written.
    """
    path = Path(path)
    given = len(rows)
    rows = _checked(path, rows)
    from rvc_jax.voices.formats.kmeans import assign, kmeans

    if len(rows) > MAX_ROWS:
        rows = kmeans(rows, REDUCED_ROWS, seed, rows_per_cluster=10)
    centers = kmeans(rows, count_cells(len(rows)), seed)
    numbers = assign(rows, centers)
    used, numbers = np.unique(
        numbers, return_inverse=True
    )  # rows that are equal leave cells empty
    try:
        with atomic_write(path) as file:
            _write(file, rows, centers[used], numbers)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    return WrittenIndex(len(rows), given, rows.shape[1], len(used))


def _checked(path: Path, rows: np.ndarray) -> np.ndarray:
    if (
        rows.ndim != 2
        or not np.issubdtype(rows.dtype, np.floating)
        or not 1 <= rows.shape[1] <= _WIDEST
    ):
        raise UserError(
            f"{path}: an index is made of rows of features, not of {rows.dtype} {list(rows.shape)}"
        )
    if not len(rows):
        raise UserError(f"{path}: there are no features to make an index of")
    with np.errstate(over="ignore"):
        rows = np.asarray(rows, np.float32)
    if bad := _not_features(rows):
        raise UserError(
            f"{path}: {bad} of {len(rows)} rows of features hold NaN, infinity, or numbers beyond 1e15"
        )
    return rows


def _write(file: BinaryIO, rows: np.ndarray, centers: np.ndarray, numbers: np.ndarray) -> None:
    channels = rows.shape[1]

    def start(kind: bytes, count: int) -> None:
        file.write(kind + _HEADER.pack(channels, count, _UNUSED, _UNUSED, True, _L2))

    start(b"IwFl", len(rows))
    file.write(struct.pack("<QQ", len(centers), 1))
    start(b"IxF2", len(centers))
    file.write(struct.pack("<Q", centers.size) + centers.astype("<f4").tobytes())
    file.write(struct.pack("<BQ", 0, 0))  # no map of ids: it is made when something asks for it
    sizes = np.bincount(numbers, minlength=len(centers))
    file.write(b"ilar" + struct.pack("<QQ", len(centers), 4 * channels))
    file.write(b"full" + struct.pack("<Q", len(sizes)) + sizes.astype("<u8").tobytes())
    order = np.argsort(numbers, kind="stable")
    for ids in np.split(order, np.cumsum(sizes)[:-1]):
        file.write(rows[ids].astype("<f4").tobytes() + ids.astype("<i8").tobytes())


def read(path: Path | str) -> np.ndarray:
    """The rows of an index in the order of their ids: float32 [rows, channels].

    Nothing is taken for true that the file says: its sizes are compared with its length before
    memory is taken.

    Raises:
      UserError: if it can't be read, is damaged, holds no rows or such as hold NaN, or is of a kind
        that has none: only flat and `IVF,Flat` indices have, also within an id map.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            reader = _Reader(file)
            rows = reader.index(_DEPTH)
            if reader.left:
                raise _Damaged(f"{reader.left} bytes follow its end")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except _OtherKind as error:
        raise UserError(f"{path}: {error}") from None
    except _Damaged as error:
        raise UserError(f"{path}: not a faiss index, or damaged: {error}") from None
    if not len(rows):
        raise UserError(
            f'{path}: the index holds no rows; RVC leaves one such, "trained_...": use "added_..."'
        )
    if bad := _not_features(rows):
        raise UserError(
            f"{path}: {bad} of {len(rows)} rows hold NaN, infinity, or numbers beyond 1e15; make it anew"
        )
    return rows


def _not_features(rows: np.ndarray) -> int:
    """Number of rows that can't be compared with others."""
    parts = (rows[begin : begin + 8192] for begin in range(0, len(rows), 8192))
    return sum(int((~(np.abs(part) < _LARGEST).all(axis=1)).sum()) for part in parts)


class _Damaged(Exception):
    """What the file says cannot be true."""


class _OtherKind(Exception):
    """An index that has no plain rows."""


class _Reader:
    """Reads a file from its beginning to its end."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.left = os.fstat(file.fileno()).st_size

    def index(self, depth: int) -> np.ndarray:
        """Rows of an index in the order of their ids; depth: how deep indices may lie in one
        another."""
        kind = self._bytes(4)
        if kind in _FLAT:
            return self._flat()
        if kind == b"IwFl" or kind in _OLD_IVF:
            return self._ivf(kind, depth)
        if kind in _WITH_IDS:
            return self._with_ids(depth)
        name = next((name for start, name in _OTHERS.items() if kind.startswith(start)), None)
        if name is None:
            raise _Damaged(f"it begins with {sanitize(repr(kind)[1:])}")
        letters = sanitize(kind.decode("latin-1"))
        raise _OtherKind(
            f"a faiss index of another kind ({name}, {letters}); only Flat and IVF,Flat hold the features"
        )

    def _header(self) -> tuple[int, int]:
        """Channels and rows."""
        channels, count, *_, metric = _HEADER.unpack(self._bytes(_HEADER.size))
        if metric > _L2:
            self._bytes(4)  # an exponent
        if not 1 <= channels <= _WIDEST:
            raise _Damaged(f"its rows have {channels} channels")
        if not 0 <= count <= self.left // (4 * channels):
            raise _Damaged(
                f"it cannot hold {count} rows of {channels} channels: {self.left} bytes are left"
            )
        return channels, count

    def _flat(self) -> np.ndarray:
        channels, count = self._header()
        if (length := self._number()) != count * channels:
            raise _Damaged(f"{count} rows of {channels} channels are not {length} numbers")
        return self._array("<f4", length).reshape(count, channels)

    def _with_ids(self, depth: int) -> np.ndarray:
        if not depth:
            raise _Damaged("indices lie within indices")
        _, count = self._header()
        rows = self.index(depth - 1)
        ids = self._array("<i8", self._number())
        if not len(ids) == len(rows) == count:
            raise _Damaged(f"{len(rows)} rows have {len(ids)} ids")
        return rows[np.argsort(ids, kind="stable")]

    def _ivf(self, kind: bytes, depth: int) -> np.ndarray:
        if not depth:
            raise _Damaged("indices lie within indices")
        channels, count = self._header()
        cells = self._number()
        _ = self._number()
        if cells > self.left // (4 * channels):
            raise _Damaged(f"it cannot hold the centres of {cells} cells")
        self._centers(cells, channels, depth - 1)
        if kind in _OLD_IVF:
            ids = [self._array("<i8", self._number()) for _ in range(cells)]
            self._id_map()
            rows = _Rows(count, channels)
            for some in ids:
                rows.put(some, self._old_cell(kind, len(some), channels))
            return rows.all()
        self._id_map()
        rows = _Rows(count, channels)
        for size in self._sizes(cells, count, channels):
            some = self._array("<f4", size * channels).reshape(size, channels)
            rows.put(self._array("<i8", size), some)
        return rows.all()

    def _centers(self, cells: int, channels: int, depth: int) -> None:
        try:
            centers = self.index(depth)
        except _OtherKind as error:
            raise _OtherKind(f"its cells are found by {error}") from None
        if centers.shape != (cells, channels):
            raise _Damaged(f"{cells} cells have {len(centers)} centres")

    def _old_cell(self, kind: bytes, size: int, channels: int) -> np.ndarray:
        unit = 1 if kind == b"IvFL" else 4  # the length is told in bytes, or in numbers
        if (length := self._number() * unit) != 4 * size * channels:
            raise _Damaged(f"a cell with {size} ids has {length} bytes of rows")
        return self._array("<f4", size * channels).reshape(size, channels)

    def _id_map(self) -> None:
        """Passed over: the ids stand with the rows."""
        form = self._bytes(1)[0]
        self._skip(8 * self._number())
        if form == _HASHED_IDS:
            self._skip(16 * self._number())

    def _sizes(self, cells: int, count: int, channels: int) -> list[int]:
        """Rows of each cell that has some."""
        form = self._bytes(4)
        if form in (b"ilod", b"ilof"):
            raise _OtherKind(
                "a faiss index whose rows lie in another file; only one that holds them can be read"
            )
        if form == b"il00":
            return []
        if form != b"ilar" or self._number() != cells or self._number() != 4 * channels:
            raise _Damaged("its cells are not described as those of plain rows")
        if (list_form := self._bytes(4)) not in (b"full", b"sprs"):
            raise _Damaged("the sizes of its cells are missing")
        sizes = self._array("<u8", self._number())
        if (list_form == b"full" and len(sizes) != cells) or (
            list_form == b"sprs" and len(sizes) % 2
        ):
            raise _Damaged(f"it has {cells} cells, and the sizes of {len(sizes)}")
        if list_form == b"sprs":
            numbers = sizes[::2]
            sizes = sizes[1::2]
            if len(np.unique(numbers)) != len(numbers) or (numbers >= cells).any():
                raise _Damaged("it tells sizes of cells that are not there")
        sizes = [int(size) for size in sizes if size]
        if sum(sizes) != count:
            raise _Damaged(f"its cells hold {sum(sizes)} rows, not {count}")
        return sizes

    def _number(self) -> int:
        return int.from_bytes(self._bytes(8), "little")

    def _array(self, dtype: str, length: int) -> np.ndarray:
        nbytes = np.dtype(dtype).itemsize * length
        if nbytes > self.left:
            raise _Damaged(f"it ends too early: {nbytes} bytes should follow, {self.left} do")
        array = np.empty(length, dtype)
        if self._file.readinto(array.view(np.uint8)) != nbytes:
            raise _Damaged("it became shorter while it was read")
        self.left -= nbytes
        return array

    def _bytes(self, length: int) -> bytes:
        return self._array("u1", length).tobytes()

    def _skip(self, length: int) -> None:
        if length > self.left:
            raise _Damaged(f"it ends too early: {length} bytes should follow, {self.left} do")
        self._file.seek(length, os.SEEK_CUR)
        self.left -= length


class _Rows:
    """Rows that come with their ids, in any order."""

    def __init__(self, count: int, channels: int):
        self._rows = np.empty((count, channels), np.float32)
        self._ids = np.empty(count, np.int64)
        self._filled = 0

    def put(self, ids: np.ndarray, rows: np.ndarray) -> None:
        end = self._filled + len(ids)
        if end > len(self._ids):
            raise _Damaged(f"its cells hold more than {len(self._ids)} rows")
        self._rows[self._filled : end] = rows
        self._ids[self._filled : end] = ids
        self._filled = end

    def all(self) -> np.ndarray:
        """In the order of their ids, which are 0, 1, ..."""
        if self._filled != len(self._ids):
            raise _Damaged(f"its cells hold {self._filled} rows, not {len(self._ids)}")
        order = np.argsort(self._ids, kind="stable")
        if not np.array_equal(self._ids[order], np.arange(len(order))):
            raise _Damaged(
                "the ids of its rows are not 0, 1, 2, ...: some are missing, twice there, or out of range"
            )
        return self._rows[order]
