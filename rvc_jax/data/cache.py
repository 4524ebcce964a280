"""A cache on disk or in a bucket: results of computations, by hashes of their inputs."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any

import numpy as np

from rvc_jax.storage import places
from rvc_jax.storage.environment import cache_dir
from rvc_jax.storage.files import name_failing_place
from rvc_jax.storage.places import Location
from rvc_jax.storage.plain_files import ENTRY_BYTES

_ADVICE = "name another folder for it with --cache, or in RVC_JAX_HOME"


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

    def get_array(self, key: str) -> np.ndarray | None:
        """Return an array; None if it is missing."""
        content = places.read(self._place(key, "npz"), ENTRY_BYTES)
        if content is None:
            return None
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                return file["array"]
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile):
            places.discard(self._place(key, "npz"))
            return None

    def put_array(self, key: str, array: np.ndarray) -> None:
        """Store an array."""
        buffer = io.BytesIO()
        np.savez(buffer, array=array)  # .npz, since a zip carries a checksum
        self._write(self._place(key, "npz"), buffer.getvalue())

    def has_array(self, key: str) -> bool:
        """Return whether an array is stored; it may prove damaged when it is read."""
        return places.exists(self._place(key, "npz"))

    def get_value(self, key: str) -> Any:
        """Return a plain value, with lists for tuples; None if it is missing."""
        content = places.read(self._place(key, "json"))
        if content is None:
            return None
        try:
            return json.loads(content)
        except ValueError:
            return None

    def put_value(self, key: str, value: Any) -> None:
        """Store a plain value as JSON."""
        self._write(self._place(key, "json"), json.dumps(value).encode())

    def _write(self, place: Location, content: bytes) -> None:
        with name_failing_place(f"the cache {self.root}", _ADVICE):
            places.write(place, content)

    def _place(self, key: str, extension: str) -> Location:
        return places.join(self.root, key[:2], f"{key}.{extension}")
