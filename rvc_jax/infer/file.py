"""From a file to a file."""

from __future__ import annotations

import os
from pathlib import Path

from rvc_jax.audio.io import SAVE_FORMATS, AudioError
from rvc_jax.audio.writing import Writer
from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.finish import Spoken
from rvc_jax.infer.pipeline import Converter, Listener, RecordingError, Source
from rvc_jax.infer.voice import Voice
from rvc_jax.mirror import WHERE, local_run
from rvc_jax.runs import RunFolder


def convert_file(
    run: Path | str,
    source: Path | str,
    out: Path | str,
    config: ConvertConfig,
    which: str = "best",
    progress: Listener = lambda share: None,
) -> Spoken:
    """Speak a file in the voice of a run and write the result: wav, flac, ogg or mp3 by its ending.

    The memory that it takes does not depend on the file's length; what is long lies in the temporary folder meanwhile.

    run: its folder, or a URL. which: `best` or `latest`.

    Raises:
      UserError: if any of the three is not what it must be; nothing is written then.
    """
    source, out = Path(source), Path(out)
    _check_output(source, out)
    folder = RunFolder.open(local_run(run, "index.npy", WHERE[which]))
    try:
        opened = Source.of_file(source)
        spoken = Converter(Voice.from_run(folder, which), config).speak(opened, progress)
    except (AudioError, RecordingError) as error:
        raise UserError(f"{source} can't be converted: {error}") from error
    write(out, spoken)
    return spoken


def write(out: Path, spoken: Spoken) -> None:
    """Write a conversion block by block. Raises UserError as `Writer` does."""
    with Writer(out, spoken.rate, spoken.channels) as writer:
        for block in spoken.blocks():
            writer.write(block)


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
