"""Quantities as text for people."""

from __future__ import annotations


def format_duration(seconds: float) -> str:
    """Return a duration in the largest fitting unit: `42 s`, `7 min`, `2.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def format_bytes(count: float) -> str:
    """Return a number of bytes in the largest fitting decimal unit: `980 B`, `52 MB`, `1.4 GB`."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
