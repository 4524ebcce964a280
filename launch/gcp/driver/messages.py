"""Messages of `tpu`."""

from __future__ import annotations

import contextlib
import sys


class UserError(Exception):
    """Its text is one line that says what is wrong, where, and what to do. Exit code 2."""


class PreemptedError(Exception):
    """Google took the slice away."""


def say(text: str) -> None:
    """Prints a message, if a terminal is still there to print it to."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        print(f"tpu: {text}", file=sys.stderr, flush=True)
