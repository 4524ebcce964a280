"""From a file to a file."""

from __future__ import annotations

import os
from pathlib import Path

from rvc_jax.audio.reading import (
    AudioError,
    EncodingOptions,
    Writer,
    check_encoding,
    decode_blocks,
)
from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.converter import Converter, Listener, RecordingError, Source
from rvc_jax.infer.options import coding
from rvc_jax.infer.postprocess import ConvertedAudio
from rvc_jax.infer.voice import Voice


def convert_file(
    run: Path | str,
    source: Path | str,
    out: Path | str,
    config: ConvertConfig,
    which: str = "best",
    progress: Listener = lambda share: None,
    index: Path | str | None = None,
) -> ConvertedAudio:
    """Speak a file in a voice and write the result, in the format that its ending names
    (`SAVE_FORMATS`).

    The memory that it takes does not depend on the file's length; what is long lies in the
    temporary folder meanwhile.

    run: folder or URL of a run, or a voice's file; which: `best` or `latest`; index: another one;
    see `Voice.load`.

    Raises:
      UserError: if any of the three is not what it must be; nothing is written then.
    """
    source = Path(source)
    out = Path(out)
    _check_output(source, out, config)
    _check_source(source)
    return convert_with(warm_converter(run, config, which, index), source, out, progress)


def warm_converter(
    run: Path | str, config: ConvertConfig, which: str = "best", index: Path | str | None = None
) -> Converter:
    """A voice, ready to convert. Raises UserError if it or a setting is not what it must be."""
    return Converter(Voice.load(run, which, index), config)


def convert_with(
    converter: Converter, source: Path, out: Path, progress: Listener = lambda share: None
) -> ConvertedAudio:
    """Speak a file in a voice that is ready, and write the result. Raises UserError as
    `convert_file` does."""
    try:
        spoken = converter.speak(Source.of_file(source), progress)
    except (AudioError, RecordingError) as error:
        raise UserError(f"{source} can't be converted: {error}") from error
    write(out, spoken, coding(converter.config))
    return spoken


def write(out: Path, spoken: ConvertedAudio, coding: EncodingOptions) -> None:
    """Write a conversion block by block. Raises UserError as `Writer` does."""
    with Writer(out, spoken.rate, spoken.channels, coding) as writer:
        for block in spoken.blocks():
            writer.write(block)


def _check_source(source: Path) -> None:
    """A wrong name is told at once, not when the voice is loaded."""
    try:
        decode_blocks(source)
    except AudioError as error:
        raise UserError(f"{source} can't be converted: {error}") from error


def _check_output(source: Path, out: Path, config: ConvertConfig) -> None:
    try:
        check_encoding(out.suffix, coding(config))
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
