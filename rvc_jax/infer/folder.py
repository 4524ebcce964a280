"""From a folder of recordings to a folder of conversions, with one voice kept warm."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rvc_jax.audio.reading import check_encoding, find_audio
from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.files import convert_with, warm_converter
from rvc_jax.infer.options import check_options, coding

FolderListener = Callable[[float, int, Path], None]
"""Is told how many recordings are done (with a share of the present one), of how many, and which is
the present one."""

_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the next recording would fare no better


@dataclasses.dataclass(frozen=True)
class FolderResult:
    """What became of the recordings of a folder; their names are those below it."""

    converted: list[Path]
    present: list[Path]
    """Those that had been converted before."""
    failed: list[tuple[Path, str]]
    """And why."""
    seconds: float
    """Of what was converted now."""


def convert_folder(
    run: Path | str,
    source: Path,
    out: Path,
    config: ConvertConfig,
    which: str = "best",
    ending: str = ".wav",
    overwrite: bool = False,
    progress: FolderListener = lambda done, total, name: None,
    index: Path | str | None = None,
) -> FolderResult:
    """Speak all recordings of a folder and its sub-folders in a voice; `out` gets the same
    sub-folders.

    A recording whose result is there already is passed over (results are written whole or not at
    all, so that an interrupted conversion continues), unless it is to be overwritten. One that
    fails does not keep the others back.

    run, which, index: as in `convert_file`. ending: of the files to write.

    Raises:
      UserError: if the voice, the folders or a setting are not what they must be; if the disk is
          full.
    """
    check_options(config)
    check_encoding(ending, coding(config))
    if config.f0_file is not None:
        raise UserError(
            "--f0-file has the pitch of one recording: convert that one alone, not a folder"
        )
    sources = find_audio(source)
    if not sources:
        raise UserError(f"{source} has no recordings in it")
    _check_folders(source, out)
    targets = _targets(source, sources, out, ending)
    names = [path.relative_to(source) for path in sources]
    pending = [n for n, target in enumerate(targets) if overwrite or not target.exists()]
    converted = []
    failed = []
    seconds = 0.0
    converter = warm_converter(run, config, which, index) if pending else None
    for done, number in enumerate(pending):
        name = names[number]
        target = targets[number]
        progress(done, len(pending), name)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            listener = lambda share, done=done, name=name: progress(
                done + share, len(pending), name
            )
            conversion = convert_with(converter, sources[number], target, listener)
        except OSError as error:
            raise UserError(f"{target.parent} cannot be made: {error.strerror}") from error
        except UserError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _HOPELESS:
                raise
            failed.append((name, str(error)))
        else:
            converted.append(name)
            seconds += conversion.samples / conversion.rate
    present = [name for number, name in enumerate(names) if number not in set(pending)]
    return FolderResult(converted, present, failed, seconds)


def _targets(folder: Path, sources: list[Path], out: Path, ending: str) -> list[Path]:
    """Where the conversions go; recordings that differ in their ending alone keep it in their
    name."""
    names = [path.relative_to(folder) for path in sources]
    count = Counter(os.path.normcase(name.with_suffix("")).casefold() for name in names)
    targets = []
    for name in names:
        alone = count[os.path.normcase(name.with_suffix("")).casefold()] == 1
        targets.append(out / name.with_name((name.stem if alone else name.name) + ending))
    return targets


def _check_folders(source: Path, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; a folder of recordings is converted into a folder")
    if out.resolve().is_relative_to(source.resolve()):
        raise UserError(
            f"{out} lies in the folder of recordings: its files would be taken for some; name another"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be made: {error.strerror}") from error
    if not os.access(out, os.W_OK):
        raise UserError(f"{out}: the folder can't be written to")
