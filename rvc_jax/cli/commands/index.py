"""`rvc-jax index`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional

from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import Encoder, Json
from rvc_jax.errors import UserError
from rvc_jax.formatting import format_bytes
from rvc_jax.storage.environment import start_jax

if TYPE_CHECKING:
    import numpy as np

_Features = Annotated[Positional[str], tyro.conf.arg(metavar="VOICE|ROWS.npy|FILE.index")]
_ENDINGS = (".index", ".npy")


def index(
    source: _Features,
    out: Path,
    seed: int = 0,
    content_encoder: Encoder = None,
    as_json: Json = False,
) -> int:
    """Make a retrieval index for other RVC programs, or extract the features from one.

    Args:
        source: Run (or its gs:// or s3:// URL) or another voice with an index, array of features
            (.npy, like RVC's total_fea.npy), or faiss index (.index).
        out: File to write: .index for a faiss index, .npy for the features as an array.
        seed: Seed of the clustering that forms the cells of the index.
    """
    if out.suffix not in _ENDINGS or out.is_dir() or not out.absolute().parent.is_dir():
        raise UserError(
            f"{out} cannot be written: name a file that ends in .index or .npy, "
            "in a folder that exists"
        )
    start_jax()
    from rvc_jax.storage.files import write_array
    from rvc_jax.storage.locks import lock_output
    from rvc_jax.voices.formats import faiss_index

    rows = _read_rows(source, content_encoder)
    began = time.perf_counter()
    written_rows = len(rows)
    cells = None
    if out.suffix == ".npy":
        with lock_output(out):
            write_array(out, rows)
    else:
        with Display() as display, lock_output(out, display):
            display.message(f"making an index of {len(rows)} rows of {rows.shape[1]} channels")
            written = faiss_index.write(out, rows, seed)
        written_rows = written.rows
        cells = written.cells
    result = {
        "out": out,
        "rows": written_rows,
        "given": len(rows),
        "channels": rows.shape[1],
        "cells": cells,
        "seconds": time.perf_counter() - began,
        "bytes": out.stat().st_size,
    }
    print_result(result, _table(result), as_json)
    return 0


def _table(result: dict[str, Any]) -> list[tuple[str, str]]:
    from rvc_jax.voices.model import CONTENT_CHANNELS

    rows = str(result["rows"])
    if result["rows"] != result["given"]:
        rows += f", centers of {result['given']}"
    table = [
        ("written", f"{result['out']} ({format_bytes(result['bytes'])})"),
        ("rows", rows),
        ("channels", str(result["channels"])),
    ]
    if result["cells"]:
        table.append(("cells", str(result["cells"])))
        if result["channels"] not in CONTENT_CHANNELS.values():
            note = (
                "other programs have no features of that width: "
                "their voices take 256 (v1) or 768 (v2)"
            )
            table.append(("note", note))
    return [*table, ("time", f"{result['seconds']:.1f} s")]


def _read_rows(source: str, content_encoder: str | None) -> np.ndarray:
    """Return the features [rows, channels] of a voice, an array file or an index."""
    from rvc_jax.storage import places

    if source.lower().endswith(".npy"):
        return _read_array(Path(source))
    if source.lower().endswith(".index"):
        from rvc_jax.voices.formats import faiss_index

        return faiss_index.read(source)
    from rvc_jax.voices.encoders import check_encoder
    from rvc_jax.voices.open import open_voice

    if places.is_remote(source) or (Path(source) / "config.json").is_file():
        rows, encoder = _read_run(source)
        check_encoder(*encoder, content_encoder)
    else:
        rows = open_voice(source, content_encoder=content_encoder).index
    if rows is None:
        raise UserError(f"{source} has no index: train it, or give the features as .npy")
    return rows


def _read_run(source: str) -> tuple[np.ndarray | None, tuple[str, str | None, Any]]:
    """Return the features of a run, and its content encoder's name, hash and version."""
    from rvc_jax.runs.folder import RunFolder
    from rvc_jax.runs.mirror import fetch_run
    from rvc_jax.runs.retrieval import read_or_make_index

    run = RunFolder.open(fetch_run(source, "index.npy"))
    dataset = run.dataset
    encoder = (dataset.content_encoder, dataset.content_fingerprint, run.preset.version)
    rows, why_none = read_or_make_index(run)
    if why_none:
        raise UserError(f"{source}: {why_none}; give the features as .npy")
    return rows, encoder


def _read_array(path: Path) -> np.ndarray:
    import numpy as np

    from rvc_jax.storage.arrays import read_npy  # imports NumPy, which `--help` does without

    try:
        rows = read_npy(path, mapped=True)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    if rows.ndim != 2 or not np.issubdtype(rows.dtype, np.floating):
        raise UserError(f"{path}: not features: an array of floats [rows, channels] is needed")
    return rows
