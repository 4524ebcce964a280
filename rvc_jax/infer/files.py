"""Conversion from file to file, and from a folder of recordings to a folder of results."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rvc_jax.audio.reading import AudioError, search_folder
from rvc_jax.audio.writing import EncodingOptions, Writer
from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError, describe_os_error, make_printable
from rvc_jax.infer.converter import Converter
from rvc_jax.infer.options import check_options, check_output_format, file_encoding
from rvc_jax.infer.postprocess import ConvertedAudio
from rvc_jax.infer.recording import RecordingError, Source
from rvc_jax.infer.voice import Voice
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage.file_names import MAX_BYTES, shorten
from rvc_jax.storage.files import disk_full
from rvc_jax.storage.locks import lock_output
from rvc_jax.storage.places import Location


@dataclasses.dataclass(frozen=True)
class FolderResult:
    """What became of the recordings of a folder. Names are relative to it."""

    converted: list[Path]
    """Recordings that were converted now."""
    present: list[Path]
    """Recordings whose result was there before."""
    failed: list[tuple[Path, str]]
    """Recordings that could not be converted, with the reason."""
    seconds: float
    """Length of what was converted now."""
    notes: list[tuple[Path, str]]
    """Recordings in which little or nothing was found, with what to try."""


def convert_file(
    place: Location,
    source: Path | str,
    out: Path | str,
    config: ConvertConfig,
    which: str = "best",
    reporter: Reporter = SILENT,
    index: Path | str | None = None,
    content_encoder: str | None = None,
    member: str | None = None,
) -> ConvertedAudio:
    """Convert a file and write the result in the format that its extension names.

    Memory does not grow with the length of the file: long waves are kept in the temporary folder
    meanwhile.

    Args:
      place: Folder or URL of a run, or the file or folder of a voice; see `Voice.load`.
      source: The recording, in any format that ffmpeg decodes.
      out: File to write; see `audio.writing.SAVE_FORMATS`.
      config: The options.
      which: `best` or `latest`, of a run.
      reporter: Receives progress, and what there is to say about the voice's files.
      index: Retrieval index in the place of the voice's own.
      content_encoder: Content encoder in the place of the voice's own.
      member: Name of the voice's file in an archive or folder that holds several.

    Raises:
      UserError: the voice, the recording, the output or an option can't be used. Nothing is
        written then.
    """
    source = Path(source)
    out = Path(out)
    _check_output(source, out, config)
    # The source is opened before the voice is loaded: a wrong name is reported at once.
    with _name_source(source):
        recording = _open_source(source, config)
    with lock_output(out, reporter):
        converter = load_converter(place, config, which, index, content_encoder, member)
        for note in converter.notes:
            reporter.message(note)
        with _name_source(source):
            converted = converter.convert(recording, reporter)
        for note in recording.notes:
            reporter.message(make_printable(f"{source.name}: {note}"))
        write_audio(out, converted, file_encoding(config))
    return converted


def convert_folder(
    place: Location,
    source: Path,
    out: Path,
    config: ConvertConfig,
    which: str = "best",
    extension: str = ".wav",
    overwrite: bool = False,
    reporter: Reporter = SILENT,
    index: Path | str | None = None,
    content_encoder: str | None = None,
    member: str | None = None,
) -> FolderResult:
    """Convert all recordings of a folder and its sub-folders; `out` gets the same sub-folders.

    A recording whose result is there already is skipped, unless it is to be overwritten. Results
    are written whole or not at all, so that an interrupted conversion can be continued. A recording
    that fails does not stop the others.

    Args:
      place, which, index, content_encoder, member: The voice, as for `convert_file`.
      source: Folder of recordings.
      out: Folder of results; it is made if it does not exist.
      config: The options.
      extension: Extension of the files to write.
      overwrite: Convert recordings again although their results are there.
      reporter: Receives progress, in recordings.

    Raises:
      UserError: the voice, a folder or an option can't be used, or the disk is full.
    """
    check_options(config)
    check_output_format(extension, config)
    if config.f0_file is not None:
        raise UserError(
            "--f0-file has the pitch of one recording: convert that one alone, not a folder"
        )
    found = search_folder(source)
    sources = list(found.recordings)
    others = found.describe_others()
    if not sources:
        raise UserError(f"{source} has no recordings in it" + (f": {others}" if others else ""))
    if others:
        reporter.message(others)
    _check_folders(source, out)

    targets = _choose_targets(source, sources, out, extension)
    pending = {
        path: target for path, target in targets.items() if overwrite or not target.exists()
    }
    present = [path.relative_to(source) for path in sources if path not in pending]
    converted: list[Path] = []
    failed: list[tuple[Path, str]] = []
    notes: list[tuple[Path, str]] = []
    seconds = 0.0
    if not pending:  # no voice is loaded for nothing
        return FolderResult(converted, present, failed, seconds, notes)

    converter = load_converter(place, config, which, index, content_encoder, member)
    for note in converter.notes:
        reporter.message(note)
    for done, (path, target) in enumerate(pending.items()):
        name = path.relative_to(source)
        item = _ItemReporter(reporter, done, len(pending), name)
        item.progress("converting", 0, 1)
        _make_folder(target.parent)
        try:
            # Another process may convert into the same folder.
            with lock_output(target, reporter):
                if target.exists() and not overwrite:
                    present.append(name)
                    continue
                with _name_source(path):
                    recording = _open_source(path, config)
                    result = converter.convert(recording, item)
                for note in recording.notes:
                    reporter.message(make_printable(f"{name}: {note}"))
                write_audio(target, result, file_encoding(config))
        except UserError as error:
            if _is_hopeless(error):  # the next recording would fare no better
                raise
            failed.append((name, str(error)))
        else:
            converted.append(name)
            notes += [(name, note) for note in result.notes]
            seconds += result.seconds
    return FolderResult(converted, present, failed, seconds, notes)


def _open_source(path: Path, config: ConvertConfig) -> Source:
    keeps_side = config.stereo == "keep-side"
    return Source.open(path, config.track, config.channel, keep_channels=keeps_side)


def load_converter(
    place: Location,
    config: ConvertConfig,
    which: str = "best",
    index: Path | str | None = None,
    content_encoder: str | None = None,
    member: str | None = None,
) -> Converter:
    """Load a voice, ready to convert. Raises UserError if it or an option can't be used."""
    return Voice.load(place, which, index, content_encoder, member).converter(config)


