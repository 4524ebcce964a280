"""The retrieval index of a voice: found beside its file, and read, whichever program wrote it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rvc_jax.errors import UserError

NO_INDEX = "none"
"""Stands for no index, where one beside the voice would be taken."""


def find_index(voice: Path) -> Path | None:
    """The index that lies beside a voice's file; None if there is none, or it could be another
    voice's.

    It has the same name; or has the voice's name in its own, as RVC names them; or is alone with
    the voice. Of several the "added_" one is it: RVC leaves a "trained_" one beside it that is
    empty.
    """
    try:
        files = sorted(path for path in voice.parent.iterdir() if path.is_file())
    except OSError:  # a folder that may be entered and not listed
        return None
    indexes = [path for path in files if path.suffix.lower() == ".index"]
    alike = [path for path in indexes if path.stem == voice.stem]
    named = [path for path in indexes if f"_{voice.stem}_" in f"_{path.stem}_"]
    voices = [path for path in files if path.suffix.lower() == voice.suffix.lower()]
    for found in (alike, named, indexes if len(voices) == 1 else []):
        if len(found) > 1:
            found = [path for path in found if path.name.startswith("added_")]
        if len(found) == 1:
            return found[0]
    return None


def read_index(path: str | Path, channels: int) -> np.ndarray:
    """Content features [rows, channels], float32 of a faiss `.index`, or as they are in our `.npy`.

    channels: of the voice's content features.

    Raises:
      UserError: it is not there, is damaged or something else, or is of features of another width.
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        rows = _read_array(path)
    else:
        from rvc_jax.voices.formats import faiss_index

        rows = faiss_index.read(path)
    if rows.shape[1] != channels:
        raise UserError(
            f"{path} is an index of features with {rows.shape[1]} channels, the voice's have {channels}: it belongs to "
            f"another voice (256 are of v1, 768 of v2); name its own with --index, or none with --index {NO_INDEX}"
        )
    return rows


def _read_array(path: Path) -> np.ndarray:
    try:
        rows = np.load(
            path, mmap_mode="r", allow_pickle=False
        )  # mapped: an array larger than its file is refused
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except Exception as error:  # a damaged file can raise anything
        raise UserError(
            f"{path} is no index: it is not an array of NumPy, or damaged"
        ) from error
    if (
        not isinstance(rows, np.ndarray)
        or rows.ndim != 2
        or rows.dtype.kind != "f"
        or not len(rows)
    ):
        raise UserError(f"{path} is no index: it is not an array of numbers [rows, channels]")
    rows = np.array(rows)
    if not np.isfinite(rows).all():
        raise UserError(f"{path} is a broken index: some of its numbers are not finite")
    return rows
