"""Values of files that other programs wrote, as plain ones: without the classes that they were
objects of."""

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
"""Of Python's own: what settings are made of. Every other name of its library would do
something."""

_LONGEST_TEXT = 500
_MOST_ITEMS = 32
_LARGEST = 1 << 63


def is_harmless(name: str) -> bool:
    """Whether a class or function that a file names may be there, for `torch_file.read`. None is
    ever called."""
    return name in _HARMLESS or name.partition(".")[0] not in sys.stdlib_module_names


def plain(value: Any) -> Any:
    """A value in plain types: an enumeration's member as its value, or its name where only that is
    told; NumPy's numbers as Python's. None for what has no such form, and for what is too long to
    be a setting."""
    match value:
        case bool() | None:
            return value
        case int():
            return int(value) if abs(value) < _LARGEST else None
        case float():
            return float(value) if math.isfinite(value) else None
        case str():
            return sanitize(value, _LONGEST_TEXT)
        case np.ndarray() if value.size == 1:
            return plain(value.reshape(-1)[0].item())
        case list() | tuple() if len(value) <= _MOST_ITEMS:
            return (
                [plain(item) for item in value]
                if all(_is_flat(item) for item in value)
                else None
            )
        case Opaque():
            return _member(value)
    return None


def facts(content: Mapping[Any, Any], without: tuple[str, ...]) -> dict[str, Any]:
    """The settings of a file's content that have plain values, by name; the first few, of those
    that it may have."""
    found = {
        sanitize(name, 40): plain(value)
        for name, value in list(content.items())[:200]
        if name not in without
    }
    return dict(
        [(name, value) for name, value in found.items() if value not in (None, "", [])][
            :_MOST_ITEMS
        ]
    )


def parse_sample_rate(value: Any) -> int | None:
    """A sample rate in Hz, however it is spelt: 40000, "40k", "40000", an enumeration's HZ_40K;
    None if it is none."""
    value = plain(value)
    if isinstance(value, str):
        found = re.search(r"(\d{1,6}) ?(k?)", value.lower())
        value = int(found[1]) * (1000 if found[2] else 1) if found else None
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    return value if type(value) is int and 8000 <= value <= 192000 else None


def _is_flat(value: Any) -> bool:
    """Whether it is no container of containers: those of a file can be deeper than any stack."""
    return not isinstance(value, (list, tuple)) or not any(
        isinstance(item, (list, tuple)) for item in value
    )


def _member(record: Opaque) -> Any:
    args = record.args if type(record.args) is tuple else ()
    if record.name == "builtins.getattr" and len(args) == 2 and type(args[1]) is str:
        return sanitize(args[1], _LONGEST_TEXT)
    if record.name.endswith("multiarray.scalar"):
        return _number(*args) if len(args) == 2 else None
    if record.name.startswith("pathlib.") and all(type(part) is str for part in args):
        return sanitize("/".join(args), _LONGEST_TEXT)
    return (
        plain(args[0]) if len(args) == 1 and type(args[0]) in (str, int, float, bool) else None
    )


def _number(dtype: Any, content: Any) -> Any:
    """A number of NumPy, by its type and its bytes."""
    if (
        type(dtype) is not Opaque
        or type(content) is not bytes
        or not dtype.args
        or type(dtype.args[0]) is not str
    ):
        return None
    if not re.fullmatch(r"[<=|]?[iufb][1248]", dtype.args[0]) or len(content) != int(
        dtype.args[0][-1]
    ):
        return None
    return plain(np.frombuffer(content, dtype.args[0].lstrip("=|")).item())
