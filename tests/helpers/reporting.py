"""A reporter that keeps what it is given."""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """One call of `progress`."""

    stage: str
    done: float
    total: float | None
    text: str


class KeepingReporter:
    """Keeps messages and steps of progress, in order."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.steps: list[Step] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def progress(self, stage: str, done: float, total: float | None, text: str = "") -> None:
        self.steps.append(Step(stage, done, total, text))
