"""The line under a cell that shows how far its command is."""

from __future__ import annotations

import time
from typing import Any

from rvc_jax.formatting import format_duration
from rvc_jax.notebook.page import Line
from rvc_jax.notebook.translations import Translations


class Progress:
    """Shows the events of a command in one line, which is updated in place."""

    def __init__(self, texts: Translations, units_per_hour: float | None = None):
        """Show an empty line; with a rate, trainings also show the units they have used."""
        self._texts = texts
        self._units_per_hour = units_per_hour
        self._began = time.monotonic()
        self._line = Line()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event, as `Program.run` gives them."""
        if event["event"] == "training":
            share = event["step"] / max(event["total_steps"], 1)
            self._line.show(self._describe_training(event), share)
        elif event.get("text"):
            self._line.show(event["text"])

    def show_saving(self) -> None:
        """Show that the user has stopped the cell and the command saves its work."""
        self._line.show(self._texts("saving"))

    def _describe_training(self, event: dict[str, Any]) -> str:
        translate = self._texts
        parts = [
            translate(
                "progress",
                step=event["step"],
                total=event["total_steps"],
                epoch=event["epoch"],
                epochs=event["epochs"],
            )
        ]
        seconds = event.get("step_seconds")
        if seconds:
            parts.append(translate("left", time=format_duration(event["seconds_left"])))
            parts.append(translate("speed", speed=1 / seconds))
        if event.get("holdout") is not None:
            parts.append(translate("hold_out", error=event["holdout"]))
        if event.get("budget"):
            parts.append(translate("budget", budget=event["budget"]))
        if self._units_per_hour:
            hours = (time.monotonic() - self._began) / 3600
            parts.append(translate("taken", units=hours * self._units_per_hour))
        return ", ".join(parts)