def write_audio(out: Path, converted: ConvertedAudio, encoding: EncodingOptions) -> None:
    """Write a result block by block. Raises UserError as `Writer` does."""
    with Writer(out, converted.rate, converted.channels, encoding) as writer:
        for block in converted.blocks():
            writer.write(block)


class _ItemReporter:
    """Reports the progress of one recording as that of its folder."""

    def __init__(self, reporter: Reporter, done: int, total: int, name: Path):
        self._reporter = reporter
        self._done = done
        self._total = total
        self._text = f"{done + 1}/{total} {name}"

    def message(self, text: str) -> None:
        self._reporter.message(text)

    def progress(
        self,
        stage: str,
        done: float,
        total: float | None,
        text: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        share = done / total if total else 0.0
        self._reporter.progress(stage, self._done + share, self._total, text or self._text)


@contextlib.contextmanager
def _name_source(path: Path) -> Iterator[None]:
    """Put the name of a recording before what is wrong with it."""
    try:
        yield
    except (AudioError, RecordingError) as error:
        raise UserError(f"{path} can't be converted: {error}") from error


def _is_hopeless(error: UserError) -> bool:
    """Whether the disk is full or read-only."""
    cause = error.__cause__
    is_read_only = isinstance(cause, OSError) and cause.errno == errno.EROFS
    return is_read_only or disk_full(error) is not None


def _choose_targets(
    folder: Path, sources: list[Path], out: Path, extension: str
) -> dict[Path, Path]:
    """The file to write for each recording.

    Recordings that differ in their extension alone keep it in the result's name.
    """

    def stem_of(path: Path) -> str:
        # Names that differ in case alone are one file on some systems.
        return os.path.normcase(path.with_suffix("")).casefold()

    count = Counter(stem_of(path) for path in sources)
    targets = {}
    for path in sources:
        name = path.relative_to(folder)
        is_unique = count[stem_of(path)] == 1
        stem = name.stem if is_unique else name.name
        # A new extension may be longer than the recording's own.
        stem = shorten(stem, MAX_BYTES - len(extension))
        targets[path] = out / name.with_name(stem + extension)
    return targets


def _check_output(source: Path, out: Path, config: ConvertConfig) -> None:
    try:
        check_output_format(out.suffix, config)
    except UserError as error:
        raise UserError(f"{out}: {error}") from error
    if out.is_dir():
        raise UserError(f"{out} is a folder; name a file to write")
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it first")
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"{out}: the folder {out.parent} can't be written to")
    if out.exists() and source.exists() and out.samefile(source):
        raise UserError(f"{out} is the recording itself; name another file to write")


def _check_folders(source: Path, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; a folder of recordings is converted into a folder")
    if out.resolve().is_relative_to(source.resolve()):
        raise UserError(
            f"{out} is inside the folder of recordings, and would be converted with it: name "
            "another folder"
        )
    _make_folder(out)
    if not os.access(out, os.W_OK):
        raise UserError(f"{out}: the folder can't be written to")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {describe_os_error(error)}") from error
