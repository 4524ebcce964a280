"""A disk that is full for one file."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from unittest import mock

from rvc_jax.runs import history


@contextlib.contextmanager
def full_disk(file: Path) -> Iterator[None]:
    """Make writes to a history's file fail in the block: the first bytes fit, the rest does not."""
    real_open = Path.open

    def open_full(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> IO[Any]:
        opened = real_open(path, mode, *arguments, **options)
        if path == file and "a" in mode:
            opened.write(b'{"half')
            opened.close()
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return opened

    @contextlib.contextmanager
    def no_rewrite(path: Path) -> Iterator[IO[bytes]]:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))
        yield

    with (
        mock.patch.object(Path, "open", open_full),
        mock.patch.object(history, "atomic_write", no_rewrite),
    ):
        yield
