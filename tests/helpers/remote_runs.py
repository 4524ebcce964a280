"""Runs at a URL, as training would leave them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from rvc_jax.runs import checkpoint
from rvc_jax.storage import places


def make_state(step: int) -> dict[str, np.ndarray]:
    return {"w": np.full((30, 40), step, np.float32)}


def save(run: Path, step: int, keep: int = 2) -> None:
    """Write a checkpoint, the voice and the history of a step, as a run would have them."""
    (run / "metrics").mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text("{}")
    with (run / "history.jsonl").open("a") as file:
        file.write(json.dumps({"step": step}) + "\n")
    (run / "metrics" / "events.1").write_bytes(bytes(step))
    for kind, number in (("best", 1), ("checkpoints", keep)):
        checkpoint.write(run / kind, step, make_state(step))
        for old in checkpoint.list_steps(run / kind)[:-number]:
            shutil.rmtree(run / kind / str(old))


def list_names(url: str) -> set[str]:
    return set(places.list_versions(url))


def read_files(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
