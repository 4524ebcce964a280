"""Options of a conversion in the query of a request: text that anyone may have written."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable
from typing import Any

from rvc_jax.audio.writing import SAVE_FORMATS
from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError, sanitize
from rvc_jax.infer.options import check_output_format

FORMATS = tuple(extension[1:] for extension in SAVE_FORMATS)
"""What `format` may be; the first is the default."""

_SWITCH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_TEXT_OPTIONS = ("speaker_mix",)
"""Options in free text that name no file. Each is listed here, so that a new one is not accepted by
oversight."""

_MAX_TEXT_LENGTH = 200
_MAX_NUMBER = 2**31 - 1


def find_options(config: type) -> dict[str, Any]:
    """The fields of a configuration that may be set over HTTP.

    They are numbers, switches, one of several words, and the text that is listed in this module: no
    option that names a file.

    Returns: type by name.
    """
    hints = typing.get_type_hints(config)
    found = {}
    for field in dataclasses.fields(config):
        kind = _without_none(hints[field.name])
        is_choice = typing.get_origin(kind) is typing.Literal
        is_text = kind is str and field.name in _TEXT_OPTIONS
        if kind in (int, float, bool) or is_choice or is_text:
            found[field.name] = kind
    return found


def _without_none(kind: Any) -> Any:
    """The type without None; None for a union of several types."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    rest = [member for member in typing.get_args(kind) if member is not type(None)]
    return rest[0] if len(rest) == 1 else None


OPTIONS = find_options(ConvertConfig)
"""Type by name of the fields of `ConvertConfig` that may be set over HTTP."""


def parse_options(query: Iterable[tuple[str, str]]) -> tuple[ConvertConfig, str]:
    """Parse the options and the output format of a query.

    Names are those of the command line or of `ConvertConfig`. Ranges are checked by the converter.

    Raises:
      UserError: an unknown option, an option that is given twice, a value of another type, or a
        choice that the format does not have.
    """
    values: dict[str, Any] = {}
    for given, text in query:
        name = given.replace("-", "_")
        if name != "format" and name not in OPTIONS:
            raise UserError(_explain_unknown(given))
        if name in values:
            raise UserError(f"{name} is given twice")
        if name == "format":
            values[name] = _parse_format(text)
        else:
            values[name] = _parse_value(name, OPTIONS[name], text)
    extension = values.pop("format", FORMATS[0])
    config = ConvertConfig(**values)
    check_output_format(f".{extension}", config)
    return config, extension


def _explain_unknown(given: str) -> str:
    if given.replace("-", "_") in {field.name for field in dataclasses.fields(ConvertConfig)}:
        return f"{given} can't be set over HTTP"
    text = f"there is no option {sanitize(given, 40)!r}"
    near = difflib.get_close_matches(given[:40], [*OPTIONS, "format"], 1)
    return f"{text}; did you mean {near[0]}?" if near else text


def _parse_format(text: str) -> str:
    if text.lower() not in FORMATS:
        raise UserError(
            f"format must be one of {', '.join(FORMATS)}, not {sanitize(text, 40)!r}"
        )
    return text.lower()


def _parse_value(name: str, kind: Any, text: str) -> Any:
    """The value of an option. kind: its type."""
    if kind is bool:
        value = _SWITCH.get(text.lower())
        wanted = "true or false"
    elif kind in (int, float):
        value = _parse_number(kind, text)
        wanted = "a whole number" if kind is int else "a number"
    elif kind is str:
        is_good = len(text) <= _MAX_TEXT_LENGTH and text.isprintable()
        value = text if is_good else None
        wanted = "a short text"
    else:
        words = typing.get_args(kind)
        value = text if text in words else None
        wanted = f"one of {', '.join(map(str, words))}"
    if value is None:
        raise UserError(f"{name} must be {wanted}, not {sanitize(text, 40)!r}")
    return value


def _parse_number(kind: type, text: str) -> Any:
    """The number, or None for other text, and for a number that is not finite or too large."""
    if len(text) > 40 or "_" in text:
        return None
    try:
        value = kind(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) <= _MAX_NUMBER else None
