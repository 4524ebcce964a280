"""The one way to open a file that may come from someone else: a plain file of bounded size.

A path from outside can name a pipe that nobody writes to, a device without an end, a folder or a
circle of links. Opening those blocks, fills the memory or ends in a traceback. The functions here
open without blocking, accept plain files only, and read no more than a limit, also where a file
grows meanwhile. Links to plain files are followed.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from rvc_jax.errors import UserError, describe_os_error, make_printable

SETTINGS_BYTES = 16_000_000
"""Limit for files of settings, notes, cards and recipes, which people and programs write whole."""
RECORD_BYTES = 256_000_000
"""Limit for what grows while a program runs: a history, a table, a transcript."""
ENTRY_BYTES = 4_000_000_000
"""Limit for arrays that are read whole: cache entries, a run's index."""
WEIGHTS_BYTES = 16_000_000_000
"""Limit for files of weights and archives of them."""

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_BINARY", 0)
)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_plain(path: Path | str, limit: int | None = None) -> BinaryIO:
    """Open a plain file for reading, without blocking.

    Args:
        path: The file; a link to one is followed.
        limit: The most bytes that the file may have; None for no limit.

    Returns:
        The open file, unbuffered reads of which return what is there.

    Raises:
        FileNotFoundError: Nothing is there.
        UserError: It is not a plain file, has more bytes than the limit, or can't be opened.
    """
    try:
        # Before opening, too: opening some devices has effects.
        _check_status(path, os.stat(path), limit)  # noqa: PTH116  (a path may be a str)
        descriptor = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:
        raise _explain(path, error) from error
    try:
        _check_status(path, os.fstat(descriptor), limit)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_plain(path: Path | str, limit: int | None = None) -> os.stat_result:
    """Check that a library which opens files by name may open this one.

    Use `open_plain` where the library accepts an open file.

    Args:
        path: The file; a link to one is followed.
        limit: The most bytes that the file may have; None for no limit.

    Returns:
        The file's status.

    Raises:
        FileNotFoundError: Nothing is there.
        UserError: It is not a plain file, has more bytes than the limit, or can't be opened.
    """
    with open_plain(path, limit) as file:
        return os.fstat(file.fileno())


def read_plain(path: Path | str, limit: int = SETTINGS_BYTES) -> bytes:
    """Read a plain file whole.

    Args:
        path: The file; a link to one is followed.
        limit: The most bytes that the file may have, and that are read.

    Raises:
        FileNotFoundError: Nothing is there.
        UserError: It is not a plain file, has more bytes than the limit, or can't be read.
    """
    with open_plain(path, limit) as file:
        try:
            return _read(path, file, limit)
        except OSError as error:
            raise _explain(path, error) from error


def read_text(path: Path | str, limit: int = SETTINGS_BYTES) -> str:
    """Read a plain file of UTF-8 text whole; a byte order mark at its start is left out.

    Args:
        path: The file; a link to one is followed.
        limit: The most bytes that the file may have, and that are read.

    Raises:
        FileNotFoundError: Nothing is there.
        UserError: As `read_plain`, or the file is not UTF-8.
    """
    content = read_plain(path, limit)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{_show(path)} is not text in UTF-8 (byte {error.start})") from None


def _read(path: Path | str, file: BinaryIO, limit: int) -> bytes:
    # Files of /proc state a size of 0, and any file may grow: the limit holds for what arrives.
    size = os.fstat(file.fileno()).st_size
    content = file.read(min(size, limit) + 1)
    if len(content) > size:
        content += file.read(limit + 1 - len(content))
    if len(content) > limit:
        raise _too_large(path, limit)
    return content


def _check_status(path: Path | str, status: os.stat_result, limit: int | None) -> None:
    for is_kind, name in _KINDS:
        if is_kind(status.st_mode):
            raise UserError(f"{_show(path)} is not a file, but {name}")
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{_show(path)} is not a plain file")
    if limit is not None and status.st_size > limit:
        raise _too_large(path, limit)


def _too_large(path: Path | str, limit: int) -> UserError:
    return UserError(
        f"{_show(path)} has more than {limit / 1e6:,.0f} MB, too much for this kind of file"
    )


def _explain(path: Path | str, error: Exception) -> Exception:
    """Return the exception to raise for one of the operating system."""
    number = getattr(error, "errno", None)
    if number in (errno.ENOENT, errno.ENOTDIR):
        return FileNotFoundError(number, os.strerror(number), str(path))
    if number == errno.ELOOP:
        return UserError(f"{_show(path)} is a link that leads back to itself")
    if isinstance(error, ValueError):  # a zero byte in the name
        return UserError(f"{_show(path)} cannot be the name of a file")
    return UserError(f"{_show(path)} cannot be read: {describe_os_error(error)}")


def _show(path: Path | str) -> str:
    return make_printable(str(path))
