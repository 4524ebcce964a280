"""`rvc-jax info`."""

from __future__ import annotations

from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from rvc_jax.cli.display import format_drop, print_result
from rvc_jax.cli.options import Encoder, Json, Member
from rvc_jax.config import STORED_NAMES
from rvc_jax.formatting import format_bytes


def info(
    path: Annotated[Positional[str], tyro.conf.arg(metavar="PATH")],
    content_encoder: Encoder = None,
    member: Member = None,
    as_json: Json = False,
) -> int:
    """Identify a file or folder and show what it contains: a dataset, run, voice, retrieval index,
    recording or PyTorch file.

    Args:
        path: File or folder; a run or a dataset may be a gs:// or s3:// URL.
    """
    from rvc_jax.cli.describe import describe

    description = describe(path, content_encoder, member)
    rows = [row for name, value in description.items() for row in _rows(name, value)]
    print_result(description, rows, as_json)
    return 0


def _rows(name: str, value: Any) -> list[tuple[str, str]]:
    """Return the rows of one entry of a description."""
    if name == "dropped":
        return [("dropped", format_drop(drop)) for drop in value]
    if name == "notes":
        return [("note", note) for note in value]
    if name == "groups":
        return [(group, text) for group, text in value.items()]
    if name == "record":
        return [(f"record {part}", shape) for part, shape in value.items()]
    if name == "config":
        present_names = {stored: present for present, stored in STORED_NAMES.items()}
        return [
            (f"setting {present_names.get(setting, setting)}", str(chosen))
            for setting, chosen in value.items()
        ]
    label = name.replace("_", " ")
    return [(label, format_bytes(value) if name == "bytes" else _format_value(value))]


def _format_value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_format_value(item) for item in value)
    return str(value)
