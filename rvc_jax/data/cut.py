"""Cuts: the wanted parts of recordings, and what they are called."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

from rvc_jax.storage.places import Location


@dataclasses.dataclass(frozen=True)
class Cut:
    """A recording, or a part of one."""

    path: Location
    name: str
    """The cut's name in records and reports; unique among the sources."""
    speaker: str
    start: float = 0.0
    """Seconds into the recording."""
    stop: float | None = None
    """Seconds into the recording; None: its end."""
    gain_db: float = 0.0


def name_cut(recording: str, start: float, stop: float | None) -> str:
    """Return the name of a cut: "speech.m4a[62.5-190.0]", or the recording's own if it is whole."""
    if not start and stop is None:
        return recording
    end = "end" if stop is None else _format_seconds(stop)
    return f"{recording}[{_format_seconds(start)}-{end}]"


def number_duplicates(names: Sequence[str]) -> list[str]:
    """Return the names with " (2)", " (3)" and so on appended to those that have come before."""
    seen: collections.Counter[str] = collections.Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return numbered


def _format_seconds(seconds: float) -> str:
    """Return seconds with one to six decimals."""
    text = f"{seconds:.6f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text
