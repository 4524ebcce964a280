"""Names of voices that can also be names of files, on every system and in every tool."""

from __future__ import annotations

import re
from pathlib import Path

from rvc_jax.errors import UserError, sanitize
from rvc_jax.storage.file_names import shorten
from rvc_jax.storage.files import WINDOWS_RESERVED_NAME
from rvc_jax.storage.places import Location, is_remote

VOICE_EXTENSIONS = (".pth", ".safetensors", ".pt", ".ckpt")
"""Extensions of files that hold one voice."""

_MAX_NAME = 100
"""Bytes: names get extensions, and other programs put their own marks behind them."""

_CHECKPOINT = re.compile(r"[GD]_\d+.*", re.DOTALL)  # G_2333333: how RVC names checkpoints
_FORBIDDEN = re.compile(r'[\\/:*?"<>|]')


def to_usable_name(text: str) -> str:
    """Reduce a text to letters, digits, `-`, `.` and `_`, so that it can name a file anywhere."""
    text = shorten(re.sub(r"[^\w.-]+", "_", text).strip("._-"), _MAX_NAME)
    if not text or WINDOWS_RESERVED_NAME.fullmatch(text) or _CHECKPOINT.fullmatch(text):
        return f"voice_{text}"
    return text


def choose_name(own: str, otherwise: str) -> str:
    """Choose a usable name: the voice's own, unless it is empty or that of a checkpoint."""
    if not own or _CHECKPOINT.fullmatch(own):
        return to_usable_name(otherwise)
    return to_usable_name(own)


def name_of_run(place: Location) -> str:
    """Name a run after its folder."""
    last = str(place).rstrip("/") if is_remote(place) else str(Path(place).absolute())
    return to_usable_name(re.split(r"[\\/]", last)[-1])


def name_of_file(path: str | Path) -> str:
    """Name a voice after its file, or after the folder of a training checkpoint."""
    path = Path(path).absolute()
    # A checkpoint's own name says nothing; its folder is named after the experiment.
    return path.parent.name if _CHECKPOINT.fullmatch(path.stem) else path.stem


def to_stem(name: str) -> str:
    """Return the name of a voice's files, without extensions: long names are shortened."""
    return shorten(name, _MAX_NAME)


def check_name(name: str) -> None:
    """Raise UserError unless a voice's name can be that of files, on every system.

    Long ones are shortened by `to_stem`.
    """
    if (
        not name
        or name != name.strip(" .")
        or not name.isprintable()
        or _FORBIDDEN.search(name)
    ):
        raise UserError(
            f"--name {sanitize(name)!r} can't be the name of a file: use letters, digits, spaces, "
            "'-', '_' and '.'"
        )
    if _CHECKPOINT.fullmatch(name):
        raise UserError(
            f"--name {sanitize(name)!r} is how training checkpoints are called: take another"
        )
    if WINDOWS_RESERVED_NAME.fullmatch(name):
        raise UserError(f"--name {sanitize(name)!r} is reserved by Windows: take another")
