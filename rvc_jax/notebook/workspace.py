"""The folder of one voice, on Drive or not. It is the notebook's only state: every cell starts
there."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path, PurePosixPath
from typing import Any

from rvc_jax.errors import UserError
from rvc_jax.storage.files import file_sha256, write_json
from rvc_jax.storage.json_files import read_json

_NAME = re.compile(r"[^\W_]([\w -]{0,58}[^\W_])?")
_KEPT_BY_OTHERS = re.compile(r"con|prn|aux|nul|(com|lpt)\d|[gd]_\d+", re.IGNORECASE)


def is_name(text: str) -> bool:
    """Return whether a voice can have this name: every system and RVC program accepts it for
    files."""
    return (
        bool(_NAME.fullmatch(text))
        and len(text.encode()) <= 60
        and not _KEPT_BY_OTHERS.fullmatch(text)
    )


def is_inside(text: str) -> bool:
    """Return whether a text names a folder inside another one."""
    path = PurePosixPath(text)
    return (
        bool(path.parts)
        and not path.is_absolute()
        and ".." not in path.parts
        and text.isprintable()
    )


class Workspace:
    """The places of everything about a voice."""

    def __init__(self, root: Path, name: str, on_drive: bool):
        self.name = name
        self.on_drive = on_drive
        self.path = root / name
        self.path.mkdir(parents=True, exist_ok=True)
        self.compiled = root / "compiled"
        """Compiled programs, shared by all voices."""
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
        """The cells' notes."""
        with contextlib.suppress(FileNotFoundError, UserError):
            return read_json(self.path / "notebook.json", dict[str, Any])
        return {}

    def note(self, **values: Any) -> None:
        """Add to the cells' notes."""
        write_json(self.path / "notebook.json", {**self.state, **values})

    @property
    def beat(self) -> dict[str, Any]:
        """The run's last heartbeat; empty before the first."""
        with contextlib.suppress(FileNotFoundError, UserError):
            return read_json(self.run / "heartbeat.json", dict[str, Any])
        return {}

    @property
    def best_step(self) -> int | None:
        """Step of the best voice; None before there is one."""
        folder = self.run / "best"
        steps = (
            [int(each.name) for each in folder.iterdir() if each.name.isdecimal()]
            if folder.is_dir()
            else []
        )
        return max(steps, default=None)

    def damaged_export(self) -> str | None:
        """Return the name of an exported file that is missing or changed; None if all are
        intact."""
        for name, sha256 in self.state.get("export", {}).get("files", {}).items():
            try:
                intact = file_sha256(self.export / name) == sha256
            except OSError:
                intact = False
            if not intact:
                return name
        return None


def recordings(folder: Path) -> dict[str, int]:
    """Return the sizes of the files below a folder, by name, without sidecars and hidden files."""
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
