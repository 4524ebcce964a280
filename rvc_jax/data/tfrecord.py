"""Files of records in TensorFlow's format, read without TensorFlow: in order, or one by its place.

A record is its length (uint64), a checksum of the length, the bytes, and a checksum of the bytes
(https://www.tensorflow.org/tutorials/load_data/tfrecord). The checksums are CRC-32C, rotated.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import google_crc32c

from rvc_jax.errors import UserError
from rvc_jax.storage.plain_files import open_plain

_LENGTH = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")
_MASK = 0xA282EAD8
_MAX_RECORD_BYTES = 1 << 26
"""64 MB. A window with its features takes less than 2 MB."""


class Place(NamedTuple):
    """Where a record is in its file."""

    offset: int
    """Position of the first byte behind the length and its checksum."""
    size: int
    """Bytes of the record."""


class RecordFile:
    """A file of records. Any thread may read any record."""

    def __init__(self, path: Path, keep_open: bool = True):
        """Open the file.

        Args:
            path: A plain file.
            keep_open: Hold the file open until `close`, so that it can be read to the end after
                another one has taken its name. Else it is opened for every record.

        Raises:
            FileNotFoundError: Nothing is there.
            UserError: It is not a plain file.
        """
        self._path = path
        self._lock = threading.Lock()
        self._file: BinaryIO | None = open_plain(path)
        self._version = _version_of(self._file)
        self.size = os.fstat(self._file.fileno()).st_size
        """Bytes of the file."""
        if not keep_open:
            self.close()

    def scan(self) -> Iterator[tuple[Place, bytes]]:
        """Yield every record with its place, in order.

        Raises:
            ValueError: A record is damaged or too large, or the file ends within one.
            UserError: Another file has taken this one's name.
        """
        offset = 0
        with self._open() as file:
            while offset < self.size:
                length = _read_length(_read_exactly(file, _LENGTH.size))
                place = Place(offset + _LENGTH.size, length)
                yield place, _read_record(file, length)
                offset = place.offset + length + _CHECKSUM.size

    def read(self, place: Place) -> bytes:
        """Read one record.

        Raises:
            ValueError: It is damaged.
            UserError: Another file has taken this one's name.
        """
        with self._lock:
            if self._file is not None:
                self._file.seek(place.offset)
                return _read_record(self._file, place.size)
        with self._open() as file:
            file.seek(place.offset)
            return _read_record(file, place.size)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _open(self) -> BinaryIO:
        """Open the same file once more."""
        file = open_plain(self._path)
        if _version_of(file) != self._version:
            file.close()
            raise UserError(
                f"{self._path} was replaced while it was read: run the command again"
            )
        return file


def _version_of(file: BinaryIO) -> tuple[int, int, int]:
    """Return what changes when another file takes the name, or this one is written to."""
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read_length(header: bytes) -> int:
    length, checksum = _LENGTH.unpack(header)
    if checksum != _masked_checksum(header[: -_CHECKSUM.size]):
        raise ValueError("the length of a record is damaged")
    if length > _MAX_RECORD_BYTES:
        raise ValueError(f"a record of {length} bytes")
    return length


def _read_record(file: BinaryIO, length: int) -> bytes:
    record = _read_exactly(file, length)
    (checksum,) = _CHECKSUM.unpack(_read_exactly(file, _CHECKSUM.size))
    if checksum != _masked_checksum(record):
        raise ValueError("a record is damaged")
    return record


def _read_exactly(file: BinaryIO, count: int) -> bytes:
    content = file.read(count)
    if len(content) != count:
        raise ValueError("the file ends within a record")
    return content


def _masked_checksum(content: bytes) -> int:
    checksum = google_crc32c.value(content)
    return ((checksum >> 15 | checksum << 17) + _MASK) & 0xFFFFFFFF
