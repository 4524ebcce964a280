"""Reads files in another process, with limited memory, which may hang or crash without harm.

`python worker.py KIND FOLDER` reads everything in a folder and prints two lines of JSON for each
entry: its name before it is touched, so that a crash has a name, and then the result.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEMORY = 3 << 30
"""Bytes of address space; an allocation beyond them raises MemoryError."""

Result = dict[str, Any]


def read_folder(kind: str, folder: Path, seconds: float = 60) -> dict[str, Result]:
    """Read every entry of a folder with the reader of a kind.

    Returns: results by name. A result has "seconds", "reason" if the entry was refused, and "crash"
      if it raised something other than UserError.

    Fails with the name of an entry that ends the process, or takes longer than `seconds`.
    """
    command = [sys.executable, __file__, kind, str(folder)]
    # Output goes to a file: C libraries would fill a pipe, whose buffer would hide the last line
    # before a crash.
    with tempfile.TemporaryFile("w+") as lines, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=lines, stderr=errors)
        try:
            name = _last_name(process, lines, seconds)
        finally:
            process.kill()
            process.wait()
        errors.seek(0)
        assert process.returncode == 0 and name is None, (
            name,
            process.returncode,
            errors.read()[-2000:],
        )
        lines.seek(0)
        parsed = [json.loads(line) for line in lines if line.startswith("{")]
    return {
        before["name"]: after for before, after in zip(parsed[::2], parsed[1::2], strict=True)
    }


def _last_name(process: subprocess.Popen, lines: Any, seconds: float) -> str | None:
    """Wait for the end; the name of the entry that the process ended in, or took too long with."""
    size = -1
    since = time.monotonic()
    while process.poll() is None and time.monotonic() - since < seconds:
        time.sleep(0.02)
        if (now := os.fstat(lines.fileno()).st_size) != size:
            size = now
            since = time.monotonic()
    lines.seek(0)
    last = [json.loads(line) for line in lines if line.startswith("{")][-1:]
    return last[0].get("name") if last else "(start)"


def main(kind: str, folder: Path) -> None:
    read = {"decode": _decoder, "models": _model_reader, "voices": _voice_reader}[kind]()
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    # Our own copy of standard output: what libraries print there must not look like ours.
    with os.fdopen(os.dup(1), "w") as out:
        for path in sorted(folder.iterdir()):
            print(json.dumps({"name": path.name}), file=out, flush=True)
            began = time.monotonic()
            result = _try_read(read, path)
            print(
                json.dumps(result | {"seconds": time.monotonic() - began}), file=out, flush=True
            )


def _try_read(read: Callable[[Path], Result], path: Path) -> Result:
    from rvc_jax.errors import UserError

    try:
        return read(path)
    except UserError as error:
        return {"reason": str(error)}
    except Exception as error:
        return {"crash": repr(error)}


def _decoder() -> Callable[[Path], Result]:
    import numpy as np

    from rvc_jax.config import PrepareConfig
    from rvc_jax.data.recording import find_slices, open_recording

    def read(path: Path) -> Result:
        """Returns "slices", the reasons of bad ones, None for good ones; and facts of the wave."""
        config = PrepareConfig(preset="nano").resolved()
        with tempfile.TemporaryDirectory() as scratch:
            recording = open_recording(path, 16000, config, Path(scratch))
            finite = bool(np.isfinite(np.asarray(recording.wave)).all())
            reasons = [reason for _, _, reason in find_slices(recording, config)]
            return {"slices": reasons, "finite": finite, "length": recording.seconds}

    return read


def _model_reader() -> Callable[[Path], Result]:
    from rvc_jax.features.content import hubert_weights
    from rvc_jax.weights import safetensors_file, torch_file

    def read(path: Path) -> Result:
        if path.is_dir():
            hubert_weights.load(str(path))
        elif path.suffix == ".safetensors":
            safetensors_file.read(path)
        else:
            torch_file.read(path, placeholders="placeholders" in path.name)
        return {}

    return read


def _voice_reader() -> Callable[[Path], Result]:
    from rvc_jax.voices.open import open_voice

    return lambda path: {"sizes": str(open_voice(path, index="none").generator)}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
