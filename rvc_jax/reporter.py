"""How long work reports its progress: one protocol for the terminal, pages, notebooks and tests."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Receives messages and progress while a command works.

    Called from the thread that works; an implementation must return quickly and raise nothing.
    """

    def message(self, text: str) -> None:
        """Show one line of text that stays, such as a note or a warning."""

    def progress(self, stage: str, done: float, total: float | None, text: str = "") -> None:
        """Show how far a stage is.

        Args:
            stage: What is being done, such as "pitch" or "training".
            done: Units done so far.
            total: Units in all, or None if that is unknown.
            text: Details to show beside the bar.
        """


class SilentReporter:
    """A reporter that shows nothing."""

    def message(self, text: str) -> None:
        """Ignore the message."""

    def progress(self, stage: str, done: float, total: float | None, text: str = "") -> None:
        """Ignore the progress."""


SILENT: Reporter = SilentReporter()
