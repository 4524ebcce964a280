"""Which files the speech comes from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import rvc_jax
from rvc_jax.audio.io import AUDIO_EXTENSIONS, find_audio
from rvc_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Sources:
    """The recordings of one speaker, in the order of their names."""

    root: Path
    """The folder or file that was asked for."""
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    """Paths relative to the folder, as records and reports call the files."""
    speaker: str


def find_sources(source: Path | str) -> Sources:
    """The recordings in a folder and its sub-folders, or the one file that is named.

    In a folder, only files with an ending of `AUDIO_EXTENSIONS` count. A file that is named is taken as it is.

    Raises:
      UserError: there is nothing at that path, or no recording in the folder.
    """
    source = Path(source)
    if source.is_file():
        return Sources(source, (source,), (_printable(source.name),), _printable(source.stem))
    if not source.exists():
        raise UserError(f"{source} does not exist; give a folder with recordings, or one recording")
    paths = tuple(find_audio(source))
    if not paths:
        raise UserError(f"{source} holds no recordings; known endings are {' '.join(sorted(AUDIO_EXTENSIONS))}")
    names = tuple(_printable(path.relative_to(source).as_posix()) for path in paths)
    return Sources(source, paths, names, _printable(source.resolve().name))


def bundled_sample(part: Literal["voice", "other"]) -> Path:
    """Folder of the bundled recordings: the free voice, or the clip of another speaker.

    Raises UserError where the package was installed without them.
    """
    package = Path(rvc_jax.__file__).parent
    for folder in (package / "sample", package.parent / "data" / "sample"):  # a wheel, a checkout
        if (folder / part).is_dir():
            return folder / part
    raise UserError("the bundled sample is not installed; install rvc_jax again, or give a folder of your own")


def _printable(name: str) -> str:
    """Names that are not valid text (other systems' file names) with a question mark for every strange byte."""
    return name.encode("utf-8", "replace").decode("utf-8")
