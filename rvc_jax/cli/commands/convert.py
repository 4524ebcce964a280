"""`rvc-jax convert`."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import Json, OptionalPlace, Out, Run, Source, Which
from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.formatting import format_duration
from rvc_jax.storage.environment import start_jax

_STANDARD = Path("-")
Format = Annotated[
    Literal["wav", "flac", "ogg", "mp3", "m4a", "aac", "opus"] | None,
    tyro.conf.arg(help_behavior_hint=""),
]


def convert(
    run: Run,
    source: Source,
    out: Out,
    conversion: ConvertConfig,
    voice: Which = "best",
    index: OptionalPlace = None,
    format: Format = None,
    overwrite: bool = False,
    as_json: Json = False,
) -> int:
    """Speak a recording, or all recordings of a folder, in a voice.

    Args:
        run: Folder of a run, also at gs:// or s3://, or of an imported voice; or a voice's file:
            .pth of any RVC tool, .zip, .safetensors.
        source: Recording (any format that libsndfile or ffmpeg reads), a folder of them, or - for
            standard input.
        out: File to write: .wav, .flac, .ogg, .mp3, .m4a, .aac or .opus; for a folder of recordings
            a folder, in which results that are there already are kept, so that the same command
            continues; - for standard output.
        voice: The best voice of a run by the hold-out, or the latest.
        index: Retrieval index in the place of the voice's own (.index or .npy); "none" takes none.
        format: What to write in a folder or to standard output; wav if not given.
        overwrite: Convert a folder's recordings again although their results are there.
    """
    start_jax()
    chosen = {"run": run, "config": conversion, "which": voice, "index": index}
    if source != _STANDARD and source.is_dir():
        return _folder(chosen, source, out, format, overwrite, as_json)
    if overwrite:
        raise UserError("--overwrite is for folders; a single file is always written")
    if out == _STANDARD:
        return _to_standard_output(chosen, source, format, as_json)
    if format and out.suffix.lower() != f".{format}":
        raise UserError(f"--format {format} contradicts {out}, whose ending names the format")
    converted = _file(chosen, source, out)
    _show(out, converted, as_json)
    return 0


def _file(chosen: dict[str, Any], source: Path, out: Path) -> Any:
    """One file to one file, the source being standard input perhaps."""
    from rvc_jax.infer.files import convert_file

    with Display() as display, contextlib.ExitStack() as stack:
        if source != _STANDARD:
            return convert_file(source=source, out=out, progress=display.convert, **chosen)
        if sys.stdin.isatty():
            raise UserError("standard input is the terminal: send it a recording")
        read = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "sound"
        with read.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            return convert_file(source=read, out=out, progress=display.convert, **chosen)
        except UserError as error:
            raise UserError(str(error).replace(str(read), "standard input")) from error


def _to_standard_output(
    chosen: dict[str, Any], source: Path, format: str | None, as_json: bool
) -> int:
    """Sound to standard output, everything else to standard error. A header knows the length: the
    file comes whole."""
    if sys.stdout.isatty():
        raise UserError(
            "sound would be written to the terminal: send standard output to a file or a program"
        )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"sound.{format or 'wav'}"
        try:
            converted = _file(chosen, source, out)
        except UserError as error:
            raise UserError(str(error).replace(str(out), "standard output")) from error
        with out.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    with contextlib.redirect_stdout(sys.stderr):
        _show(_STANDARD, converted, as_json)
    return 0


def _show(out: Path, converted: Any, as_json: bool) -> None:
    seconds = converted.samples / converted.rate
    result = {
        "out": out,
        "seconds": seconds,
        "sample_rate": converted.rate,
        "samples": converted.samples,
        "transpose": converted.transpose,
    }
    rows = [
        ("written", "to standard output" if out == _STANDARD else str(out)),
        ("length", f"{seconds:.1f} s at {converted.rate} Hz"),
        ("transposed", f"{converted.transpose:+g} semitones"),
    ]
    print_result(result, rows, as_json)


def _folder(
    chosen: dict[str, Any],
    source: Path,
    out: Path,
    format: str | None,
    overwrite: bool,
    as_json: bool,
) -> int:
    """All recordings of a folder; 1 if some of them failed."""
    from rvc_jax.infer.folder import convert_folder

    if out == _STANDARD:
        raise UserError(f"{source} is a folder: name a folder to write, not standard output")
    with Display() as display:

        def progress(done: float, total: int, name: Path) -> None:
            display.update(
                "converting", done, total, f"{min(int(done) + 1, total)}/{total} {name}"
            )

        ending = f".{format or 'wav'}"
        result = convert_folder(
            source=source,
            out=out,
            ending=ending,
            overwrite=overwrite,
            progress=progress,
            **chosen,
        )
    total = len(result.converted) + len(result.present) + len(result.failed)
    rows = [
        ("folder", str(out)),
        (
            "converted",
            f"{len(result.converted)} of {total} recordings, {format_duration(result.seconds)}",
        ),
        *(
            [("there before", f"{len(result.present)}; --overwrite converts them again")]
            if result.present
            else []
        ),
        *(("failed", reason) for _, reason in result.failed),
    ]
    failed = [{"source": source / name, "reason": reason} for name, reason in result.failed]
    counts = {
        "converted": len(result.converted),
        "present": len(result.present),
        "failed": failed,
    }
    print_result({"out": out, "seconds": result.seconds, **counts}, rows, as_json)
    return 1 if result.failed else 0
