"""What only Google Colab has: Drive, uploads, downloads, and the end of the runtime."""

from __future__ import annotations

import contextlib
import importlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

_FLUSH_MINUTES = 30


def content_folder() -> Path:
    """Return the folder for a runtime's own files; outside Colab, the current folder."""
    return Path("/content") if is_colab() and Path("/content").is_dir() else Path.cwd()


def is_colab() -> bool:
    """Return whether this is Colab."""
    try:
        return importlib.import_module("google.colab") is not None
    except ImportError:
        return False


def mount(at: Path) -> None:
    """Mount the user's Drive, after asking for permission. Raises what Colab raises."""
    _part("drive").mount(str(at))


def device(folder: Path) -> int | None:
    """Return the number of the disk that a folder is on; None if it cannot be reached. Drive has
    another number than the runtime's own disk."""
    try:
        return folder.stat().st_dev
    except OSError:
        return None


def send_to_drive() -> None:
    """Wait until everything written is on Drive, then unmount it. Raises what Colab raises.

    Without a mounted Drive, Colab does nothing and raises nothing: check that before.
    """
    _part("drive").flush_and_unmount(timeout_ms=_FLUSH_MINUTES * 60_000)


def upload(into: Path) -> list[Path]:
    """Ask the user for files. They appear in the folder when they are complete; return their
    paths."""
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as room, contextlib.chdir(room):
        _part("files").upload()  # writes into the current folder
        return [
            Path(shutil.move(file, into / file.name)) for file in sorted(Path(room).iterdir())
        ]


def download(file: Path) -> None:
    """Send a file to the user's computer."""
    _part("files").download(str(file))


def release() -> None:
    """Release the runtime. Raises what Colab raises."""
    _part("runtime").unassign()


def _part(name: str) -> Any:
    return importlib.import_module(f"google.colab.{name}")
