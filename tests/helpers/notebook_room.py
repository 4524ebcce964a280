"""The notebook's steps with a stand-in for the commands and for Colab."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rvc_jax.errors import UserError
from rvc_jax.notebook import colab, session, speech, trained_voice, training
from rvc_jax.notebook.runtime import Accelerator, Devices
from rvc_jax.notebook.studio import Studio
from rvc_jax.notebook.translations import Translations

V5E = Accelerator("tpu", "v5e")
T4 = Accelerator("gpu", "Tesla T4")


class Commands:
    """Stands in for `rvc-jax`: writes what a command would, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.fails: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.best = 40
        self.trained = {}

    def run(
        self,
        command: str,
        *arguments: object,
        on_event: Callable,
        on_interrupt: Callable = lambda: None,
    ) -> Any:
        self.asked.append([command, *map(str, arguments)])
        if command in self.fails:
            raise UserError(self.fails[command])
        on_event({"event": "line", "text": command})
        return getattr(self, f"_{command}")(*map(str, arguments))

    def names(self) -> list[str]:
        return [asked[0] for asked in self.asked]

    def option(self, command: str, name: str) -> str:
        (asked,) = (asked for asked in self.asked if asked[0] == command)
        return asked[asked.index(name) + 1]

    def _fetch(self, *arguments: str) -> Any:
        folder = Path(arguments[arguments.index("--out") + 1])
        folder.mkdir(parents=True)
        (folder / "talk.opus").write_bytes(b"sound")
        (folder / "talk.opus.source.json").write_text("{}")
        return {"skipped": [{"name": "second", "reason": "it is private"}]}

    def _prepare(self, *arguments: str) -> Any:
        folder = Path(arguments[arguments.index("--out") + 1])
        folder.mkdir(exist_ok="--overwrite" in arguments)
        (folder / "metadata.json").write_text("{}")
        return {
            "speech_minutes": 20.0,
            "train_slices": 424,
            "holdout_seconds": 60.0,
            "dropped": [["bad.mp3", None, "damaged"], ["one.wav", 3.0, "too short"]],
        }

    def _audit(self, *arguments: str) -> Any:
        Path(arguments[arguments.index("--out") + 1]).write_text("<p>heard</p>")
        return {
            "advice": [
                {
                    "verdict": "good",
                    "text": "Enough.",
                    "reason": "20 minutes",
                    "topic": "amount",
                }
            ]
        }

    def _train(self, *arguments: str) -> Any:
        run = Path(arguments[arguments.index("--run") + 1])
        (run / "best" / str(self.best)).mkdir(parents=True)
        (run / "report.html").write_text("<p>curves</p>")
        return {
            "steps": 53,
            "steps_per_second": 4.0,
            "interrupted": False,
            "used_up": False,
            "holdout_before": 2.0,
            "holdout_after": 1.0,
            "outlook": [],
            **self.trained,
        }

    def _convert(self, run: str, source: str, out: str, *options: str) -> Any:
        Path(out).write_bytes(b"sound")

    def _export(self, *arguments: str) -> Any:
        folder = Path(arguments[arguments.index("--out") + 1])
        folder.mkdir(exist_ok=True)
        (folder / "ada.pth").write_bytes(b"weights")
        return {
            "files": [{"name": "ada.pth", "sha256": hashlib.sha256(b"weights").hexdigest()}],
            "notes": [],
        }


class FakeColab:
    """Stands in for what only Colab has."""

    def __init__(self, content: Path, monkeypatch: pytest.MonkeyPatch):
        self.calls: list[str] = []
        self.chosen: list[str] = []
        self.fails: dict[str, Exception] = {}
        monkeypatch.setattr(colab, "content_folder", lambda: content)
        monkeypatch.setattr(colab, "is_colab", lambda: True)
        for name in ("mount", "send_to_drive", "release", "download"):
            monkeypatch.setattr(colab, name, self._called(name))
        monkeypatch.setattr(colab, "upload", self._upload)

    def _called(self, name: str) -> Callable:
        def call(*_: object) -> None:
            self.calls.append(name)
            if name in self.fails:
                raise self.fails[name]

        return call

    def _upload(self, folder: Path) -> list[Path]:
        self.calls.append("upload")
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.chosen:
            (folder / name).write_bytes(b"sound")
        return [folder / name for name in self.chosen]


class Room:
    """Steps with stand-ins, and what they show."""

    def __init__(self, content: Path, monkeypatch: pytest.MonkeyPatch):
        self.colab = FakeColab(content, monkeypatch)
        self.commands = Commands()
        self.shown = []
        self.content = content
        self._monkeypatch = monkeypatch
        for module in (session, speech, training, trained_voice):
            monkeypatch.setattr(
                module, "show_text", lambda text, kind="plain": self.shown.append(text)
            )
        for module in (speech, training):
            monkeypatch.setattr(
                module, "frame", lambda page: self.shown.append(f"[{page.name}]")
            )
        monkeypatch.setattr(
            trained_voice, "play", lambda file: self.shown.append(f"[{file.name}]")
        )

    def studio(
        self, accelerator: Accelerator = V5E, units_per_hour: float = 0, use_drive: bool = True
    ) -> Studio:
        devices = Devices("TPU v5 lite", 1, "0.12.0")
        made = Studio(Translations("en"), self.commands, accelerator, devices, units_per_hour)
        made.open_voice("ada", use_drive)
        return made

    def prepared(self, **options: Any) -> Studio:
        made = self.studio(**options)
        self.colab.chosen = ["one.wav", "two.wav"]
        made.add_speech("upload (envoyer)")
        made.prepare("40k")
        return made

    def trained(self, **options: Any) -> Studio:
        made = self.prepared(**options)
        made.train(200)
        return made

    @property
    def text(self) -> str:
        return "\n".join(self.shown)
