"""Moments of a recording as people write them."""

from __future__ import annotations

import re

from rvc_jax.errors import UserError

_TIME = re.compile(r"(?:(?:([0-9]{1,6}):)?([0-9]{1,6}):)?([0-9]{1,9}(?:\.[0-9]{0,9})?)")


def parse_time(text: str) -> float:
    """Seconds of "62.5", "1:02.5" or "0:01:02.5".

    After minutes the seconds stay below 60, and after hours the minutes too: what is meant by
    "1:90" is unclear.

    Raises:
      UserError: anything else.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise UserError(
            f"{_shortened(text)} is no time: write seconds (62.5), m:ss (1:02.5) or h:mm:ss (1:02:03.5)"
        )
    hours, minutes, seconds = found.groups()
    if (minutes is not None and float(seconds) >= 60) or (
        hours is not None and int(minutes) >= 60
    ):
        raise UserError(
            f"{_shortened(text)} is no time: 60 seconds are a minute, and 60 minutes an hour"
        )
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)


def name_cut(name: str, start: float, stop: float | None) -> str:
    """What to call a part of a recording: "speech.m4a[62.5-190.0]"; its own name if it is the
    whole."""
    if not start and stop is None:
        return name
    return f"{name}[{_tidy(start)}-{'end' if stop is None else _tidy(stop)}]"


def _tidy(seconds: float) -> str:
    """At least one decimal, at most as many as make a difference in a sound."""
    text = f"{seconds:.6f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
