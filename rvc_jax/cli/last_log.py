"""What the last commands did, kept for `rvc-jax bug-report`: a few small files in the cache folder.

A file has the command line, its messages and its error, without private things. A cache folder that
cannot be written to keeps none: a command never fails for its log.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from rvc_jax.errors import UserError, make_printable
from rvc_jax.storage.environment import cache_dir
from rvc_jax.storage.plain_files import read_plain

_KEPT = 5
_MAX_BYTES = 64_000
_open_files: list[IO[str]] = []
"""The log of the command that runs in this process, or nothing."""


def log_folder() -> Path:
    """Return the folder of the logs. Raises UserError without a home folder."""
    return cache_dir() / "logs"


@contextlib.contextmanager
def record_command(arguments: Sequence[str]) -> Iterator[None]:
    """Keep a log of the command that runs in the block."""
    with contextlib.suppress(OSError, UserError, ValueError):
        _open_files.append(_create())
        note(f"rvc-jax {_quote(arguments)}")
    try:
        yield
    finally:
        while _open_files:
            with contextlib.suppress(OSError):
                _open_files.pop().close()


def note(text: str) -> None:
    """Add text to the log, if there is one."""
    if not _open_files:
        return
    from rvc_jax.cli.privacy import anonymize  # help is shown without it

    file = _open_files[-1]
    with contextlib.suppress(OSError, ValueError):
        if file.tell() < _MAX_BYTES:
            lines = [make_printable(line) for line in anonymize(text).splitlines()]
            file.write("\n".join(lines)[:_MAX_BYTES] + "\n")
            file.flush()


def read_last_log() -> str | None:
    """Return the newest log with the time of its command; None if there is none."""
    logs = _list_logs()
    if not logs:
        return None
    text = read_plain(logs[-1]).decode("utf-8", "replace")
    return f"{logs[-1].stem.rpartition('-')[0]} UTC\n{text}"


def _quote(arguments: Sequence[str]) -> str:
    import shlex

    return shlex.join(arguments)


def _create() -> IO[str]:
    folder = log_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for old in _list_logs()[: 1 - _KEPT]:
        old.unlink(missing_ok=True)
    seconds = time.time()
    now = time.strftime("%Y%m%d-%H%M%S", time.gmtime(seconds)) + f"{seconds % 1:.6f}"[1:]
    return (folder / f"{now}-{os.getpid()}.log").open("x", encoding="utf-8", errors="replace")


def _list_logs() -> list[Path]:
    return sorted(path for path in log_folder().glob("*.log") if path.is_file())
