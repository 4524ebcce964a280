"""The one opener of voices: a run, a file, an archive as voices are shared, or a folder."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from rvc_jax.errors import UserError, describe_os_error
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.mirror import VOICE_FOLDERS, fetch_run
from rvc_jax.storage.places import Location, is_remote
from rvc_jax.storage.scratch import temporary_folder
from rvc_jax.voices.choice import Candidate, choose_voice, is_checkpoint
from rvc_jax.voices.encoders import with_content_encoder
from rvc_jax.voices.formats import native, pth_reader, sniff
from rvc_jax.voices.formats.zip_archive import extract_model, find_member
from rvc_jax.voices.index import NO_INDEX, find_index, read_index
from rvc_jax.voices.model import VoiceModel
from rvc_jax.voices.names import VOICE_EXTENSIONS, name_of_run

_ARCHIVE = ".zip"
_ENDINGS = (*VOICE_EXTENSIONS, _ARCHIVE)


def open_voice(
    place: Location,
    which: str = "best",
    step: int | None = None,
    index: str | Path | None = None,
    *,
    preset: str | None = None,
    content_encoder: str | None = None,
    member: str | None = None,
    with_checkpoint: bool = False,
) -> VoiceModel:
    """Open a voice with its retrieval index.

    Args:
      place: A run's folder or URL; a `.pth` of any RVC tool, a `.safetensors` of ours or of
        deiteris's fork, or a `.zip` with one of these; a folder that `rvc-jax import` made, or one
        that holds voices' files.
      which: `best` or `latest`; only a run has both.
      step: The checkpoint of this step; only a run has several.
      index: A faiss `.index` or a `.npy` instead of the index that belongs to the voice, or
        "none" for no index.
      preset: Preset of a checkpoint whose weights do not determine all sizes.
      content_encoder: The encoder that the voice was trained with, instead of what its file says.
      member: Name of the voice's file in an archive or a folder of several.
      with_checkpoint: Fetch the newest checkpoint of a remote run as well.

    Returns:
      The voice; its `notes` say what was chosen among several files, and why it has no index.

    Raises:
      UserError: There is no voice, it is damaged, or the index belongs to another voice.
    """
    # os.path's functions, unlike those of Path, accept names that are too long.
    if is_remote(place) or os.path.isfile(Path(place) / "config.json"):  # noqa: PTH113
        _refuse_member(place, member, "a run")
        model = _open_run(place, which, step, with_checkpoint)
        model = with_content_encoder(model, content_encoder)
        return model if index is None else _with_index(model, None, index)
    if step is not None:
        raise UserError(
            f"{place} is not a run: only a run has checkpoints to choose from by their step"
        )
    path = Path(place)
    note = ""
    if os.path.isdir(path):  # noqa: PTH112
        if native.is_voice_folder(path):
            _refuse_member(place, member, "an imported voice")
            model = with_content_encoder(native.read(path / native.MODEL), content_encoder)
            return _with_index(model, path / native.INDEX, index)
        path, note = _choose_in_folder(path, member)
        member = None
    elif not os.path.exists(path) and path.suffix.lower() not in _ENDINGS:  # noqa: PTH110
        raise UserError(f"there is neither a run nor a voice at {place}")
    if sniff.is_archive(path):
        with temporary_folder() as folder:
            files = extract_model(path, Path(folder) / "voice", member)
            with _rename_in_errors(files.pth, path):
                model = with_content_encoder(_read_file(files.pth, preset), content_encoder)
                model = _with_notes(model, note, *files.notes)
                return _with_index(model, files.index, index, _no_index_inside(files.index))
    _refuse_member(path, member, "one voice")
    model = with_content_encoder(_read_file(path, preset), content_encoder)
    model = _with_notes(model, note)
    found = find_index(path, model.version)
    # Our own file has its index in the folder that `import` made, if it has one.
    note = "" if model.facts.get("kind") == native.NATIVE_VOICE else found.note
    return _with_index(model, found.path, index, note)


def _read_file(path: Path, preset: str | None) -> VoiceModel:
    if sniff.is_safetensors(path):
        return native.read(path, preset)
    return pth_reader.read(path, preset)


def _refuse_member(place: Location, member: str | None, what: str) -> None:
    if member is not None:
        raise UserError(
            f"--member chooses among the voices of an archive or folder; {place} is {what}"
        )


def _with_notes(model: VoiceModel, *notes: str) -> VoiceModel:
    return dataclasses.replace(model, notes=(*model.notes, *filter(None, notes)))


def _no_index_inside(index: Path | None) -> str:
    if index is not None:
        return ""
    return f"the archive has no index of this voice; --index FILE names one, or {NO_INDEX!r}"


@contextlib.contextmanager
def _rename_in_errors(unpacked: Path, archive: Path) -> Iterator[None]:
    """Name the archive, and the file in it, where an error names what was unpacked."""
    try:
        yield
    except UserError as error:
        text = str(error).replace(str(unpacked.parent) + os.sep, f"{archive}, ")
        raise UserError(text) from error


def find_voices(folder: Path) -> list[Path]:
    """List the files in a folder that are voices by their names; training checkpoints are not."""
    return [path for path in _list_voice_files(folder) if not is_checkpoint(path.name)]


def _list_voice_files(folder: Path) -> list[Path]:
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {describe_os_error(error)}") from None
    return [path for path in files if path.suffix.lower() in _ENDINGS and path.is_file()]


def _open_run(
    place: Location, which: str, step: int | None, with_checkpoint: bool
) -> VoiceModel:
    wanted = (VOICE_FOLDERS[which],)
    if step is not None or with_checkpoint:
        wanted = ("best", "checkpoints")
    run = RunFolder.open(fetch_run(place, "history.jsonl", "index.npy", *wanted))
    return VoiceModel.from_run(run, which, step, name_of_run(place))


def _choose_in_folder(folder: Path, member: str | None) -> tuple[Path, str]:
    """The voice's file in a folder, and a sentence about the choice."""
    files = [path for path in _list_voice_files(folder) if path.stat().st_size]
    if not files:
        raise UserError(
            f"{folder} holds neither a run nor a voice: it has no config.json, no "
            f"{native.DESCRIPTION} and no .pth"
        )
    if member is not None:
        return Path(find_member(files, member)), ""
    alone = [path for path in files if path.suffix.lower() != _ARCHIVE] or files
    candidates = [Candidate(path, path.stat().st_mtime) for path in alone]
    chosen, note = choose_voice(candidates, folder.absolute().name)
    return Path(chosen.path), note


def _with_index(
    model: VoiceModel, found: Path | None, named: str | Path | None, note: str = ""
) -> VoiceModel:
    """The voice with the index that the user names, or with the one that was found.

    note: What there is to say about the one that was found, or about none.
    """
    if named is not None:
        path = None if str(named) == NO_INDEX else Path(named)
    else:
        path = found if found is not None and found.is_file() else None
        model = _with_notes(model, note)
    if path is None:
        return dataclasses.replace(model, index=None, index_name=None)
    rows = read_index(path, model.generator.content_channels)
    return dataclasses.replace(model, index=rows, index_name=path.name)
