"""The retrieval index of a voice: finds it beside the voice's file, and reads any program's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rvc_jax.errors import UserError
from rvc_jax.voices.formats import faiss_index

NO_INDEX = "none"
"""What a user writes for no index, where the one beside the voice would be taken."""


def find_index(voice: Path) -> Path | None:
    """Find the index beside a voice's file; None if there is none, or it may be another voice's.

    Candidates, best first: an index of the same name; one with the voice's name in its own, as RVC
    names them; any, if the folder has only one voice. Among several, the one named "added_..." is
    taken: RVC leaves an empty "trained_..." beside it.
    """
    try:
        files = sorted(path for path in voice.parent.iterdir() if path.is_file())
    except OSError:  # a folder that may be entered but not listed
        return None
    indexes = [path for path in files if path.suffix.lower() == ".index"]
    alike = [path for path in indexes if path.stem == voice.stem]
    containing = [path for path in indexes if f"_{voice.stem}_" in f"_{path.stem}_"]
    voices = [path for path in files if path.suffix.lower() == voice.suffix.lower()]
    only = indexes if len(voices) == 1 else []
    for candidates in (alike, containing, only):
        if len(candidates) > 1:
            candidates = [path for path in candidates if path.name.startswith("added_")]
        if len(candidates) == 1:
            return candidates[0]
    return None


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
        # Mapped: an array that claims to be larger than its file is refused.
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except Exception as error:  # a damaged file can raise anything
        raise UserError(
            f"{path} is not an index: it is not an array of NumPy, or damaged"
        ) from error
    is_array = isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.dtype.kind == "f"
    if not is_array or not len(rows):
        raise UserError(
            f"{path} is not an index: it is not an array of numbers [rows, channels]"
        )
    rows = np.array(rows)
    if not np.isfinite(rows).all():
        raise UserError(f"{path} is a broken index: some of its numbers are not finite")
    return rows
