"""The line under a cell that tells how far its command is."""

from __future__ import annotations

import time
from typing import Any

from rvc_jax.formatting import format_duration
from rvc_jax.notebook.page import Line
from rvc_jax.notebook.translations import Translations


class Progress:
    """A listener for a command: one line, renewed in its place."""

    def __init__(self, texts: Translations, units_per_hour: float | None = None):
        """units_per_hour: to tell what a training takes."""
        self._texts = texts
        self._units_per_hour = units_per_hour
        self._began = time.monotonic()
        self._line = Line()

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "training":
            self._line.show(self._training(event), event["step"] / max(event["total_steps"], 1))
        elif event.get("text"):
            self._line.show(event["text"])

    def saving(self) -> None:
        """The user stopped the cell."""
        self._line.show(self._texts("saving"))

    def _training(self, event: dict[str, Any]) -> str:
        say = self._texts
        seconds = event.get("step_seconds")
        parts = [
            say(
                "progress",
                step=event["step"],
                total=event["total_steps"],
                epoch=event["epoch"],
                epochs=event["epochs"],
            )
        ]
        if seconds:
            parts.append(say("left", time=format_duration(event["seconds_left"])))
            parts.append(say("speed", speed=1 / seconds))
        if event.get("holdout") is not None:
            parts.append(say("hold-out", error=event["holdout"]))
        if event.get("budget"):
            parts.append(say("budget", budget=event["budget"]))
        if self._units_per_hour:
            parts.append(
                say(
                    "taken",
                    units=(time.monotonic() - self._began) / 3600 * self._units_per_hour,
                )
            )
        return ", ".join(parts)
