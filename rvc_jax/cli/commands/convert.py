"""`rvc-jax convert`."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import (
    Conversion,
    Encoder,
    Flag,
    Json,
    Member,
    OptionalPlace,
    RunArgument,
    Which,
)
from rvc_jax.errors import UserError
from rvc_jax.formatting import format_duration
from rvc_jax.storage.environment import start_jax

if TYPE_CHECKING:
    from rvc_jax.config import ConvertConfig
    from rvc_jax.infer.postprocess import ConvertedAudio

_STANDARD = Path("-")
"""Standard input as the source, standard output as the result."""

_Source = Annotated[Positional[Path], tyro.conf.arg(metavar="SOURCE")]
_Out = Annotated[Positional[Path], tyro.conf.arg(metavar="OUT")]
_Format = Annotated[
    Literal["wav", "flac", "ogg", "mp3", "m4a", "aac", "opus"] | None,
    tyro.conf.arg(metavar="{wav,flac,ogg,mp3,m4a,aac,opus}", help_behavior_hint=""),
]


def convert(
    run: RunArgument,
    source: _Source,
    out: _Out,
    conversion: Conversion,
    voice: Which = "best",
    index: OptionalPlace = None,
    content_encoder: Encoder = None,
    member: Member = None,
    format: _Format = None,
    overwrite: Flag = False,
    as_json: Json = False,
) -> int:
    """Convert a recording, or all recordings in a folder, to a voice.

    Args:
        run: Folder of a run or its gs:// or s3:// URL, folder of an imported voice, or voice file
            (.pth of any RVC program, .zip, .safetensors).
        source: Recording (any format that ffmpeg reads), folder of recordings, or - for standard
            input.
        out: File to write: .wav, .flac, .ogg, .mp3, .m4a, .aac or .opus; or - for standard output.
            For a folder of recordings, a folder: existing results in it are kept, so the same
            command continues an interrupted conversion.
        voice: Which voice of a run: the best by the hold-out, or the latest.
        index: Retrieval index (.index or .npy) instead of the voice's own; "none" for no retrieval.
        format: Format of the files in a folder, or on standard output; wav by default.
        overwrite: Convert the recordings of a folder again even if their results exist.
    """
    start_jax()
    place: dict[str, Any] = {
        "which": voice,
        "index": index,
        "content_encoder": content_encoder,
        "member": member,
    }
    if source != _STANDARD and source.is_dir():
        if out == _STANDARD:
            raise UserError(
                f"{source} is a folder: name a folder to write, not standard output"
            )
        return _convert_folder(
            run, source, out, conversion, place, format or "wav", overwrite, as_json
        )
    if overwrite:
        raise UserError("--overwrite is for folders; a single file is always written")
    if format and out != _STANDARD and out.suffix.lower() != f".{format}":
        raise UserError(f"--format {format} contradicts {out}, whose ending names the format")
    from rvc_jax.infer.files import convert_file

    with (
        _named_output(out, format or "wav") as target,
        _named_input(source) as recording,
        Display() as display,
    ):
        converted = convert_file(run, recording, target, conversion, reporter=display, **place)
    with contextlib.redirect_stdout(sys.stderr if out == _STANDARD else sys.stdout):
        _show(out, converted, as_json)
    return 0


@contextlib.contextmanager
def _named_input(source: Path) -> Iterator[Path]:
    """Yield a file to read the source from: standard input is copied to one."""
    from rvc_jax.storage.scratch import temporary_folder

    if source != _STANDARD:
        yield source
        return
    if sys.stdin.isatty():
        raise UserError("standard input is the terminal: send it a recording")
    with temporary_folder() as folder:
        copy = Path(folder) / "sound"
        with copy.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        with _rename_in_errors(copy, "standard input"):
            yield copy


@contextlib.contextmanager
def _named_output(out: Path, format: str) -> Iterator[Path]:
    """Yield a file to write: for standard output, one that is sent there when it is complete.

    The header of a sound file states its length, so that it can't be sent while it is written.
    """
    from rvc_jax.storage.scratch import temporary_folder

    if out != _STANDARD:
        yield out
        return
    if sys.stdout.isatty():
        raise UserError(
            "sound would be written to the terminal: send standard output to a file or a program"
        )
    with temporary_folder() as folder:
        target = Path(folder) / f"sound.{format}"
        with _rename_in_errors(target, "standard output"):
            yield target
        with target.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()


@contextlib.contextmanager
def _rename_in_errors(path: Path, name: str) -> Iterator[None]:
    """Put another name for a temporary file into the messages of errors."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(path), name)) from error


def _show(out: Path, converted: ConvertedAudio, as_json: bool) -> None:
    result = {
        "out": out,
        "seconds": converted.seconds,
        "sample_rate": converted.rate,
        "samples": converted.samples,
        "transpose": converted.transpose,
        "notes": converted.notes,
    }
    rows = [
        ("written", "to standard output" if out == _STANDARD else str(out)),
        ("length", f"{converted.seconds:.1f} s at {converted.rate} Hz"),
        ("transposed", f"{converted.transpose:+g} semitones"),
        *(("note", note) for note in converted.notes),
    ]
    print_result(result, rows, as_json)


def _convert_folder(
    run: str,
    source: Path,
    out: Path,
    conversion: ConvertConfig,
    place: dict[str, Any],
    format: str,
    overwrite: bool,
    as_json: bool,
) -> int:
    """Convert all recordings of a folder; return 1 if some of them failed.

    place: What `convert_folder` takes about the voice.
    """
    from rvc_jax.infer.files import convert_folder

    with Display() as display:
        result = convert_folder(
            run,
            source,
            out,
            conversion,
            extension=f".{format}",
            overwrite=overwrite,
            reporter=display,
            **place,
        )
    total = len(result.converted) + len(result.present) + len(result.failed)
    length = format_duration(result.seconds)
    rows = [
        ("folder", str(out)),
        ("converted", f"{len(result.converted)} of {total} recordings, {length}"),
    ]
    if result.present:
        rows.append(("there before", f"{len(result.present)}; --overwrite converts them again"))
    rows += [("failed", reason) for _, reason in result.failed]
    rows += [("note", f"{source / name}: {note}") for name, note in result.notes]
    summary = {
        "out": out,
        "seconds": result.seconds,
        "converted": len(result.converted),
        "present": len(result.present),
        "failed": [
            {"source": source / name, "reason": reason} for name, reason in result.failed
        ],
        "notes": [{"source": source / name, "note": note} for name, note in result.notes],
    }
    print_result(summary, rows, as_json)
    return 1 if result.failed else 0
