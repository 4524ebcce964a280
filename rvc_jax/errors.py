"""The one exception that a user's mistake raises, and how text from outside is shown."""

import unicodedata

_STEERING = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


class UserError(Exception):
    """A mistake that the user can mend: one line that says what was wrong, where, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


def sanitize(text: object, limit: int = 120) -> str:
    """Text that comes from an untrusted file, fit for one line of a terminal: at most `limit`
    characters and dots."""
    text = "".join(
        character if character.isprintable() else "?" for character in str(text)[: limit + 1]
    )
    return text if len(text) <= limit else text[:limit] + "..."


def make_printable(text: str) -> str:
    """Text from outside (names of files, words of libraries), fit for a terminal and a page.

    A question mark stands for what is no valid text, moves the cursor, hides text or turns its
    direction.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(
        "?" if unicodedata.category(character) in _STEERING else character for character in text
    )
