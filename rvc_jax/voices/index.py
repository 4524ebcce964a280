"""The retrieval index of a voice: finds it beside the voice's file, and reads any program's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rvc_jax.errors import UserError
from rvc_jax.storage.arrays import read_npy
from rvc_jax.storage.json_files import parse_json
from rvc_jax.storage.plain_files import read_plain
from rvc_jax.voices.choice import (
    FEATURES,
    Candidate,
    choose_index,
    find_core,
    is_checkpoint,
    is_trained_alone,
)
from rvc_jax.voices.formats import faiss_index
from rvc_jax.voices.names import VOICE_EXTENSIONS

NO_INDEX = "none"
"""What a user writes for no index, where the one beside the voice would be taken."""

_SLOT = "params.json"
_SLOT_BYTES = 1_000_000


class FoundIndex(NamedTuple):
    """What the search for a voice's index came to."""

    path: Path | None
    note: str
    """What was chosen among several, or why there is none; empty if that is clear."""


def find_index(voice: Path, version: str = "") -> FoundIndex:
    """Find the index of a voice's file, in the layouts that RVC's programs leave.

    The slot of w-okada's client names it. Otherwise it is in the voice's folder, or where RVC keeps
    it: `logs/NAME` and `assets/indices` beside `weights` or `assets/weights`. `choice.choose_index`
    compares the names. RVC's array of all features (total_fea.npy) is as good as an index.

    version: "v1" or "v2" if it is known.
    """
    named = _read_slot(voice)
    if named is not None:
        return FoundIndex(named, "")
    files = _list_files(voice.parent)
    if is_checkpoint(voice.name):  # it has the name of its folder
        folder = voice.absolute().parent
        voice = folder / f"{folder.name}{voice.suffix}"
    voices = [path for path in files if path.suffix.lower() in VOICE_EXTENSIONS]
    chosen, reason = choose_index(voice, voices, _to_candidates(files), version)
    if chosen is None:
        core = find_core(voice.stem)
        elsewhere = [
            path
            for folder in _index_folders(voice.parent, core)
            for path in _list_files(folder)
        ]
        chosen, other = choose_index(
            voice, [voice, Path("another voice")], _to_candidates(elsewhere), version
        )
        if chosen is not None:
            reason = other or f"took the index {chosen.path}"
    if chosen is not None:
        return FoundIndex(Path(chosen.path), reason)
    found = f"found {reason}" if reason else "found none"
    return FoundIndex(
        None,
        f"no index taken: looked for an .index with {find_core(voice.stem)!r} in its name beside "
        f"the voice and in logs, {found}; --index FILE names one, or {NO_INDEX!r}",
    )


def _index_folders(folder: Path, core: str) -> list[Path]:
    """Folders in which RVC keeps the index of a voice that is in its folder of weights."""
    if folder.name.lower() != "weights":
        return []
    root = folder.parent.parent if folder.parent.name.lower() == "assets" else folder.parent
    logs = [each for each in _list_folders(root / "logs") if find_core(each.name) == core]
    return [*logs, root / "logs", root / "assets" / "indices", root / "indices"]


def _to_candidates(files: Iterable[Path]) -> list[Candidate]:
    indexes = [path for path in files if path.suffix.lower() == ".index"]
    usable = [path for path in indexes if not is_trained_alone(path.name)]
    if not usable:
        indexes += [path for path in files if path.name.lower() == FEATURES]
    found = []
    for path in indexes:
        with contextlib.suppress(OSError):
            found.append(Candidate(path, path.stat().st_mtime))
    return found


def _read_slot(voice: Path) -> Path | None:
    """The index that a slot of w-okada's client or one of its forks names for its voice."""
    place = voice.parent / _SLOT
    try:
        slot = parse_json(read_plain(place, _SLOT_BYTES))
        names = (slot["modelFile"], slot["indexFile"])
        # Only names count: an index is taken from the slot's own folder.
        model, index = (re.split(r"[\\/]", name)[-1] for name in names)
    except (OSError, UserError, ValueError, RecursionError, TypeError, KeyError):
        return None
    is_own = Path(model).stem == voice.stem and index
    path = voice.parent / index
    return path if is_own and path.is_file() else None


def _list_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:  # a folder that is not there, or may be entered but not listed
        return []


def _list_folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def read_index(path: str | Path, channels: int) -> np.ndarray:
    """Read content features [rows, channels] from a faiss `.index` (float32) or a `.npy` of floats.

    Args:
      channels: Channels of the voice's content features.

    Raises:
      UserError: The file is missing, damaged or something else, or its features have another width.
    """
    path = Path(path)
    rows = _read_array(path) if path.suffix.lower() == ".npy" else faiss_index.read(path)
    if rows.shape[1] != channels:
        raise UserError(
            f"{path} is an index of features with {rows.shape[1]} channels, the voice's have "
            f"{channels}: it belongs to another voice (256 are of v1, 768 of v2); name its own "
            f"with --index, or none with --index {NO_INDEX}"
        )
    return rows


def _read_array(path: Path) -> np.ndarray:
    try:
        rows = read_npy(path)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    if rows.ndim != 2 or rows.dtype.kind != "f" or not rows.size:
        raise UserError(
            f"{path} is not an index: it is not an array of numbers [rows, channels]"
        )
    if not np.isfinite(rows).all():
        raise UserError(f"{path} is a broken index: some of its numbers are not finite")
    return rows
