"""The folder of one voice, on Drive or not. What is in it is the only state there is: every cell
looks there first."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from rvc_jax.storage.files import file_sha256, write_json

_NAME = re.compile(r"[^\W_]([\w -]{0,58}[^\W_])?")
_KEPT_BY_OTHERS = re.compile(r"con|prn|aux|nul|(com|lpt)\d|[gd]_\d+", re.IGNORECASE)


def is_name(text: str) -> bool:
    """Whether a voice can be called so: a name of files on every system, and in every tool of the
    RVC world."""
    return (
        bool(_NAME.fullmatch(text))
        and len(text.encode()) <= 60
        and not _KEPT_BY_OTHERS.fullmatch(text)
    )


def is_inside(text: str) -> bool:
    """Whether a text names a folder inside of another."""
    path = PurePosixPath(text)
    return (
        bool(path.parts)
        and not path.is_absolute()
        and ".." not in path.parts
        and text.isprintable()
    )


class Workspace:
    """Where everything about a voice lies."""

    def __init__(self, root: Path, name: str, on_drive: bool):
        self.name = name
        self.on_drive = on_drive
        self.path = root / name
        self.path.mkdir(parents=True, exist_ok=True)
        self.compiled = root / "compiled"
        """Compiled programs, of all voices."""
        self.speech = self.path / "speech"
        self.features = self.path / "features"
        self.dataset = self.path / "dataset"
        self.audit = self.path / "audit.html"
        self.run = self.path / "run"
        self.recordings = self.path / "recordings"
        self.converted = self.path / "converted"
        self.export = self.path / "export"

    @property
    def state(self) -> dict[str, Any]:
        """What the cells have noted."""
        with contextlib.suppress(OSError, ValueError):
            if isinstance(state := json.loads((self.path / "notebook.json").read_text()), dict):
                return state
        return {}

    def note(self, **values: Any) -> None:
        write_json(self.path / "notebook.json", {**self.state, **values})

    @property
    def beat(self) -> dict[str, Any]:
        """The run's last sign of life; empty before the first."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.run / "heartbeat.json").read_text())
        return {}

    @property
    def best_step(self) -> int | None:
        """Of the best voice; None before there is one."""
        folder = self.run / "best"
        steps = (
            [int(each.name) for each in folder.iterdir() if each.name.isdecimal()]
            if folder.is_dir()
            else []
        )
        return max(steps, default=None)

    def damaged_export(self) -> str | None:
        """Name of an exported file that is gone or changed; None if all are as they were read
        back."""
        for name, sha256 in self.state.get("export", {}).get("files", {}).items():
            try:
                intact = file_sha256(self.export / name) == sha256
            except OSError:
                intact = False
            if not intact:
                return name
        return None


def recordings(folder: Path) -> dict[str, int]:
    """Sizes of the files below a folder, by name; notes beside recordings and hidden files left
    out."""
    found = {}
    for file in sorted(folder.rglob("*")):
        inside = file.relative_to(folder)
        if (
            file.is_file()
            and file.suffix != ".json"
            and not any(part.startswith(".") for part in inside.parts)
        ):
            found[str(inside)] = file.stat().st_size
    return found
