"""Atomic writes, hashes and sizes of files, and the two questions asked of a disk.

A file or folder written here appears under its name in one move: a reader sees the old one or the
new one, never a part. `check_disk_space` asks before a large write; `disk_full` recognizes the
failure afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from rvc_jax.errors import UserError, describe_os_error
from rvc_jax.storage.environment import cache_dir
from rvc_jax.storage.plain_files import open_plain
from rvc_jax.storage.scratch import clear_once, make_scratch_name

if TYPE_CHECKING:
    from io import BufferedReader

    import numpy as np

LOCK_NAME = ".lock"
"""Name of a folder's lock (`storage.locks`) inside it."""
SPARE_BYTES = 64_000_000
"""Bytes that `check_disk_space` leaves free: a full disk stops other programs."""

WINDOWS_RESERVED_NAME = re.compile(r"(?:CON|PRN|AUX|NUL|COM\d|LPT\d)(?:\..*)?", re.IGNORECASE)
"""File names that Windows reserves for devices."""

_SOME_FILE = "a file could not be written"
_FULL_BYTES = 1 << 20
"""A disk with less free space counts as full."""
_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces `path` when the block ends, or is removed if it fails."""
    clear_once(path.parent)
    temporary = path.with_name(make_scratch_name())
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)  # the name that the user knows
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Make a temporary folder that becomes `folder` when the block ends, or is removed if it fails.

    `folder` must be absent or empty.
    """
    folder = folder.absolute()
    clear_once(folder.parent)
    unfinished = folder.with_name(make_scratch_name("unfinished"))
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if folder.exists():
            folder.rmdir()  # only an empty folder can be removed this way
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def is_vacant(folder: Path, besides: str = "") -> bool:
    """Return whether a folder can be made at this path: it is absent, or an empty folder.

    Args:
        folder: The path.
        besides: Name of a file that may be in it.
    """
    if not folder.exists():
        return not folder.is_symlink()
    return folder.is_dir() and all(path.name == besides for path in folder.iterdir())


def check_disk_space(
    folder: Path,
    needed: int,
    purpose: str = "writing into it",
    advice: str = "free some space, or name another folder",
) -> None:
    """Check that a disk has room for `needed` bytes and `SPARE_BYTES` more.

    Args:
        folder: The folder to write into; it need not exist yet.
        needed: Bytes that will be written.
        purpose: What needs the space, for the message.
        advice: What to do, for the message.

    Raises:
        UserError: The disk has too little free space.
    """
    needed += SPARE_BYTES
    folder = folder.absolute()
    free = shutil.disk_usage(find_existing(folder)).free
    if free < needed:
        raise UserError(
            f"disk full: {folder} has {free / 1e6:.1f} MB free, {purpose} needs "
            f"{needed / 1e6:.1f} MB; {advice}"
        )


def disk_full(error: BaseException | None) -> str | None:
    """Return what to say if a full disk is the error or one of its causes; None if it is neither.

    Recognizes ENOSPC and EDQUOT, the same in the words of libraries that drop the number (Orbax,
    yt-dlp, TensorFlow, NumPy), and a UserError that already says "disk full".
    """
    found = None
    while error is not None:
        if isinstance(error, UserError) and str(error).startswith("disk full"):
            return str(error)
        if found is None and _is_disk_full(error):
            place = getattr(error, "filename", None)
            other = None if place else find_full_place()
            advice = "free some space and run the same command again"
            found = f"disk full: {other or f'{place or _SOME_FILE}; {advice}'}"
        error = error.__cause__ or error.__context__
    return found


@contextmanager
def name_failing_place(place: object, advice: str) -> Iterator[None]:
    """Turn the system's refusal of a file in the block into a UserError that names the place.

    A write that fails for a full disk says nothing of the file, and what fails may be a cache or a
    temporary file rather than the result that the caller is busy with.

    Args:
        place: What is written to, for the message.
        advice: What to change, for the message.

    Raises:
        UserError: The block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        if _is_disk_full(error):
            raise UserError(f"disk full: {place}; free some space, or {advice}") from error
        reason = describe_os_error(error)
        raise UserError(f"{place} cannot be written: {reason}; {advice}") from error


def find_full_place(other_than: Path | None = None) -> str | None:
    """Return a folder beside the result whose disk is full, and what to change; None if none is.

    Args:
        other_than: The result: a folder on the same disk counts as part of it.
    """
    places = ((tempfile.gettempdir(), "TMPDIR"), (str(cache_dir()), "RVC_JAX_HOME"))
    for place, variable in places:
        with contextlib.suppress(OSError):
            folder = find_existing(Path(place))
            if other_than is not None:
                result = find_existing(other_than.absolute())
                if folder.stat().st_dev == result.stat().st_dev:
                    continue
            if shutil.disk_usage(folder).free < _FULL_BYTES:
                return f"{place}; free some space, or name another folder in {variable}"
    return None


def find_existing(place: Path) -> Path:
    """Return a place, or the nearest folder above it that exists."""
    return next(folder for folder in (place, *place.parents) if folder.exists())


def describe_file_error(error: BaseException | None) -> str | None:
    """Return what to say if the system's refusal of a file is the error or one of its causes."""
    while error is not None:
        if isinstance(error, OSError) and error.filename is not None:
            # Bytes, or the number of an open file, in rare cases.
            name = os.fsdecode(error.filename) if not isinstance(error.filename, int) else ""
            return f"{name} cannot be read or written: {describe_os_error(error)}"
        if isinstance(error, OSError) and "temporary directory" in str(error):
            return f"{describe_os_error(error)}: name a folder that can be written to in TMPDIR"
        if isinstance(error, OSError) and error.errno == errno.EMFILE:
            return "this shell allows too few open files: `ulimit -n 4096` raises the limit"
        error = error.__cause__ or error.__context__
    return None


def _is_disk_full(error: BaseException) -> bool:
    text = str(error)
    if getattr(error, "errno", None) in _FULL_ERRNOS or "No space left" in text:
        return True
    # NumPy reports a short write as "1000 requested and 10 written", without a number.
    if isinstance(error, OSError) and "requested and" in text and text.endswith("written"):
        return True
    # TensorFlow, which only reads and writes files here. By name: importing it takes seconds.
    return type(error).__name__ == "ResourceExhaustedError"


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        FileNotFoundError: Nothing is there.
        UserError: It is not a plain file, or can't be read.
    """
    with open_plain(path) as file:
        return hashlib.file_digest(cast("BufferedReader", file), "sha256").hexdigest()


def folder_bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder.

    Files that vanish meanwhile count as empty.
    """
    if path.is_file():
        files = [path]
    else:
        files = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    total = 0
    for file in files:
        with contextlib.suppress(OSError):
            total += file.stat().st_size
    return total


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, in one move."""
    with atomic_write(path) as file:
        file.write(json.dumps(value, indent=1).encode())


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy, in one move."""
    import numpy as np  # the command line starts without it

    with atomic_write(path) as file:
        np.save(file, array)
