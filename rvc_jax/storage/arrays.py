"""Arrays in .npy files that may come from someone else: plain types, no more rows than bytes."""

from __future__ import annotations

import io
import math
import os
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np

from rvc_jax.errors import UserError
from rvc_jax.storage.plain_files import ENTRY_BYTES, open_plain

_KINDS = "fiub"
_MAX_HEADER_BYTES = 1 << 17  # the format's own limit is 64 kB
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy(path: Path | str, mapped: bool = False, limit: int = ENTRY_BYTES) -> np.ndarray:
    """Read an array of numbers from a .npy file.

    Args:
        path: A plain file.
        mapped: Map the file read-only instead of reading it.
        limit: The most bytes that the file may have.

    Raises:
        FileNotFoundError: Nothing is there.
        UserError: It is not a plain file, no .npy, damaged, or holds something else than numbers.
    """
    with open_plain(path, limit) as file:
        try:
            shape, dtype, by_columns = _read_header(file)
            start = file.tell()
            there = os.fstat(file.fileno()).st_size - start
            if math.prod(shape) * dtype.itemsize != there:
                raise ValueError(f"its header says {shape} of {dtype}, it has {there} bytes")
            order = "F" if by_columns else "C"
            if mapped and there:
                return np.memmap(file, dtype, "r", start, shape, order)
            array = np.fromfile(file, dtype, math.prod(shape))
            return array.reshape(shape, order=order)
        except (ValueError, OSError, MemoryError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"{path} is not an array of NumPy, or damaged: {reason}") from None


def parse_npy(content: bytes | memoryview) -> np.ndarray:
    """Return the array of numbers in the bytes of a .npy file. Raises ValueError otherwise."""
    file = io.BytesIO(content[:_MAX_HEADER_BYTES])
    shape, dtype, by_columns = _read_header(file)
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError("its header and its size differ")
    array = np.frombuffer(content, dtype, offset=file.tell()).copy()
    return array.reshape(shape, order="F" if by_columns else "C")


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype, bool]:
    version = np.lib.format.read_magic(file)
    if version not in _HEADER_READERS:
        raise ValueError(f"version {version} of the format")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # NumPy evaluates the header as a literal, of at most 10,000 characters.
            shape, by_columns, dtype = _HEADER_READERS[version](file)
        except (RecursionError, MemoryError, TypeError, SyntaxError, EOFError):
            raise ValueError("its header does not read") from None
    if dtype.kind not in _KINDS or dtype.itemsize > 8:
        raise ValueError(f"it holds {str(dtype)[:40]}, not numbers")
    if len(shape) > 4 or any(length < 0 for length in shape):
        raise ValueError(f"it has the shape {str(shape)[:40]}")
    return shape, dtype, by_columns
