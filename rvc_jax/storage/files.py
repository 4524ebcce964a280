"""Files: written in one move, so that a reader sees the old one or the new one, never half of it;
and their hash."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from rvc_jax.errors import UserError

_SPARE_BYTES = 64_000_000
"""Bytes that must stay free on the disk."""

WINDOWS_RESERVED_NAME = re.compile(r"(?:CON|PRN|AUX|NUL|COM\d|LPT\d)(?:\..*)?", re.IGNORECASE)
"""Names of files that Windows keeps for itself."""


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that becomes `path` when the block ends, and vanishes if it fails."""
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")  # two processes may write the same
    try:
        with temporary.open("wb") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into that becomes `folder` (new, or empty) when the block ends, and
    vanishes if it fails."""
    folder = folder.absolute()
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.unfinished")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if folder.exists():
            folder.rmdir()  # an empty one
        os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def is_vacant(folder: Path) -> bool:
    """Whether a folder can be made there: there is nothing, or an empty one."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def check_disk_space(folder: Path, needed: int) -> None:
    """Raises UserError unless the disk that a folder is on, or will be, takes so many bytes with
    some to spare."""
    parent = next(parent for parent in folder.absolute().parents if parent.exists())
    needed += _SPARE_BYTES
    if needed > (free := shutil.disk_usage(parent).free):
        raise UserError(
            f"{folder}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free on that disk"
        )


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_bytes(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; what vanishes meanwhile is passed over."""
    files = (
        [path]
        if path.is_file()
        else [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    )
    total = 0
    for file in files:
        with contextlib.suppress(OSError):
            total += file.stat().st_size
    return total


def write_json(path: Path, value: Any) -> None:
    with atomic_write(path) as file:
        file.write(json.dumps(value, indent=1).encode())


def write_array(path: Path, array: np.ndarray) -> None:
    with atomic_write(path) as file:
        np.save(file, array)
