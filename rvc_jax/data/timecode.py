"""Times as people write them."""

from __future__ import annotations

import re

from rvc_jax.errors import UserError

_TIME = re.compile(r"(?:(?:([0-9]{1,6}):)?([0-9]{1,6}):)?([0-9]{1,9}(?:\.[0-9]{0,9})?)")
_MAX_QUOTED = 40


def parse_time(text: str) -> float:
    """Parse "62.5", "1:02.5" or "0:01:02.5" into seconds.

    Seconds after minutes must be below 60, and so must minutes after hours: "1:90" is ambiguous.

    Raises:
        UserError: The text is not a time.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise UserError(
            f"{_quote(text)} is not a time: write seconds (62.5), m:ss (1:02.5) or "
            "h:mm:ss (1:02:03.5)"
        )
    hours, minutes, seconds = found.groups()
    if minutes is not None and float(seconds) >= 60:
        raise _out_of_range(text)
    if hours is not None and int(minutes or 0) >= 60:
        raise _out_of_range(text)
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds)


def _out_of_range(text: str) -> UserError:
    return UserError(
        f"{_quote(text)} is not a time: seconds after minutes, and minutes after hours, "
        "must be below 60"
    )


def _quote(text: str) -> str:
    return repr(text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}...")
