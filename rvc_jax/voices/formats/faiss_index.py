"""Writes and reads retrieval indices in faiss's format, without faiss: `IVF{n},Flat`, as RVC's.

faiss trusts its files; this reader does not, since voices are shared on the internet. The layout is
that of https://github.com/facebookresearch/faiss (index_write.cpp). All numbers are little-endian,
and most arrays are preceded by their length. A file has four letters for its kind, a header, then

    flat   the rows
    IVF    number of cells and of cells to probe; the centers as a flat index; a map of ids;
           the rows of each cell and their ids
"""

from __future__ import annotations

import dataclasses
import math
import os
import struct
from pathlib import Path
from typing import IO, Any

import numpy as np

from rvc_jax.errors import UserError, describe_os_error, sanitize
from rvc_jax.storage.files import atomic_write
from rvc_jax.storage.plain_files import WEIGHTS_BYTES, open_plain

MAX_ROWS = 200_000
"""Rows that an index holds. More are first reduced to REDUCED_ROWS centers, as RVC does."""

REDUCED_ROWS = 10_000

_ROWS_PER_CELL = 39  # with fewer, faiss warns
_MAX_CHANNELS = 1 << 14
_MAX_VALUE = 1e15  # so that squared distances stay finite in float32
_L2 = 1
_HEADER = struct.Struct("<iqqq?i")
_UNUSED = 1 << 20
_FLAT = (b"IxF2", b"IxFI", b"IxFl")
_OLD_IVF = (b"IvFl", b"IvFL")
_WITH_IDS = (b"IxMp", b"IxM2")
_HASHED_IDS = 2
_MAX_DEPTH = 3
_OTHERS = {
    b"IHN": "HNSW graph",
    b"INS": "NSG graph",
    b"INN": "NNDescent graph",
    b"IxP": "product quantizer or transform",
    b"IvP": "IVF with a product quantizer",
    b"IwP": "IVF with a product quantizer",
    b"IwQ": "IVF with residuals",
    b"IxS": "scalar quantizer",
    b"IwS": "IVF with a scalar quantizer",
    b"IvS": "IVF with a scalar quantizer",
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
    """The sizes of an index that was written."""

    rows: int
    """Rows in the file."""
    given: int
    """Rows that it was made from; more than `rows` if they were reduced."""
    channels: int
    cells: int


def count_cells(rows: int) -> int:
    """Return the number of cells by RVC's formula, but at least 1."""
    return max(1, min(int(16 * math.sqrt(rows)), rows // _ROWS_PER_CELL))


def write(path: Path | str, rows: np.ndarray, seed: int = 0) -> WrittenIndex:
    """Write an `IVF{n},Flat` index that faiss reads, to be searched with one probe.

    Row 0 gets the id 0, and so on. No cell is empty: other tools get NaN from a search that ends in
    an empty cell.

    Args:
      rows: Content features [rows, channels] of any float type.
      seed: Of the clustering.

    Raises:
      UserError: There are no rows, they are too wide or hold NaN, or the file can't be written.
    """
    path = Path(path)
    given = len(rows)
    rows = _check_rows(path, rows)
    from rvc_jax.voices.formats.kmeans import (
        assign,
        kmeans,
    )  # with JAX, which reading does not need

    if len(rows) > MAX_ROWS:
        rows = kmeans(rows, REDUCED_ROWS, seed, rows_per_cluster=10)
    centers = kmeans(rows, count_cells(len(rows)), seed)
    numbers = assign(rows, centers)
    # Equal rows leave cells empty.
    used, numbers = np.unique(numbers, return_inverse=True)
    try:
        with atomic_write(path) as file:
            _write(file, rows, centers[used], numbers)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {describe_os_error(error)}") from error
    return WrittenIndex(len(rows), given, rows.shape[1], len(used))


def _check_rows(path: Path, rows: np.ndarray) -> np.ndarray:
    are_rows = rows.ndim == 2 and np.issubdtype(rows.dtype, np.floating)
    if not are_rows or not 1 <= rows.shape[1] <= _MAX_CHANNELS:
        raise UserError(
            f"{path}: an index is made of rows of features, not of {rows.dtype} {list(rows.shape)}"
        )
    if not len(rows):
        raise UserError(f"{path}: there are no features to make an index of")
    with np.errstate(over="ignore"):
        rows = np.asarray(rows, np.float32)
    broken = _count_broken_rows(rows)
    if broken:
        raise UserError(
            f"{path}: {broken} of {len(rows)} rows of features hold NaN, infinity, or numbers "
            "beyond 1e15"
        )
    return rows


def _write(file: IO[bytes], rows: np.ndarray, centers: np.ndarray, numbers: np.ndarray) -> None:
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
    """Read the rows of an index in the order of their ids: float32 [rows, channels].

    The file is not trusted: its sizes are compared with its length before memory is allocated.

    Raises:
      UserError: It can't be read, is damaged, holds no rows or rows with NaN, or is of another kind
        than `Flat` and `IVF,Flat`, perhaps within an id map: others hold no plain rows.
    """
    path = Path(path)
    try:
        with open_plain(path, WEIGHTS_BYTES) as file:
            reader = _Reader(file)
            rows = reader.read_index(_MAX_DEPTH)
            if reader.left:
                raise _DamagedError(f"{reader.left} bytes follow its end")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {describe_os_error(error)}") from None
    except _OtherKindError as error:
        raise UserError(f"{path}: {error}") from None
    except _DamagedError as error:
        raise UserError(f"{path}: not a faiss index, or damaged: {error}") from None
    if not len(rows):
        raise UserError(
            f'{path}: the index holds no rows; RVC leaves such an index, "trained_...": use '
            '"added_..."'
        )
    broken = _count_broken_rows(rows)
    if broken:
        raise UserError(
            f"{path}: {broken} of {len(rows)} rows hold NaN, infinity, or numbers beyond 1e15; "
            "make it again"
        )
    return rows


def _count_broken_rows(rows: np.ndarray) -> int:
    """Count the rows that can't be compared with others."""
    parts = (rows[begin : begin + 8192] for begin in range(0, len(rows), 8192))
    return sum(int((~(np.abs(part) < _MAX_VALUE).all(axis=1)).sum()) for part in parts)


class _DamagedError(Exception):
    """What the file says can't be true."""


class _OtherKindError(Exception):
    """An index without plain rows."""


class _Reader:
    """Reads a file from its beginning to its end."""

    def __init__(self, file: Any):
        self._file = file
        self.left = os.fstat(file.fileno()).st_size

    def read_index(self, depth: int) -> np.ndarray:
        """Read the rows of an index in the order of their ids.

        depth: How many indices may be nested in it.
        """
        kind = self._read_bytes(4)
        if kind in _FLAT:
            return self._read_flat()
        if kind == b"IwFl" or kind in _OLD_IVF:
            return self._read_ivf(kind, depth)
        if kind in _WITH_IDS:
            return self._read_with_ids(depth)
        name = next((name for start, name in _OTHERS.items() if kind.startswith(start)), None)
        if name is None:
            raise _DamagedError(f"it begins with {sanitize(repr(kind)[1:])}")
        letters = sanitize(kind.decode("latin-1"))
        raise _OtherKindError(
            f"a faiss index of another kind ({name}, {letters}); only Flat and IVF,Flat hold the "
            "features"
        )

    def _read_header(self) -> tuple[int, int]:
        """Read the number of channels and of rows."""
        channels, count, *_, metric = _HEADER.unpack(self._read_bytes(_HEADER.size))
        if metric > _L2:
            self._read_bytes(4)  # an exponent
        if not 1 <= channels <= _MAX_CHANNELS:
            raise _DamagedError(f"its rows have {channels} channels")
        if not 0 <= count <= self.left // (4 * channels):
            raise _DamagedError(
                f"it cannot hold {count} rows of {channels} channels: {self.left} bytes are left"
            )
        return channels, count

    def _read_flat(self) -> np.ndarray:
        channels, count = self._read_header()
        length = self._read_number()
        if length != count * channels:
            raise _DamagedError(f"{count} rows of {channels} channels are not {length} numbers")
        return self._read_array("<f4", length).reshape(count, channels)

    def _read_with_ids(self, depth: int) -> np.ndarray:
        if not depth:
            raise _DamagedError("too many indices are nested")
        _, count = self._read_header()
        rows = self.read_index(depth - 1)
        ids = self._read_array("<i8", self._read_number())
        if not len(ids) == len(rows) == count:
            raise _DamagedError(f"{len(rows)} rows have {len(ids)} ids")
        return rows[np.argsort(ids, kind="stable")]

    def _read_ivf(self, kind: bytes, depth: int) -> np.ndarray:
        if not depth:
            raise _DamagedError("too many indices are nested")
        channels, count = self._read_header()
        cells = self._read_number()
        self._read_number()  # of cells to probe
        if cells > self.left // (4 * channels):
            raise _DamagedError(f"it cannot hold the centers of {cells} cells")
        self._read_centers(cells, channels, depth - 1)
        if kind in _OLD_IVF:
            ids = [self._read_array("<i8", self._read_number()) for _ in range(cells)]
            self._skip_id_map()
            rows = _Rows(count, channels)
            for some in ids:
                rows.put(some, self._read_old_cell(kind, len(some), channels))
            return rows.all()
        self._skip_id_map()
        rows = _Rows(count, channels)
        for size in self._read_sizes(cells, count, channels):
            some = self._read_array("<f4", size * channels).reshape(size, channels)
            rows.put(self._read_array("<i8", size), some)
        return rows.all()

    def _read_centers(self, cells: int, channels: int, depth: int) -> None:
        try:
            centers = self.read_index(depth)
        except _OtherKindError as error:
            raise _OtherKindError(f"its cells are found by {error}") from None
        if centers.shape != (cells, channels):
            raise _DamagedError(f"{cells} cells have {len(centers)} centers")

    def _read_old_cell(self, kind: bytes, size: int, channels: int) -> np.ndarray:
        unit = 1 if kind == b"IvFL" else 4  # the length is in bytes, or in numbers
        length = self._read_number() * unit
        if length != 4 * size * channels:
            raise _DamagedError(f"a cell with {size} ids has {length} bytes of rows")
        return self._read_array("<f4", size * channels).reshape(size, channels)

    def _skip_id_map(self) -> None:
        """Skip the map of ids, since the ids are stored with the rows."""
        form = self._read_bytes(1)[0]
        self._skip(8 * self._read_number())
        if form == _HASHED_IDS:
            self._skip(16 * self._read_number())

    def _read_sizes(self, cells: int, count: int, channels: int) -> list[int]:
        """Read the number of rows of each cell that has any."""
        form = self._read_bytes(4)
        if form in (b"ilod", b"ilof"):
            raise _OtherKindError(
                "a faiss index whose rows are in another file; only one that holds them can be read"
            )
        if form == b"il00":
            return []
        if (
            form != b"ilar"
            or self._read_number() != cells
            or self._read_number() != 4 * channels
        ):
            raise _DamagedError("its cells are not described as those of plain rows")
        list_form = self._read_bytes(4)
        if list_form not in (b"full", b"sprs"):
            raise _DamagedError("the sizes of its cells are missing")
        is_sparse = list_form == b"sprs"  # pairs of a cell's number and its size
        sizes = self._read_array("<u8", self._read_number())
        if len(sizes) % 2 if is_sparse else len(sizes) != cells:
            raise _DamagedError(f"it has {cells} cells, and the sizes of {len(sizes)}")
        if is_sparse:
            numbers = sizes[::2]
            sizes = sizes[1::2]
            if len(np.unique(numbers)) != len(numbers) or (numbers >= cells).any():
                raise _DamagedError("it has sizes of cells that do not exist")
        sizes = [int(size) for size in sizes if size]
        if sum(sizes) != count:
            raise _DamagedError(f"its cells hold {sum(sizes)} rows, not {count}")
        return sizes

    def _read_number(self) -> int:
        return int.from_bytes(self._read_bytes(8), "little")

    def _read_array(self, dtype: str, length: int) -> np.ndarray:
        nbytes = np.dtype(dtype).itemsize * length
        if nbytes > self.left:
            raise _DamagedError(
                f"it ends too early: {nbytes} bytes should follow, {self.left} do"
            )
        array = np.empty(length, dtype)
        if self._file.readinto(array.view(np.uint8)) != nbytes:
            raise _DamagedError("it became shorter while it was read")
        self.left -= nbytes
        return array

    def _read_bytes(self, length: int) -> bytes:
        return self._read_array("u1", length).tobytes()

    def _skip(self, length: int) -> None:
        if length > self.left:
            raise _DamagedError(
                f"it ends too early: {length} bytes should follow, {self.left} do"
            )
        self._file.seek(length, os.SEEK_CUR)
        self.left -= length


class _Rows:
    """Collects rows that come with their ids, in any order."""

    def __init__(self, count: int, channels: int):
        self._rows = np.empty((count, channels), np.float32)
        self._ids = np.empty(count, np.int64)
        self._filled = 0

    def put(self, ids: np.ndarray, rows: np.ndarray) -> None:
        end = self._filled + len(ids)
        if end > len(self._ids):
            raise _DamagedError(f"its cells hold more than {len(self._ids)} rows")
        self._rows[self._filled : end] = rows
        self._ids[self._filled : end] = ids
        self._filled = end

    def all(self) -> np.ndarray:
        """Return the rows in the order of their ids, which are 0, 1, ..."""
        if self._filled != len(self._ids):
            raise _DamagedError(f"its cells hold {self._filled} rows, not {len(self._ids)}")
        order = np.argsort(self._ids, kind="stable")
        if not np.array_equal(self._ids[order], np.arange(len(order))):
            raise _DamagedError(
                "the ids of its rows are not 0, 1, 2, ...: some are missing, repeated, or out of "
                "range"
            )
        return self._rows[order]
