"""`rvc-jax index`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import Json
from rvc_jax.errors import UserError
from rvc_jax.formatting import format_bytes
from rvc_jax.storage.environment import start_jax

if TYPE_CHECKING:
    import numpy as np

_Features = Annotated[Positional[str], tyro.conf.arg(metavar="RUN|ROWS.npy|FILE.index")]
_ENDINGS = (".index", ".npy")


def index(source: _Features, out: Path, seed: int = 0, as_json: Json = False) -> int:
    """Make the index that other tools of the RVC world retrieve features from, or take the features
    out of one.

    Args:
        source: Run (also at gs:// or s3://), array of features (.npy, as RVC's total_fea.npy), or
            faiss index (.index).
        out: File to write: .index for faiss, or .npy for the features as an array.
        seed: Of the cells.
    """
    if out.suffix not in _ENDINGS or out.is_dir() or not out.absolute().parent.is_dir():
        raise UserError(
            f"{out} cannot be written: name a file that ends in .index or .npy, in a folder that exists"
        )
    start_jax()
    from rvc_jax.storage.files import write_array
    from rvc_jax.voices.formats import faiss_index
    from rvc_jax.voices.model import CONTENT_CHANNELS

    rows = _rows(source)
    begin = time.perf_counter()
    result = {
        "out": out,
        "rows": len(rows),
        "given": len(rows),
        "channels": rows.shape[1],
        "cells": None,
    }
    if out.suffix == ".npy":
        try:
            write_array(out, rows)
        except OSError as error:
            raise UserError(f"{out} cannot be written: {error.strerror or error}") from error
    else:
        with Display() as display:
            display.message(f"making an index of {len(rows)} rows of {rows.shape[1]} channels")
            written = faiss_index.write(out, rows, seed)
        result |= {"rows": written.rows, "cells": written.cells}
    result |= {"seconds": time.perf_counter() - begin, "bytes": out.stat().st_size}
    reduced = "" if result["rows"] == result["given"] else f", centres of {result['given']}"
    table = [
        ("written", f"{out} ({format_bytes(result['bytes'])})"),
        ("rows", f"{result['rows']}{reduced}"),
    ]
    table += [("channels", str(result["channels"]))]
    table += [("cells", str(result["cells"]))] if result["cells"] else []
    if result["cells"] and result["channels"] not in CONTENT_CHANNELS.values():
        table.append(
            (
                "note",
                "other tools have no features of that width: their voices take 256 (v1) or 768 (v2)",
            )
        )
    print_result(result, [*table, ("time", f"{result['seconds']:.1f} s")], as_json)
    return 0


def _rows(source: str) -> np.ndarray:
    """Features [rows, channels], whatever they lie in."""
    if source.lower().endswith(".npy"):
        return _array(Path(source))
    if source.lower().endswith(".index"):
        from rvc_jax.voices.formats import faiss_index

        return faiss_index.read(source)
    from rvc_jax.runs.folder import RunFolder
    from rvc_jax.runs.mirror import fetch_run

    rows = RunFolder.open(fetch_run(source, "index.npy")).index()
    if rows is None:
        raise UserError(
            f"the run {source} has no index.npy: train it, or give the features as .npy"
        )
    return rows


def _array(path: Path) -> np.ndarray:
    import numpy as np

    try:
        rows = np.load(
            path, mmap_mode="r", allow_pickle=False
        )  # a file shorter than it says is refused
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, TypeError, OverflowError):
        raise UserError(f"{path}: not an array of NumPy, or damaged") from None
    if (
        not isinstance(rows, np.ndarray)
        or rows.ndim != 2
        or not np.issubdtype(rows.dtype, np.floating)
    ):
        raise UserError(f"{path}: not features: an array of floats [rows, channels] is needed")
    return rows
