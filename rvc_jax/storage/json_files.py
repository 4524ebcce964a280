"""The one way to read JSON that may come from someone else: bounded, and checked by a schema.

A schema is a type: a dataclass, TypedDict, NamedTuple, or containers of plain types, with ranges
as `msgspec.Meta`. What is read has the types of its schema, or there is one line that says where
it has not. msgspec is imported on the first reading, since most commands start without one.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

from rvc_jax.errors import UserError, sanitize
from rvc_jax.storage.plain_files import SETTINGS_BYTES, read_plain

MAX_DEPTH = 64
"""Brackets within brackets that a file may have. Ours have at most six."""
MAX_ITEMS = 2_000_000
"""Values that one file may have."""

_MAX_DIGITS = 20
_T = TypeVar("_T")
# The closing quote is optional, so that a file of quotes takes linear time.
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_NO_BRACKET = re.compile(rb"[^\[\]{}]+")


def read_json(
    path: Path | str, kind: type[_T], limit: int = SETTINGS_BYTES, advice: str = ""
) -> _T:
    """Read a file of JSON.

    Args:
        path: A plain file.
        kind: The schema.
        limit: The most bytes that the file may have.
        advice: What to do about a damaged file, for the message.

    Raises:
        FileNotFoundError: Nothing is there.
        UserError: It is not a plain file, too large, no JSON, or not of the schema.
    """
    return decode_json(read_plain(path, limit), kind, path, advice)


def decode_json(content: bytes, kind: type[_T], source: object, advice: str = "") -> _T:
    """Decode JSON, and check it.

    Args:
        content: JSON in UTF-8.
        kind: The schema.
        source: Where it is from, for the message.
        advice: What to do about it, for the message.

    Raises:
        UserError: It is not JSON, or not of the schema.
    """
    try:
        return convert(parse_json(content), kind)
    except ValueError as error:
        reason = f"{sanitize(source, 400)} is damaged: {sanitize(error)}"
        raise UserError(f"{reason}; {advice}" if advice else reason) from None


def parse_json(content: bytes) -> Any:
    """Parse JSON of bounded depth and size, without a schema.

    Raises:
        ValueError: It is not JSON, or has too many brackets within brackets or values.
    """
    _check_bounds(content)
    try:
        text = content.decode("utf-8-sig")
        if "\\ud" in text.lower():  # perhaps half a character, which can't be written anywhere
            text = json.dumps(json.loads(text), ensure_ascii=False)
            text = text.encode("utf-8", "replace").decode()
        return json.loads(text, parse_int=_parse_int)
    except UnicodeDecodeError:
        raise ValueError("it is not JSON in UTF-8") from None
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None


def _parse_int(text: str) -> int:
    if len(text) > _MAX_DIGITS:  # no float, and no array's size
        raise ValueError("a number of too many digits")
    return int(text)


def convert(value: Any, kind: type | UnionType) -> Any:
    """Return a parsed value as its schema has it.

    Raises:
        ValueError: It is not of the schema; the message says where.
    """
    import msgspec

    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _check_bounds(content: bytes) -> None:
    if content.count(b",") > MAX_ITEMS:
        raise ValueError(f"it has more than {MAX_ITEMS:,} values")
    if content.count(b"[") + content.count(b"{") <= MAX_DEPTH:
        return
    brackets = _NO_BRACKET.sub(b"", _TEXT.sub(b"", content))
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError(f"it has more than {MAX_DEPTH} brackets within brackets")
