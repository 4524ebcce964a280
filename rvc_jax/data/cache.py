"""A cache on disk or in a bucket: results of computations, by hashes of their inputs.

An entry holds its key and the SHA-256 of everything behind it:

    rvc_jax cache 1 KEY SHA256, newline, then JSON or .npy

An entry that was damaged, changed, renamed or written by an earlier version is as good as absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from typing import Any, TypeVar

import numpy as np

from rvc_jax.errors import UserError
from rvc_jax.storage import places
from rvc_jax.storage.arrays import parse_npy
from rvc_jax.storage.environment import cache_dir
from rvc_jax.storage.files import name_failing_place
from rvc_jax.storage.json_files import convert, parse_json
from rvc_jax.storage.places import Location
from rvc_jax.storage.plain_files import ENTRY_BYTES

_ADVICE = "name another folder for it with --cache, or in RVC_JAX_HOME"
_FORMAT = b"rvc_jax cache 1"

_T = TypeVar("_T")


def make_cache_key(*parts: Any) -> str:
    """Hash the plain values (as JSON has them) that a result depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Cache:
    """A folder of results by key, made as needed; several processes may share it.

    Entries are written in one move. A damaged entry is removed and counts as missing.

    Args:
        root: The folder, local or remote; by default `features` in the user's cache folder.
    """

    def __init__(self, root: Location | None = None) -> None:
        self.root = root or cache_dir() / "features"
        self.damaged = 0
        """Entries that were found damaged, and removed where that was possible."""

    def get_array(self, key: str) -> np.ndarray | None:
        """Return an array; None if it is missing."""
        content = self._get(key, "npy")
        if content is None:
            return None
        try:
            return parse_npy(content)
        except ValueError:
            return self._discard(key, "npy")

    def put_array(self, key: str, array: np.ndarray) -> None:
        """Store an array."""
        buffer = io.BytesIO()
        np.save(buffer, array)
        self._put(key, "npy", buffer.getvalue())

    def has_array(self, key: str) -> bool:
        """Return whether an array is stored; it may prove damaged when it is read."""
        return places.exists(self._place(key, "npy"))

    def get_value(self, key: str, kind: type[_T]) -> _T | None:
        """Return a plain value of a type (`storage.json_files`); None if it is missing."""
        content = self._get(key, "json")
        if content is None:
            return None
        try:
            return convert(parse_json(bytes(content)), kind)
        except ValueError:
            return self._discard(key, "json")

    def put_value(self, key: str, value: Any) -> None:
        """Store a plain value as JSON."""
        self._put(key, "json", json.dumps(value).encode())

    def _get(self, key: str, extension: str) -> memoryview | None:
        place = self._place(key, extension)
        try:
            entry = places.read(place, ENTRY_BYTES)
        except UserError:
            if places.is_remote(place):
                raise  # the store can't be reached
            return self._discard(key, extension)  # a pipe, a device, a folder
        if entry is None:
            return None
        end = entry.find(b"\n")
        content = memoryview(entry)[end + 1 :]
        if end < 0 or entry[:end] != _make_header(key, content):
            return self._discard(key, extension)
        return content

    def _put(self, key: str, extension: str, content: bytes) -> None:
        entry = _make_header(key, content) + b"\n" + content
        with name_failing_place(f"the cache {self.root}", _ADVICE):
            places.write(self._place(key, extension), entry)

    def _discard(self, key: str, extension: str) -> None:
        self.damaged += 1
        with contextlib.suppress(OSError):  # a folder, or a cache that can only be read
            places.discard(self._place(key, extension))

    def _place(self, key: str, extension: str) -> Location:
        return places.join(self.root, key[:2], f"{key}.{extension}")


def _make_header(key: str, content: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(content).hexdigest()
    return b" ".join([_FORMAT, key.encode(), digest.encode()])
