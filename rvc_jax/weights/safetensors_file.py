"""Files of tensors in the safetensors format: a length, a JSON header, then the bytes of the
tensors.

The format is that of https://github.com/huggingface/safetensors. Like the original, this reader
refuses files whose tensors overlap or leave holes. Written files are the same for the same tensors
and texts.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from rvc_jax.errors import UserError
from rvc_jax.storage.files import atomic_write

_LARGEST_HEADER = 10_000_000
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": ml_dtypes.bfloat16,
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


def read(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a file by name, bfloat16 as float32. Raises UserError if it is damaged or of
    another format."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _read(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except _Damaged as error:
        raise UserError(f"{path}: not a safetensors file, or damaged: {error}") from None


def metadata(path: str | Path) -> dict[str, str]:
    """The texts of a file by name, none in most. Raises UserError if it is damaged or of another
    format."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            texts = _header(file)[0].get("__metadata__", {})
        if type(texts) is not dict or not all(type(text) is str for text in texts.values()):
            raise _Damaged("its texts are something else")
        return texts
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except _Damaged as error:
        raise UserError(f"{path}: not a safetensors file, or damaged: {error}") from None


def write(
    path: str | Path, arrays: Mapping[str, np.ndarray], texts: Mapping[str, str] | None = None
) -> None:
    """Writes tensors, and texts about them (the format's `__metadata__`). Appears whole or not at
    all.

    Raises TypeError for a dtype that the format lacks, UserError when the disk refuses.
    """
    path = Path(path)
    ordered = sorted(
        arrays, key=lambda name: (-arrays[name].dtype.itemsize, name)
    )  # wide ones first: all are aligned
    header: dict[str, Any] = {"__metadata__": dict(texts)} if texts else {}
    end = 0
    for name in ordered:
        array = arrays[name]
        begin = end
        end = end + array.nbytes
        header[name] = {
            "dtype": _kind(array),
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    try:
        with atomic_write(path) as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in ordered:
                file.write(
                    np.ascontiguousarray(arrays[name], _DTYPES[_kind(arrays[name])])
                    .reshape(-1)
                    .view(np.uint8)
                )
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


def _kind(array: np.ndarray) -> str:
    """The format's name of a dtype, whatever the order of its bytes."""
    for name, dtype in _DTYPES.items():
        if array.dtype.newbyteorder("<") == np.dtype(dtype):
            return name
    raise TypeError(f"an array of {array.dtype} has no place in a safetensors file")


class _Damaged(Exception):
    """What the file says cannot be true."""


def _header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """The header, and the bytes of the tensors after it."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(size - 8, _LARGEST_HEADER):
        raise _Damaged("its header has no possible length")
    return _parse(file.read(length)), size - 8 - length


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    header, size = _header(file)
    header.pop("__metadata__", None)
    spans = sorted((_span(name, tensor), name) for name, tensor in header.items())
    end = 0
    for (begin, stop), name in spans:
        if begin != end:
            raise _Damaged(
                f"the tensor {_printable(name)} overlaps another one or leaves a hole"
            )
        end = stop
    if end != size:
        raise _Damaged("it is longer or shorter than its tensors")
    return {
        name: _tensor(file, header[name]) for _, name in spans
    }  # in the order in which they lie there


def _parse(text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise _Damaged("its header has two entries of one name")
        return dict(pairs)

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise _Damaged("its header is not JSON") from None
    if type(header) is not dict:
        raise _Damaged("its header is not a JSON object")
    return header


def _span(name: str, tensor: Any) -> tuple[int, int]:
    """First byte of a tensor and the one after its last; they fit its type and shape."""
    if type(tensor) is not dict or set(tensor) != {"dtype", "shape", "data_offsets"}:
        raise _Damaged(f"the tensor {_printable(name)} is not described")
    dtype = tensor["dtype"]
    shape = tensor["shape"]
    offsets = tensor["data_offsets"]
    if type(dtype) is not str or dtype not in _DTYPES:
        raise _Damaged(
            f"the tensor {_printable(name)} is of the type {_printable(dtype)}, which is not supported"
        )
    if not (
        _are_counts(shape) and len(shape) <= 64 and _are_counts(offsets) and len(offsets) == 2
    ):
        raise _Damaged(f"the tensor {_printable(name)} has no proper shape or place")
    begin, end = offsets
    if end - begin != math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize:
        raise _Damaged(f"the tensor {_printable(name)} is not as long as its shape says")
    return begin, end


def _are_counts(values: Any) -> bool:
    return type(values) is list and all(
        type(value) is int and 0 <= value < 2**48 for value in values
    )


def _tensor(file: BinaryIO, tensor: dict[str, Any]) -> np.ndarray:
    try:
        array = np.empty(tensor["shape"], _DTYPES[tensor["dtype"]])
    except ValueError:  # no elements, but dimensions that no array can have
        raise _Damaged("a tensor has no possible shape") from None
    if file.readinto(array.reshape(-1).view(np.uint8)) != array.nbytes:
        raise _Damaged("it ends in the middle of a tensor")
    return array.astype(np.float32) if tensor["dtype"] == "BF16" else array


def _printable(text: Any) -> str:
    text = str(text)[:80]
    return repr("".join(character if character.isprintable() else "?" for character in text))
