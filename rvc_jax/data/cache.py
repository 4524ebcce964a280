"""What was computed once, found again by what it was computed from."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from typing import Any

import numpy as np

from rvc_jax.storage import places
from rvc_jax.storage.environment import cache_dir
from rvc_jax.storage.places import Location


def make_cache_key(*parts: Any) -> str:
    """Hash of plain values: whatever a result depends on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Cache:
    """A folder of results by key, local or remote, shared by everybody who names it; made as
    needed.

    Entries are written in one move. One that does not read (a damaged disk) is removed: it is as
    good as none.
    """

    def __init__(self, root: Location | None = None) -> None:
        """root: by default `features` in `environment.home()`."""
        self.root = root or cache_dir() / "features"

    def array(self, key: str) -> np.ndarray | None:
        content = places.read(self._place(key, "npz"))
        if content is None:
            return None
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                return file["array"]
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile):
            places.discard(self._place(key, "npz"))
            return None

    def put_array(self, key: str, array: np.ndarray) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, array=array)  # a zip: it carries a checksum
        places.write(self._place(key, "npz"), buffer.getvalue())

    def has_array(self, key: str) -> bool:
        return places.exists(self._place(key, "npz"))

    def value(self, key: str) -> Any:
        """Plain containers; None if there is no such entry."""
        content = places.read(self._place(key, "json"))
        try:
            return None if content is None else json.loads(content)
        except ValueError:
            return None

    def put_value(self, key: str, value: Any) -> None:
        places.write(self._place(key, "json"), json.dumps(value).encode())

    def _place(self, key: str, ending: str) -> Location:
        return places.join(self.root, key[:2], f"{key}.{ending}")
