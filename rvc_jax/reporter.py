"""How long work reports its progress: one protocol for the terminal, pages, notebooks and tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Reporter(Protocol):
    """Receives messages and progress while a command works.

    Called from the thread that works; an implementation must return quickly. An exception that it
    raises ends the work: the server drops conversions that way.
    """

    def message(self, text: str) -> None:
        """Show one line of text that stays, such as a note or a warning."""

    def progress(
        self,
        stage: str,
        done: float,
        total: float | None,
        text: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Show how far a stage is.

        Args:
            stage: Name of what is being done, such as "features" or "training".
            done: Units done so far.
            total: Units in all, or None if that is unknown.
            text: Details to show beside the bar.
            facts: The same details by name, for a program that reads the progress.
        """


class SilentReporter:
    """A reporter that shows nothing."""

    def message(self, text: str) -> None:
        """Ignore the message."""

    def progress(
        self,
        stage: str,
        done: float,
        total: float | None,
        text: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Ignore the progress."""


SILENT: Reporter = SilentReporter()
