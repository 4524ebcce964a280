"""A reporter that keeps what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Step(NamedTuple):
    """One call of `progress`."""

    stage: str
    done: float
    total: float | None
    text: str


class KeepingReporter:
    """Keeps messages and steps of progress, in order."""

    def __init__(
        self,
        on_message: Callable[[str], object] = lambda text: None,
        on_progress: Callable[[float], object] = lambda done: None,
    ) -> None:
        """The functions are called as well: with the text, and with the units done."""
        self._on_message = on_message
        self._on_progress = on_progress
        self.messages: list[str] = []
        self.steps: list[Step] = []

    def message(self, text: str) -> None:
        self.messages.append(text)
        self._on_message(text)

    def progress(
        self,
        stage: str,
        done: float,
        total: float | None,
        text: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.steps.append(Step(stage, done, total, text))
        self._on_progress(done)
