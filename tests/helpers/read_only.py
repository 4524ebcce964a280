"""A part of the disk that can't be written to, also for root, whom permissions do not bind."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_WRITES = {
    "os.mkdir",
    "os.rename",
    "os.link",
    "os.remove",
    "os.rmdir",
    "os.symlink",
    "os.utime",
}
_guarded: list[str] = []


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if not _guarded:
        return
    if event == "open":
        path, _, flags = arguments
        is_write = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
        paths = [path] if is_write else []
    else:
        paths = list(arguments[:2]) if event in _WRITES else []
    for path in paths:
        if not isinstance(path, (str, bytes, os.PathLike)):
            continue
        name = os.path.realpath(os.fsdecode(path))
        if any(name == folder or name.startswith(f"{folder}/") for folder in _guarded):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fsdecode(path))


sys.addaudithook(_refuse)  # it can't be removed: it does nothing outside of the block


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make everything below a folder read-only for Python's own functions in the block."""
    _guarded.append(os.path.realpath(folder))
    try:
        yield
    finally:
        _guarded.pop()
