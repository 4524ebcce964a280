"""Options of a conversion as they come over HTTP: in the query of the address, as text, from
anyone."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable
from typing import Any

from rvc_jax.audio.reading import SAVE_FORMATS
from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError, sanitize
from rvc_jax.infer.options import check_output_format

FORMATS = tuple(extension[1:] for extension in SAVE_FORMATS)
"""What `format` may be; the first is the default."""

_SWITCH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_TEXTS = ("speaker_mix",)
"""Settings in free text that name no file; each is named here, so that a new one is not taken by
oversight."""

_LONGEST_TEXT = 200
_LARGEST_NUMBER = 2**31 - 1


def _without_none(kind: Any) -> Any:
    """The type without None."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        rest = [option for option in typing.get_args(kind) if option is not type(None)]
        return rest[0] if len(rest) == 1 else None
    return kind


def _options() -> dict[str, Any]:
    """Name -> type of every setting that is a number, a switch, one of several words, or harmless
    text."""
    hints = typing.get_type_hints(ConvertConfig)
    kinds = {
        field.name: _without_none(hints[field.name])
        for field in dataclasses.fields(ConvertConfig)
    }
    return {
        name: kind
        for name, kind in kinds.items()
        if kind in (int, float, bool)
        or typing.get_origin(kind) is typing.Literal
        or (kind is str and name in _TEXTS)
    }


OPTIONS = _options()
"""Name -> type of the settings of `ConvertConfig` that may be given over HTTP."""


def parse_options(query: Iterable[tuple[str, str]]) -> tuple[ConvertConfig, str]:
    """The settings and the format that a query asks for; names as on the command line or in
    `ConvertConfig`.

    Raises:
      UserError: for a name that is no option, or given twice, for a value that does not fit, and
        for a choice that the format does not have. Ranges are the converter's to check.
    """
    values: dict[str, Any] = {}
    for given, text in query:
        name = given.replace("-", "_")
        if name != "format" and name not in OPTIONS:
            raise UserError(_unknown(given))
        if name in values:
            raise UserError(f"{name} is given twice")
        values[name] = _format(text) if name == "format" else _value(name, OPTIONS[name], text)
    extension = values.pop("format", FORMATS[0])
    config = ConvertConfig(**values)
    check_output_format(f".{extension}", config)
    return config, extension


def _unknown(given: str) -> str:
    if given.replace("-", "_") in {field.name for field in dataclasses.fields(ConvertConfig)}:
        return f"{given} can't be set over HTTP"
    near = difflib.get_close_matches(given[:40], [*OPTIONS, "format"], 1)
    return f"there is no option {sanitize(given, 40)!r}" + (
        f"; did you mean {near[0]}?" if near else ""
    )


def _format(text: str) -> str:
    if text.lower() not in FORMATS:
        raise UserError(
            f"format must be one of {', '.join(FORMATS)}, not {sanitize(text, 40)!r}"
        )
    return text.lower()


def _value(name: str, kind: Any, text: str) -> Any:
    if kind is bool:
        value = _SWITCH.get(text.lower())
        wanted = "true or false"
    elif kind in (int, float):
        value = _number(kind, text)
        wanted = "a whole number" if kind is int else "a number"
    elif kind is str:
        value = text if len(text) <= _LONGEST_TEXT and text.isprintable() else None
        wanted = "a short text"
    else:
        words = typing.get_args(kind)
        value = text if text in words else None
        wanted = f"one of {', '.join(map(str, words))}"
    if value is None:
        raise UserError(f"{name} must be {wanted}, not {sanitize(text, 40)!r}")
    return value


def _number(kind: type, text: str) -> Any:
    """None for what is none, is not finite, or has more digits than anything here is counted in."""
    if len(text) > 40 or "_" in text:
        return None
    try:
        value = kind(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) <= _LARGEST_NUMBER else None
