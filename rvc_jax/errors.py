"""The exception for users' mistakes, and text from outside made fit for one line of output."""

from __future__ import annotations

import re
import unicodedata

# Unicode categories: control, format, surrogate, private use, line and paragraph separator.
_CONTROL_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
_CREDENTIALS = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,20}:/{2,3})[^\s/?#]*@")
"""User and password in an address, with what comes before them."""


class UserError(Exception):
    """A mistake the user can correct: one line with what was wrong, where, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


def describe_os_error(error: object) -> str:
    """Return an OSError's reason without its number and file name: "No space left on device".

    Any other exception, and an OSError without a reason, gives its text.
    """
    return getattr(error, "strerror", None) or str(error)


def sanitize(text: object, limit: int = 120) -> str:
    """Return text from an untrusted file for one line of output.

    Unprintable characters become question marks; text beyond `limit` characters becomes "...".
    """
    text = str(text)
    head = "".join(c if c.isprintable() else "?" for c in text[: limit + 1])
    return head if len(head) <= limit else head[:limit] + "..."


def make_printable(text: str) -> str:
    """Return text from outside (file names, messages of libraries) fit for a terminal and a page.

    A question mark replaces characters that are invalid, move the cursor, hide text or turn its
    direction.
    """
    if text.isascii() and text.isprintable():
        return text
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join("?" if unicodedata.category(c) in _CONTROL_CATEGORIES else c for c in text)


def hide_credentials(text: str) -> str:
    """Return text without the users and passwords of the addresses in it."""
    return _CREDENTIALS.sub(r"\1", text) if "@" in text else text
