"""How the command line shows progress and results: bars on a terminal, plain lines elsewhere, JSON
for machines.

Progress goes to standard error, results to standard output.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rvc_jax.errors import make_printable

if TYPE_CHECKING:
    from rvc_jax.runs.progress import TrainProgress

_SECONDS_BETWEEN_LINES = 5.0
_TERMS = {
    "loss/mel": "mel",
    "loss/kl": "kl",
    "loss/feature_matching": "fm",
    "loss/adversarial": "adv",
    "loss/discriminator": "disc",
}
_STAGES = {
    "fetch": "fetching",
    "download": "downloading",
    "features": "analyzing",
    "write": "writing",
    "audit": "measuring",
}


class Display:
    """Shows how far a command is. Use it as a context."""

    def __init__(self, form: Literal["auto", "lines", "json"] = "auto"):
        """form: a bar on a terminal and lines elsewhere, lines anywhere, or a JSON object per
        line."""
        self._form = form

    def __enter__(self) -> Display:
        self._stage = ""
        self._shown = -math.inf
        self._bars = None
        if self._form == "auto" and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (
                TextColumn("{task.description:<10}"),
                BarColumn(12),
                TextColumn("{task.percentage:>3.0f}%"),
            )
            self._bars = Progress(
                *columns,
                TextColumn("{task.fields[text]}", markup=False),
                console=Console(stderr=True),
            )
            self._bars.start()
            self._tasks: dict[str, Any] = {}
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def update(self, stage: str, done: float, total: float, text: str, **facts: Any) -> None:
        """So much of a stage is done. facts: what a JSON line has beside it."""
        text = make_printable(text)
        if self._bars is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, text="")
            self._bars.update(self._tasks[stage], completed=done, total=total, text=text)
            return
        now = time.monotonic()
        if stage != self._stage or done >= total or now - self._shown > _SECONDS_BETWEEN_LINES:
            self._stage = stage
            self._shown = now
            if self._form == "json":
                self._tell(
                    {"event": stage, "done": done, "total": total, "text": text, **facts}
                )
                return
            print(
                f"{stage} {100 * done / total:.0f}% {text}".rstrip(),
                file=sys.stderr,
                flush=True,
            )

    def message(self, text: str) -> None:
        """A line that stays."""
        text = make_printable(text)
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False)
        elif self._form == "json":
            self._tell({"event": "message", "text": text})
        else:
            print(text, file=sys.stderr, flush=True)

    def progress(self, stage: str, done: float, total: float | None, text: str = "") -> None:
        """Show how far a stage is; a stage of unknown length stays at its beginning."""
        if not total:
            done, total = 0, 1
        self.update(_STAGES.get(stage, stage), done, total, text)

    def train(self, progress: TrainProgress) -> None:
        """The listener for `train`."""
        if progress.message is not None:
            self.message(f"step {progress.step}: {progress.message}")
            if progress.step == 0:
                self.message("compiling the training step; this may take a minute")
            return
        parts = [
            f"step {progress.step}/{progress.total_steps}"
        ]  # on a narrow terminal, what comes first is seen
        if math.isfinite(progress.step_seconds):
            parts.append(f"{format_duration(progress.seconds_left)} left")
        if progress.budget:
            parts.append(progress.budget)
        parts.append(f"epoch {progress.epoch}/{progress.epochs}")
        if math.isfinite(progress.step_seconds):
            parts.append(f"{1 / progress.step_seconds:.2f} steps/s")
        if progress.holdout is not None:
            parts.append(f"hold-out {progress.holdout:.3f}")
        if terms := [
            f"{name} {progress.losses[key]:.2f}"
            for key, name in _TERMS.items()
            if key in progress.losses
        ]:
            parts.append("losses: " + " ".join(terms))
        facts = {
            key: value
            for key, value in dataclasses.asdict(progress).items()
            if key != "message"
        }
        self.update("training", progress.step, progress.total_steps, ", ".join(parts), **facts)

    @staticmethod
    def _tell(line: dict[str, Any]) -> None:
        print(json.dumps(to_plain(line)), file=sys.stderr, flush=True)

    def convert(self, share: float) -> None:
        """The listener for conversions."""
        self.update("converting", share, 1, "")


def print_result(result: Any, rows: Iterable[tuple[str, str]], as_json: bool) -> None:
    """Prints a command's result: the value itself as JSON, or rows of a table."""
    if as_json:
        print(json.dumps(to_plain(result), indent=1))
        return
    rows = list(rows)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {make_printable(value)}")


def to_plain(value: Any) -> Any:
    """The value in containers that JSON has; what is not a number there becomes null."""
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
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def format_drop(drop: Any) -> str:
    """What was left out of a dataset, where, and why."""
    file, seconds, reason = drop
    return f"{file}{'' if seconds is None else f' at {format_duration(seconds)}'}: {reason}"


def format_duration(seconds: float) -> str:
    """A length of time, to be read at a glance."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """A number of bytes, to be read at a glance."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
