"""Temporary files and folders that bear the name of their process, so that what a killed one has
left is recognized and removed."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from rvc_jax.errors import UserError, describe_os_error
from rvc_jax.storage.processes import identify_this_process, parse_tag

_NAME = re.compile(
    r"\.?rvc_jax-([0-9a-f]{12}-\d+-\d+)-[0-9a-f]{8}\.(?:tmp|unfinished)(?:[.-]\w+)?"
)
_FOREIGN_SECONDS = 7 * 86400.0
"""Age from which the files of a process that can't be seen from here count as left behind."""


def make_scratch_name(ending: str = "tmp", hidden: bool = True) -> str:
    """Return a new name that says which process made the file.

    Args:
        ending: "tmp", "tmp.wav" and the like, or "unfinished" for what becomes a result.
        hidden: Whether it begins with a dot.
    """
    dot = "." if hidden else ""
    tag = identify_this_process().tag
    return f"{dot}rvc_jax-{tag}-{uuid.uuid4().hex[:8]}.{ending}"


def clear_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders in a folder whose processes have ended.

    Those of other machines and containers are removed a week after their last change. What can't
    be removed stays.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _NAME.fullmatch(entry.name)
            if found and _is_left_behind(found[1], Path(entry.path)):
                remove(Path(entry.path))


@functools.cache
def clear_once(folder: Path) -> None:
    """Call `clear_leftovers` the first time that this process writes into a folder."""
    clear_leftovers(folder)


def remove(path: Path) -> None:
    """Remove a file or a folder as far as possible; a link is removed, not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder for temporary files, and remove it when the block ends.

    What killed processes have left beside it is removed, too.

    Args:
        parent: Where to make it; by default the system's folder for temporary files.
    """
    try:
        parent = parent or Path(tempfile.gettempdir())
        clear_once(parent)
        folder = parent / make_scratch_name(hidden=False)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise UserError(
            f"{parent or 'temporary files'} cannot be written: {describe_os_error(error)}; name "
            "another folder for temporary files in TMPDIR"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def own_tempfiles(folder: Path) -> Iterator[None]:
    """Make everything that asks Python for a temporary file in the block get it in a folder.

    Some libraries never remove what they make.
    """
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _is_left_behind(tag: str, path: Path) -> bool:
    owner = parse_tag(tag)
    if owner is not None:
        return not owner.is_alive
    try:
        newest = max(_list_times(path))
    except OSError:
        return False
    return time.time() - newest > _FOREIGN_SECONDS


def _list_times(path: Path) -> Iterator[float]:
    """Yield when a file, or a folder and everything in it, last changed."""
    yield path.lstat().st_mtime
    if path.is_dir() and not path.is_symlink():
        for folder, _, names in os.walk(path):
            yield Path(folder).lstat().st_mtime
            for name in names:
                yield Path(folder, name).lstat().st_mtime
