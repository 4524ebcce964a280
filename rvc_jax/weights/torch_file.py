"""Reads PyTorch files (`.pth`, `.pt`, `.bin`) without PyTorch, and without trust.

A PyTorch file is a pickle beside raw storages, and a pickle can call anything. `torch_pickle`
builds what it describes without calling or importing what it names.

Layouts as in `torch/serialization.py` and `torch/_utils.py`: the zip format of torch >= 1.6 and the
legacy stream. `write` comes from `torch_writer`.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.errors import UserError, describe_os_error, sanitize
from rvc_jax.storage.plain_files import WEIGHTS_BYTES, open_plain
from rvc_jax.weights.torch_pickle import (
    MAX_PROGRAM_BYTES,
    DamagedError,
    NotPyTorchError,
    Opaque,
    Placeholders,
    Unpickler,
)
from rvc_jax.weights.torch_writer import write

__all__ = ["Opaque", "Placeholders", "find_state_dict", "read", "write"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_STATE_DICT_KEYS = ("weight", "model", "state_dict", "generator")
"""Where tools put the weights of a network in a file, in the order in which they are looked for."""


def read(path: str | Path, placeholders: Placeholders = False) -> Any:
    """Read what `torch.save` wrote, with tensors as NumPy arrays; they still share memory.

    Args:
      placeholders: Whether names of anything but tensors and plain containers become `Opaque`
        records instead of an error; or a function that decides by the name. For files whose
        settings are objects of the program that wrote them.

    Raises:
      UserError: The file can't be read, is damaged, is not PyTorch's, or has a refused name.
    """
    path = Path(path)
    try:
        with open_plain(path, WEIGHTS_BYTES) as file:
            is_zip = file.read(2) == b"PK"
            file.seek(0)
            read_container = _read_zip if is_zip else _read_legacy
            return read_container(file, path, placeholders)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {describe_os_error(error)}") from None
    except NotPyTorchError as error:
        raise UserError(f"{path}: not a PyTorch file: {error}") from None
    except DamagedError as error:
        raise UserError(f"{path}: a damaged PyTorch file: {error}") from None
    except Exception as error:  # a damaged pickle or zip can raise anything
        reason = f"{type(error).__name__}: {sanitize(error)}"
        raise UserError(f"{path}: not a PyTorch file, or damaged ({reason})") from None


def find_state_dict(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Find the weights in a file's content: under a key that tools use, or the content itself."""
    for key in _STATE_DICT_KEYS:
        if isinstance(content.get(key), Mapping):
            return content[key]
    return content


# --- the two containers ---


def _read_zip(file: Any, path: Path, placeholders: Placeholders) -> Any:
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        members = {member.filename.partition("/")[2]: member for member in archive.infolist()}
        if "data.pkl" not in members:
            raise NotPyTorchError("a zip archive of something else")
        if "constants.pkl" in members:
            raise NotPyTorchError("a TorchScript program; only files of weights can be read")
        if sum(member.file_size for member in members.values()) > size:
            raise DamagedError("its members claim to be larger than the file")
        if "byteorder" in members and archive.read(members["byteorder"]) != b"little":
            raise NotPyTorchError("written by a big-endian machine, which is not supported")

        def load_storage(key: str, elements: int, itemsize: int) -> np.ndarray:
            member = members.get(f"data/{key}")
            storage = np.empty(elements * itemsize, np.uint8)
            if member is None or member.file_size != storage.nbytes:
                raise DamagedError(
                    f"the storage {sanitize(key)} is missing or of another length than its tensors "
                    "say"
                )
            stream: Any
            with archive.open(member) as stream:
                if stream.readinto(storage) != storage.nbytes:
                    raise DamagedError(f"the storage {sanitize(key)} is cut short")
                stream.read()  # reaches the end, where the checksum is verified
            return storage

        if members["data.pkl"].file_size > MAX_PROGRAM_BYTES:
            raise DamagedError("its description of the tensors is larger than can be true")
        program = io.BytesIO(archive.read(members["data.pkl"]))
        return Unpickler(program, path, size, load_storage, placeholders).load()


def _read_legacy(file: Any, path: Path, placeholders: Placeholders) -> Any:
    """Read five pickles (magic number, version, platform, object, storage keys), then storages."""
    size = os.fstat(file.fileno()).st_size
    storages: dict[str, tuple[int, np.ndarray]] = {}
    reserved = 0

    def reserve_storage(key: str, elements: int, itemsize: int) -> np.ndarray:
        # The bytes come after the pickle: tensors are made on memory that is filled below.
        nonlocal reserved
        reserved += elements * itemsize
        if reserved > size:
            raise DamagedError("its tensors claim to be larger than the file")
        storages[key] = elements, np.empty(elements * itemsize, np.uint8)
        return storages[key][1]

    def unpickle() -> Any:
        return Unpickler(file, path, size, reserve_storage, placeholders).load()

    try:
        magic = unpickle()
    except UserError:
        raise
    except Exception:
        magic = None
    if type(magic) is not int or magic != _LEGACY_MAGIC:
        raise NotPyTorchError("neither a zip archive nor the legacy format")
    version = unpickle()
    if type(version) is not int or version != _LEGACY_PROTOCOL:
        raise NotPyTorchError("an unknown version of the legacy format")
    system = unpickle()
    if type(system) is not dict or system.get("little_endian") is not True:
        raise NotPyTorchError("written by a big-endian machine, which is not supported")
    result = unpickle()
    keys = unpickle()
    # Before they are hashed: the hash of tuples in tuples can take for ever.
    is_list_of_texts = type(keys) is list and all(type(key) is str for key in keys)
    if not is_list_of_texts or len(keys) != len(storages) or set(keys) != set(storages):
        raise DamagedError("its list of storages does not match its tensors")
    for key in keys:
        elements, storage = storages[key]
        if int.from_bytes(file.read(8), "little") != elements:
            raise DamagedError(
                f"the storage {sanitize(key)} is of another length than its tensors say"
            )
        if file.readinto(storage) != storage.nbytes:
            raise DamagedError("it ends in the middle of a tensor")
    return result
