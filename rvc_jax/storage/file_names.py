"""Names of files that any system accepts, made of any text."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from rvc_jax.storage.files import WINDOWS_RESERVED_NAME

MAX_BYTES = 255
"""Bytes of a name that common file systems hold."""

STEM_BYTES = 200
"""Bytes of a name before its extension, so that extensions and temporary names find room."""

_HASH_LETTERS = 8
_FORBIDDEN = re.compile(r'[\\/:*?"<>|\0]')
_JOINERS = "\u200d\ufe0f\u20e3"


def shorten(text: str, limit: int = STEM_BYTES) -> str:
    """Return a text of at most `limit` bytes in UTF-8.

    A longer one is cut between letters, and ends in a hash of the whole text, so that two texts
    that differ behind the cut stay different.
    """
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return text
    end = f"-{hashlib.sha256(data).hexdigest()[:_HASH_LETTERS]}"
    head = data[: limit - len(end)].decode("utf-8", "ignore")
    if len(head) < len(text):  # no accent or half of an emoji is left alone
        while head and _belongs_before(text[len(head)]):
            head = head[:-1]
    return head.rstrip(_JOINERS + " .") + end


def to_file_name(stem: str, extension: str = "", otherwise: str = "file") -> str:
    """Return the name of a file, which is one on every system.

    Letters that a system or a terminal interprets become `_`. Names that Windows reserves get a `_`
    before them, and long ones are shortened.

    Args:
      stem: Any text.
      extension: Extension with its dot, kept.
      otherwise: Name for a text of which nothing is left.
    """
    text = unicodedata.normalize("NFC", stem.encode("utf-8", "replace").decode())
    text = _FORBIDDEN.sub("_", text)
    text = "".join(c if c.isprintable() or c in _JOINERS else "_" for c in text).strip(" .")
    text = shorten(text, min(STEM_BYTES, MAX_BYTES - len(extension.encode())))
    if not text:
        text = otherwise
    if WINDOWS_RESERVED_NAME.fullmatch(text + extension):
        text = f"_{text}"
    return text + extension


def _belongs_before(letter: str) -> bool:
    """Whether a letter changes the one before it."""
    return unicodedata.combining(letter) != 0 or letter in _JOINERS
