"""From a file to a file."""

from __future__ import annotations

import os
from pathlib import Path

from rvc_jax.audio.io import SAVE_FORMATS, AudioError, decode, save
from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.pipeline import Conversion, Converter, Listener, RecordingError
from rvc_jax.infer.voice import Voice


def convert_file(
    run: Path | str,
    source: Path | str,
    out: Path | str,
    config: ConvertConfig,
    which: str = "best",
    progress: Listener = lambda share: None,
    index: Path | str | None = None,
) -> Conversion:
    """Speak a file in a voice and write the result: wav, flac, ogg or mp3 by its ending.

    run: folder or URL of a run, or a voice's file; which: `best` or `latest`; index: another one; see `Voice.load`.

    Raises:
      UserError: if any of the three is not what it must be; nothing is written then.
    """
    source, out = Path(source), Path(out)
    _check_output(source, out)
    voice = Voice.load(run, which, index)
    try:
        wave, rate = decode(source)
        converter = Converter(voice, config)
        conversion = converter(wave, rate, progress)
    except (AudioError, RecordingError) as error:
        raise UserError(f"{source} can't be converted: {error}") from error
    save(out, conversion.wave, conversion.rate)
    return conversion


def _check_output(source: Path, out: Path) -> None:
    if out.suffix.lower() not in SAVE_FORMATS:
        ending = out.suffix or "a file without ending"
        raise UserError(f"{out}: cannot write {ending}; use {', '.join(SAVE_FORMATS)}")
    if out.is_dir():
        raise UserError(f"{out} is a folder; name a file to write")
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it first")
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"{out}: the folder {out.parent} can't be written to")
    if out.exists() and source.exists() and out.samefile(source):
        raise UserError(f"{out} is the recording itself; name another file to write")
