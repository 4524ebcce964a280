"""How far the preparation is, told to whoever shows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Progress:
    """One step of a stage."""

    stage: str
    """"fetch" (recordings), "download" (weights), "features" (files are cut, slices get their pitch
    and content) or "write"."""
    done: float
    total: int
    message: str
    """What was just finished."""


Listener = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """The listener of those who do not care."""
