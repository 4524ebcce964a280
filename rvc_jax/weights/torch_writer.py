"""Writes PyTorch files (`.pth`) without PyTorch: plain values and tensors, in the zip format.

Layout as in `torch/serialization.py` of torch >= 1.6. The reader is `torch_file`.
"""

from __future__ import annotations

import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from rvc_jax.errors import UserError, describe_os_error
from rvc_jax.storage.files import atomic_write

ALIGNMENT = 64
"""Bytes. torch aligns storages so that they can be memory-mapped."""

TORCH_DTYPES = (
    ("float16", "half", "Half", np.float16),
    ("float32", "float", "Float", np.float32),
    ("float64", "double", "Double", np.float64),
    ("bfloat16", "bfloat16", "BFloat16", ml_dtypes.bfloat16),
    ("uint8", "uint8", "Byte", np.uint8),
    ("int8", "int8", "Char", np.int8),
    ("int16", "short", "Short", np.int16),
    ("int32", "int", "Int", np.int32),
    ("int64", "long", "Long", np.int64),
    ("bool", "bool", "Bool", np.bool_),
    ("complex64", "cfloat", "ComplexFloat", np.complex64),
    ("complex128", "cdouble", "ComplexDouble", np.complex128),
)
"""torch's two names of a dtype, the prefix of its storage class, and NumPy's type."""

_STORAGE_CLASSES = {
    np.dtype(kind): f"torch.{storage}Storage" for _, _, storage, kind in TORCH_DTYPES
}
_ZIP_HEADER_BYTES = 30  # the fixed part of a member's header
_EXTRA_HEADER_BYTES = 4  # the fixed part of an extra field


def write(path: str | Path, value: Any) -> None:
    """Write nested dicts, lists, tuples, str, int, float, bool, None and NumPy arrays.

    Arrays become tensors. The file loads with `torch.load(path, weights_only=True)` and appears
    whole or not at all. Subclasses (enums, say) and NumPy scalars are written as the plain type, so
    that no reader needs our classes.

    Raises:
      TypeError: A value has no place in such a file.
      UserError: The disk refuses.
    """
    path = Path(path)
    pickler = TensorPickler()
    program = pickler.dump(value)
    try:
        with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
            _add_member(archive, file, "data.pkl", program)
            _add_member(archive, file, "byteorder", b"little")
            for key, array in enumerate(pickler.arrays):
                content = array.reshape(-1).view(np.uint8).data
                _add_member(archive, file, f"data/{key}", content)
            _add_member(archive, file, "version", b"3\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {describe_os_error(error)}") from None


def _add_member(
    archive: zipfile.ZipFile, file: Any, name: str, data: bytes | memoryview
) -> None:
    """Add an uncompressed member whose data begin at a multiple of 64 bytes.

    An extra field pads the header, as in torch's files.
    """
    member = zipfile.ZipInfo(f"archive/{name}")
    header = _ZIP_HEADER_BYTES + len(member.filename) + _EXTRA_HEADER_BYTES
    padding = -(file.tell() + header) % ALIGNMENT
    member.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    archive.writestr(member, data)


class TensorPickler:
    """Encodes plain values and tensors in pickle protocol 2, and collects the tensors' arrays."""

    def __init__(self) -> None:
        """Start without arrays."""
        self.arrays: list[np.ndarray] = []
        """The storages, dense and in this machine's byte order; their places are their keys."""
        self._keys: dict[int, int] = {}
        # Keeps the arrays alive, so that no two of them have the same id.
        self._alive: list[np.ndarray] = []

    def dump(self, value: Any) -> bytes:
        """Return the pickle of a value."""
        return b"\x80\x02" + self.encode(value) + pickle.STOP

    def encode(self, value: Any) -> bytes:
        """Return the instructions that put a value onto the unpickler's stack."""
        match value:
            case None:
                return pickle.NONE
            case bool():
                return pickle.NEWTRUE if value else pickle.NEWFALSE
            case int():
                return _encode_int(int(value))
            case float():
                return pickle.BINFLOAT + struct.pack(">d", value)
            case str():
                text = str.encode(value, "utf-8", "surrogatepass")
                return pickle.BINUNICODE + struct.pack("<I", len(text)) + text
            case list():
                items = self._encode_all(value)
                return pickle.EMPTY_LIST + pickle.MARK + items + pickle.APPENDS
            case tuple():
                return pickle.MARK + self._encode_all(value) + pickle.TUPLE
            case dict():
                is_ordered = isinstance(value, OrderedDict)
                empty = _EMPTY_ORDERED_DICT if is_ordered else pickle.EMPTY_DICT
                pairs = (item for pair in value.items() for item in pair)
                return empty + pickle.MARK + self._encode_all(pairs) + pickle.SETITEMS
            case np.ndarray():
                return self._encode_array(value)
            case np.generic():
                return self.encode(value.item())
        raise TypeError(f"{type(value).__name__} has no place in a PyTorch file")

    def _encode_all(self, values: Iterable[Any]) -> bytes:
        return b"".join(map(self.encode, values))

    def _encode_array(self, array: np.ndarray) -> bytes:
        is_big_endian = array.dtype.byteorder == ">"
        native = array.dtype.newbyteorder("=") if is_big_endian else array.dtype
        if native not in _STORAGE_CLASSES:
            raise TypeError(f"an array of {array.dtype} has no place in a PyTorch file")
        # One array that is there twice is stored once: tied weights stay tied.
        if id(array) not in self._keys:
            self._keys[id(array)] = len(self.arrays)
            self._alive.append(array)
            self.arrays.append(np.asarray(array, native, order="C"))
        key = str(self._keys[id(array)])
        strides = tuple(math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim))
        storage = [
            pickle.MARK,
            self.encode("storage"),
            encode_global(_STORAGE_CLASSES[native]),
            self.encode(key),
            self.encode("cpu"),
            self.encode(array.size),
            pickle.TUPLE,
            pickle.BINPERSID,
        ]
        return b"".join(
            [
                encode_global("torch._utils._rebuild_tensor_v2"),
                pickle.MARK,
                *storage,
                self._encode_all((0, array.shape, strides, False)),
                _EMPTY_ORDERED_DICT,  # backward hooks
                pickle.TUPLE,
                pickle.REDUCE,
            ]
        )


def _encode_int(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return pickle.BININT + struct.pack("<i", value)
    digits = pickle.encode_long(value)
    if len(digits) > 255:
        raise TypeError("an integer of more than 255 bytes has no place in a PyTorch file")
    return pickle.LONG1 + bytes([len(digits)]) + digits


def encode_global(name: str) -> bytes:
    """Return the instruction that names a class or function, such as `collections.OrderedDict`."""
    module, _, attribute = name.rpartition(".")
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


_EMPTY_ORDERED_DICT = (
    encode_global("collections.OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
)
