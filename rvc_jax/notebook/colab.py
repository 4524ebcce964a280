"""What only Google Colab has: Drive, uploads to it, downloads from it, and the end of the
runtime."""

from __future__ import annotations

import contextlib
import importlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

_FLUSH_MINUTES = 30


def content_folder() -> Path:
    """Folder of a runtime's files, which go with it; where this is not Colab, the folder one is
    in."""
    return Path("/content") if is_colab() and Path("/content").is_dir() else Path.cwd()


def is_colab() -> bool:
    """Whether this is Colab."""
    try:
        return importlib.import_module("google.colab") is not None
    except ImportError:
        return False


def mount(at: Path) -> None:
    """Mounts the user's Drive, who is asked for leave. Raises what Colab raises."""
    _part("drive").mount(str(at))


def device(folder: Path) -> int | None:
    """Number of the disk that a folder is on; None if it can't be reached. Drive's is not that of
    the runtime."""
    try:
        return folder.stat().st_dev
    except OSError:
        return None


def send_to_drive() -> None:
    """Waits until all that was written is on Drive, which is unmounted then. Raises what Colab
    raises.

    Where Drive is not mounted, Colab does nothing, without an error: look for that before.
    """
    _part("drive").flush_and_unmount(timeout_ms=_FLUSH_MINUTES * 60_000)


def upload(into: Path) -> list[Path]:
    """Asks for files, which appear in a folder when they are complete. Returns their paths
    there."""
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as room, contextlib.chdir(room):
        _part("files").upload()  # writes into the current folder
        return [
            Path(shutil.move(file, into / file.name)) for file in sorted(Path(room).iterdir())
        ]


def download(file: Path) -> None:
    _part("files").download(str(file))


def release() -> None:
    """Gives the runtime back. Raises what Colab raises."""
    _part("runtime").unassign()


def _part(name: str) -> Any:
    return importlib.import_module(f"google.colab.{name}")
