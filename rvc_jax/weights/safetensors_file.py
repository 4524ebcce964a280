"""Files of tensors in the safetensors format, read and written by the `safetensors` package.

This module adds a limit on the size of the header, refuses headers that name a tensor twice or
describe one with unknown fields, turns every failure into one line of text, and writes a file whole
or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (registers bfloat16, which `safetensors` looks up by name)
import numpy as np
import safetensors
import safetensors.numpy

from rvc_jax.errors import UserError, describe_os_error, sanitize
from rvc_jax.storage.files import atomic_write
from rvc_jax.storage.plain_files import WEIGHTS_BYTES, open_plain

_MAX_HEADER_BYTES = 10_000_000  # the package allows ten times as many
_TENSOR_FIELDS = {"dtype", "shape", "data_offsets"}
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
"""Supported types: the format's name and NumPy's. The format has others."""


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Read the tensors of a file, by name and in their order there; bfloat16 becomes float32.

    Raises:
      UserError: The file can't be read, is damaged, or has another format.
    """
    path = Path(path)
    try:
        with _open(path) as file:
            arrays = {name: file.get_tensor(name) for name in file.offset_keys()}
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {describe_os_error(error)}") from None
    except (safetensors.SafetensorError, ValueError) as error:
        raise UserError(
            f"{path}: not a safetensors file, or damaged: {sanitize(error)}"
        ) from None
    return {name: _widen(array) for name, array in arrays.items()}


def metadata(path: str | Path) -> dict[str, str]:
    """Read the texts of a file (the format's `__metadata__`) by name. Most files have none.

    Raises:
      UserError: The file can't be read, is damaged, or has another format.
    """
    path = Path(path)
    try:
        with _open(path) as file:
            return file.metadata() or {}
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {describe_os_error(error)}") from None
    except (safetensors.SafetensorError, ValueError) as error:
        raise UserError(
            f"{path}: not a safetensors file, or damaged: {sanitize(error)}"
        ) from None


def write(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write tensors and texts about them (the format's `__metadata__`), whole or not at all.

    The same tensors give the same bytes, whatever their order.

    Raises:
      TypeError: The format has no place for an array's dtype.
      UserError: The disk refuses.
    """
    path = Path(path)
    content = safetensors.numpy.save(
        {name: _to_storable(array) for name, array in arrays.items()},
        metadata=dict(texts) if texts else None,
    )
    try:
        with atomic_write(path) as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {describe_os_error(error)}") from None


def _open(path: Path) -> Any:
    """Open a file whose header is in order. Raises OSError, SafetensorError or ValueError."""
    with open_plain(path, WEIGHTS_BYTES) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MAX_HEADER_BYTES:
            raise ValueError("its header has no possible length")
        header = file.read(length)
    opened = safetensors.safe_open(path, framework="np")
    # Only after the package has accepted the header: it is JSON of the expected types by now.
    _check_header(header)
    return opened


def _check_header(text: bytes) -> None:
    """Raise ValueError for what the package accepts: repeated names, unknown fields or types."""
    header = json.loads(text, object_pairs_hook=_to_unique)
    header.pop("__metadata__", None)
    for name, tensor in header.items():
        if set(tensor) != _TENSOR_FIELDS:
            raise ValueError(f"the tensor {sanitize(name)!r} has unknown fields")
        if tensor["dtype"] not in _DTYPES:
            kind = sanitize(tensor["dtype"])
            raise ValueError(f"the tensor {sanitize(name)!r} has the unknown type {kind}")


def _to_unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("its header has two entries of one name")
    return dict(pairs)


def _widen(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _to_storable(array: np.ndarray) -> np.ndarray:
    """The array as one dense block in this machine's byte order."""
    native = array.dtype.newbyteorder("=")
    if native.name not in _DTYPES.values():
        raise TypeError(f"an array of {array.dtype} has no place in a safetensors file")
    # Not np.ascontiguousarray, which turns a scalar into a vector.
    return np.asarray(array, native, order="C")
