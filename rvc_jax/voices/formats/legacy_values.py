"""Converts values from other programs' files to plain ones, without their classes."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from rvc_jax.errors import sanitize
from rvc_jax.weights.torch_file import Opaque

_HARMLESS = (
    "builtins.getattr",
    "builtins.int",
    "builtins.str",
    "builtins.float",
    "builtins.bool",
    "builtins.dict",
    "builtins.list",
    "builtins.tuple",
    "builtins.object",
    "copyreg._reconstructor",
    "argparse.Namespace",
    "datetime.datetime",
    "datetime.date",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath",
)
"""Names of Python's own library that settings are made of. Its other names would do something."""

_MAX_TEXT = 500
_MAX_PATH = 4096
_MAX_ITEMS = 32
_MAX_NAMES = 200
_MAX_INT = 1 << 63


def is_harmless(name: str) -> bool:
    """Whether a file may name a class or function, for `torch_file.read`. None is ever called."""
    return name in _HARMLESS or name.partition(".")[0] not in sys.stdlib_module_names


def to_plain(value: Any) -> Any:
    """Convert a value to plain types.

    A member of an enumeration becomes its value, or its name where the file has only that. NumPy's
    numbers become Python's. Anything else, and what is too long to be a setting, becomes None.
    """
    match value:
        case bool() | None:
            return value
        case int():
            return int(value) if abs(value) < _MAX_INT else None
        case float():
            return float(value) if math.isfinite(value) else None
        case str():
            return sanitize(value, _MAX_TEXT)
        case np.ndarray() if value.size == 1:
            return to_plain(value.reshape(-1)[0].item())
        case list() | tuple() if len(value) <= _MAX_ITEMS:
            # Containers of a file can be nested deeper than any stack.
            is_shallow = all(_is_flat(item) for item in value)
            return [to_plain(item) for item in value] if is_shallow else None
        case Opaque():
            return _to_member(value)
    return None


def to_text(value: Any) -> str:
    """Return a text as it is, and a member of an enumeration as its text; else an empty one."""
    if isinstance(value, str):
        return str(value) if len(value) <= _MAX_PATH else ""
    plain = to_plain(value)
    return plain if isinstance(plain, str) else ""


def extract_facts(content: Mapping[Any, Any], without: tuple[str, ...]) -> dict[str, Any]:
    """Extract the settings of a file that have plain values, by name; at most 32 of them."""
    facts = {}
    for name, value in list(content.items())[:_MAX_NAMES]:
        if name not in without:
            facts[sanitize(name, 40)] = to_plain(value)
    filled = [(name, value) for name, value in facts.items() if value not in (None, "", [])]
    return dict(filled[:_MAX_ITEMS])


def parse_sample_rate(value: Any) -> int | None:
    """Parse a sample rate in Hz: 40000, "40k", "40000" or an enumeration's HZ_40K; else None."""
    value = to_plain(value)
    if isinstance(value, str):
        found = re.search(r"(\d{1,6}) ?(k?)", value.lower())
        if not found:
            return None
        value = int(found[1]) * (1000 if found[2] else 1)
    elif isinstance(value, float):
        if not value.is_integer():
            return None
        value = int(value)
    return value if type(value) is int and 8000 <= value <= 192000 else None


def _is_flat(value: Any) -> bool:
    """Whether a value is not a container of containers."""
    is_container = isinstance(value, (list, tuple))
    return not is_container or not any(isinstance(item, (list, tuple)) for item in value)


def _to_member(record: Opaque) -> Any:
    args: tuple[Any, ...] = record.args if type(record.args) is tuple else ()
    # A member of an enumeration is stored as getattr(Class, "NAME"), or as Class(value).
    if record.name == "builtins.getattr" and len(args) == 2 and type(args[1]) is str:
        return sanitize(args[1], _MAX_TEXT)
    if record.name.endswith("multiarray.scalar"):
        return _to_number(*args) if len(args) == 2 else None
    if record.name.startswith("pathlib.") and all(type(part) is str for part in args):
        return sanitize("/".join(args), _MAX_TEXT)
    is_single = len(args) == 1 and type(args[0]) in (str, int, float, bool)
    return to_plain(args[0]) if is_single else None


def _to_number(dtype: Any, content: Any) -> Any:
    """Convert a number of NumPy, given by its type and its bytes."""
    if type(dtype) is not Opaque or type(content) is not bytes:
        return None
    if not dtype.args or type(dtype.args[0]) is not str:
        return None
    code = dtype.args[0]
    if not re.fullmatch(r"[<=|]?[iufb][1248]", code) or len(content) != int(code[-1]):
        return None
    return to_plain(np.frombuffer(content, code.lstrip("=|")).item())
