"""Text of errors, and text from outside."""

from __future__ import annotations

import errno

import pytest

from rvc_jax.errors import describe_os_error, make_printable, sanitize


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "No space left on device"),
        (OSError("odd"), "odd"),
        (ValueError("not a number"), "not a number"),
        ("a text", "a text"),
    ],
)
def test_an_error_in_words(error: object, text: str) -> None:
    assert describe_os_error(error) == text


def test_untrusted_text_is_one_short_line() -> None:
    assert sanitize("a\nb\x1b[2J") == "a?b?[2J"
    assert sanitize("x" * 120) == "x" * 120
    assert sanitize("x" * 121) == "x" * 120 + "..."
    assert sanitize(3.5, limit=2) == "3...."


def test_printable_text_keeps_what_can_be_read() -> None:
    assert make_printable("Zoë 日本 🎤") == "Zoë 日本 🎤"
    assert make_printable("a\nb\x1b[31m\u202egnp\ud800") == "a?b?[31m?gnp?"
