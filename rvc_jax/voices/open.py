"""The one opener of voices: a run, a file, an archive as voices are shared, or a folder."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from rvc_jax.errors import UserError
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.mirror import VOICE_FOLDERS, fetch_run
from rvc_jax.storage.places import Location, is_remote
from rvc_jax.storage.scratch import temporary_folder
from rvc_jax.voices.formats import native, pth_reader, sniff
from rvc_jax.voices.formats.zip_archive import extract_model
from rvc_jax.voices.index import NO_INDEX, find_index, read_index
from rvc_jax.voices.model import VoiceModel
from rvc_jax.voices.names import name_of_run

VOICE_EXTENSIONS = (".pth", ".safetensors", ".zip", ".pt", ".ckpt")
"""Extensions of files that hold voices."""

_CHECKPOINTS = ("G_", "D_")


def open_voice(
    place: Location,
    which: str = "best",
    step: int | None = None,
    index: str | Path | None = None,
    *,
    preset: str | None = None,
    content_encoder: str | None = None,
    with_checkpoint: bool = False,
) -> VoiceModel:
    """Open a voice with its retrieval index.

    Args:
      place: A run's folder or URL; a `.pth` of any RVC tool, a `.safetensors` of ours, or a `.zip`
        with a `.pth`; a folder that `rvc-jax import` made, or one that holds one voice's file.
      which: `best` or `latest`; only a run has both.
      step: The checkpoint of this step; only a run has several.
      index: A faiss `.index` or a `.npy` instead of the index that belongs to the voice, or
        "none" for no index.
      preset: Preset of a checkpoint whose weights do not determine all sizes.
      content_encoder: The encoder that a file's voice was trained with, instead of what it says.
      with_checkpoint: Fetch the newest checkpoint of a remote run as well.

    Raises:
      UserError: There is no voice, it is damaged, or the index belongs to another voice.
    """
    # os.path's functions, unlike those of Path, accept names that are too long.
    if is_remote(place) or os.path.isfile(Path(place) / "config.json"):  # noqa: PTH113
        model = _open_run(place, which, step, with_checkpoint)
        return model if index is None else _with_index(model, None, index)
    if step is not None:
        raise UserError(
            f"{place} is not a run: only a run has checkpoints to choose from by their step"
        )
    path = Path(place)
    if os.path.isdir(path):  # noqa: PTH112
        if native.is_voice_folder(path):
            model = native.read(path / native.MODEL, content_encoder)
            return _with_index(model, path / native.INDEX, index)
        path = _find_only_voice(path)
    elif not os.path.exists(path) and path.suffix.lower() not in VOICE_EXTENSIONS:  # noqa: PTH110
        raise UserError(f"there is neither a run nor a voice at {place}")
    if sniff.is_archive(path):
        with temporary_folder() as folder:
            files = extract_model(path, Path(folder) / "voice")
            model = pth_reader.read(files.pth, preset, content_encoder)
            return _with_index(model, files.index, index)
    if sniff.is_safetensors(path):
        model = native.read(path, content_encoder)
    else:
        model = pth_reader.read(path, preset, content_encoder)
    return _with_index(model, find_index(path), index)


def find_voices(folder: Path) -> list[Path]:
    """List the files in a folder that are voices by their names; training checkpoints are not."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in VOICE_EXTENSIONS
        and path.is_file()
        and not path.name.startswith(_CHECKPOINTS)
    ]


def _open_run(
    place: Location, which: str, step: int | None, with_checkpoint: bool
) -> VoiceModel:
    wanted = (VOICE_FOLDERS[which],)
    if step is not None or with_checkpoint:
        wanted = ("best", "checkpoints")
    run = RunFolder.open(fetch_run(place, "history.jsonl", "index.npy", *wanted))
    return VoiceModel.from_run(run, which, step, name_of_run(place))


def _find_only_voice(folder: Path) -> Path:
    found = find_voices(folder)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found[:3])
        raise UserError(
            f"{folder} holds {len(found)} files that may be voices ({names}, ...): name one of them"
        )
    raise UserError(
        f"{folder} holds neither a run nor a voice: it has no config.json, no "
        f"{native.DESCRIPTION} and no .pth"
    )


def _with_index(model: VoiceModel, found: Path | None, named: str | Path | None) -> VoiceModel:
    """The voice with the index that the user names, or with the one that was found."""
    if named is not None:
        path = None if str(named) == NO_INDEX else Path(named)
    else:
        path = found if found is not None and found.is_file() else None
    if path is None:
        return dataclasses.replace(model, index=None, index_name=None)
    rows = read_index(path, model.generator.content_channels)
    return dataclasses.replace(model, index=rows, index_name=path.name)
