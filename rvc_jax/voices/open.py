"""A voice and its index, from whatever a user has: a file, an archive as voices are shared, a
folder."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

import numpy as np

from rvc_jax.errors import UserError
from rvc_jax.voices.formats import native, pth_reader, sniff
from rvc_jax.voices.formats.zip_archive import extract_model
from rvc_jax.voices.index import NONE, find_index, read_index
from rvc_jax.voices.model import VoiceModel

_CHECKPOINTS = ("G_", "D_")


@dataclasses.dataclass(frozen=True)
class OpenedVoice:
    """A voice, and what belongs to it."""

    model: VoiceModel
    index: np.ndarray | None = None
    """Content features of its training speech [rows, channels]."""
    index_name: str | None = None
    """Of the file that they are from."""


def open_voice(
    path: Path,
    index: str | Path | None = None,
    preset: str | None = None,
    content_encoder: str | None = None,
) -> OpenedVoice:
    """Opens a voice that is no run: what `pth_reader.read` reads, a `.zip` with one, or a folder
    with one file of one.

    Args:
      path: of the file or folder.
      index: a faiss `.index` or `.npy` in the place of the one that is found; "none" takes none.
      preset, content_encoder: see `pth_reader.read`.

    Raises:
      UserError: there is no voice, it is damaged, or index and voice do not belong together.
    """
    if os.path.isdir(path) and not native.is_voice(path):
        path = _only_voice(path)
    if os.path.isdir(path):
        model = pth_reader.read(path / native.MODEL, preset, content_encoder)
        return _with_index(model, path / native.INDEX, index)
    if sniff.is_archive(path):
        with tempfile.TemporaryDirectory(prefix="rvc_jax-") as folder:
            files = extract_model(path, Path(folder) / "voice")
            model = pth_reader.read(files.pth, preset, content_encoder)
            return _with_index(model, files.index, index)
    return _with_index(pth_reader.read(path, preset, content_encoder), find_index(path), index)


def find_voices(folder: Path) -> list[Path]:
    """The files in a folder that are voices by their names; training checkpoints are not."""
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in pth_reader.VOICE_EXTENSIONS and path.is_file()
    ]
    return [path for path in files if not path.name.startswith(_CHECKPOINTS)]


def _only_voice(folder: Path) -> Path:
    found = find_voices(folder)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found[:3])
        raise UserError(
            f"{folder} holds {len(found)} files that may be voices ({names}, ...): name one of them"
        )
    raise UserError(f"{folder} holds no voice: neither a {native.DESCRIPTION} nor a .pth")


def _with_index(model: VoiceModel, found: Path | None, named: str | Path | None) -> OpenedVoice:
    place = Path(named) if named is not None else found
    if place is None or str(named) == NONE or (named is None and not place.is_file()):
        return OpenedVoice(model)
    return OpenedVoice(model, read_index(place, model.generator.content_channels), place.name)
