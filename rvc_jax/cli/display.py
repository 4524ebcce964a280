"""How the command line shows progress and results.

Progress goes to standard error: a bar on a terminal, plain lines elsewhere, JSON for programs.
Results go to standard output.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rvc_jax.cli.last_log import note
from rvc_jax.cli.terminal import print_line, print_lines
from rvc_jax.errors import hide_credentials, make_printable
from rvc_jax.formatting import format_duration

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_SECONDS_BETWEEN_LINES = 5.0
_STAGES = {
    "fetch": "fetching",
    "download": "downloading",
    "features": "analyzing",
    "write": "writing",
    "audit": "measuring",
}
"""Stages as they are shown, where their name is another."""


class Display:
    """The `Reporter` of the command line. Use it as a context."""

    def __init__(self, form: Literal["auto", "lines", "json"] = "auto"):
        """Choose the form: bars on a terminal and lines elsewhere, always lines, or JSON lines."""
        self._form = form
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._stage = ""
        self._shown_at = -math.inf

    def __enter__(self) -> Display:
        if self._form == "auto" and sys.stderr.isatty():
            self._bars = _make_bars()
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            with contextlib.suppress(OSError):
                self._bars.stop()

    def message(self, text: str) -> None:
        """Show one line of text that stays."""
        note(text)
        text = make_printable(hide_credentials(text))
        if self._bars is not None:
            with contextlib.suppress(OSError):
                self._bars.console.print(text, markup=False, highlight=False)
        elif self._form == "json":
            _print_json_line({"event": "message", "text": text})
        else:
            print_line(text, to_stderr=True)

    def progress(
        self,
        stage: str,
        done: float,
        total: float | None,
        text: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Show how far a stage is; `facts` are part of a JSON line."""
        stage = make_printable(hide_credentials(_STAGES.get(stage, stage)))
        text = make_printable(hide_credentials(text))
        if not total:  # a stage of unknown length stays at its beginning
            done = 0
            total = 1
        if self._bars is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, text="")
            self._bars.update(self._tasks[stage], completed=done, total=total, text=text)
            return
        now = time.monotonic()
        is_due = now - self._shown_at > _SECONDS_BETWEEN_LINES
        if stage == self._stage and done < total and not is_due:
            return
        self._stage = stage
        self._shown_at = now
        if self._form == "json":
            event = {"event": stage, "done": done, "total": total, "text": text}
            _print_json_line({**event, **(facts or {})})
        else:
            line = f"{stage} {100 * done / total:.0f}% {text}"
            print_line(line.rstrip(), to_stderr=True)


def _make_bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description:<10}", markup=False),
        BarColumn(12),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[text]}", markup=False),
        console=Console(stderr=True),
    )


def _print_json_line(line: dict[str, Any]) -> None:
    print_line(json.dumps(to_plain(line)), to_stderr=True)


def print_result(result: Any, rows: Iterable[tuple[str, str]], as_json: bool) -> None:
    """Print a command's result: the value itself as JSON, or rows of names and values."""
    if as_json:
        print_lines(json.dumps(to_plain(result), indent=1))
        return
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print_line(f"{name:<{width}}  {value}")


def to_plain(value: Any) -> Any:
    """Return the value in containers that JSON has; a float that is not finite becomes null."""
    if dataclasses.is_dataclass(value):
        return {
            field.name: to_plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # a scalar of NumPy or JAX
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def format_drop(drop: Any) -> str:
    """Return what was left out of a dataset: the file, the time in it if any, and the reason."""
    file, seconds, reason = drop
    place = "" if seconds is None else f" at {format_duration(seconds)}"
    return f"{file}{place}: {reason}"
