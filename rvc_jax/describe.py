"""What is this? A dataset, a run, a recording, a PyTorch file: the main figures of each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rvc_jax.data import remote
from rvc_jax.errors import UserError

_TORCH_EXTENSIONS = (".pth", ".pt", ".bin", ".ckpt")


def describe(path: Path | str) -> dict[str, Any]:
    """The kind of thing (`kind`) and its figures, in plain values.

    Raises:
      UserError: if it is nothing that this program knows, or damaged.
    """
    if remote.is_remote(path):
        return _remote(str(path))
    path = Path(path)
    if not os.path.exists(path):  # unlike Path.exists, also for names that are too long
        raise UserError(f"{path} does not exist")
    if path.is_dir():
        return _folder(path)
    if path.suffix.lower() in _TORCH_EXTENSIONS:
        return _torch_file(path)
    return _recording(path)


def _remote(place: str) -> dict[str, Any]:
    if remote.exists(remote.joined(place, "config.json")):
        from rvc_jax.mirror import local_run

        described = _run(local_run(place, "history.jsonl"))
        return described | {"path": place, "bytes": sum(entry.bytes for entry in remote.listing(place).values())}
    if remote.exists(remote.joined(place, "metadata.json")):
        from rvc_jax.data.dataset import read_info

        return {"kind": "dataset", "path": place, **read_info(place).to_dict()}
    raise UserError(f"{place} is neither a dataset nor a run of rvc-jax")


def _folder(path: Path) -> dict[str, Any]:
    if (path / "config.json").is_file():
        return _run(path)
    if (path / "metadata.json").is_file():
        from rvc_jax.data.dataset import read_info

        return {"kind": "dataset", "path": str(path), **read_info(path).to_dict()}
    from rvc_jax.audio.io import find_audio

    recordings = find_audio(path)
    if not recordings:
        raise UserError(f"{path} is neither a dataset nor a run of rvc-jax, and holds no recordings")
    return {"kind": "folder of recordings", "path": str(path), "files": len(recordings)}


def _run(path: Path) -> dict[str, Any]:
    from rvc_jax.runs import RunFolder
    from rvc_jax.train.outlook import evaluations, kept, kept_mel

    run = RunFolder.open(path)
    history = run.history()
    scores = {record["step"]: record["holdout/mel"] for record in evaluations(history)}
    best = kept(history)
    return {
        "kind": "run",
        "path": str(path),
        "preset": run.preset.name,
        "sample_rate": run.preset.audio.sample_rate,
        "version": run.preset.version,
        "speakers": list(run.dataset.speakers),
        "speech_minutes": run.dataset.speech_minutes,
        "content_encoder": run.dataset.content_encoder,
        "f0_method": run.dataset.f0_method,
        "steps": max((record["step"] for record in history), default=0),
        "epochs_asked_for": run.preset.train.epochs,
        "holdout_before": scores.get(0),
        "holdout_best": kept_mel(best) if best else None,
        "best_step": best["step"] if best else None,
        "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
    }


def _recording(path: Path) -> dict[str, Any]:
    import numpy as np

    from rvc_jax.audio.io import AudioError, decode

    try:
        wave, rate = decode(path)
    except AudioError as error:
        raise UserError(f"{path} is nothing that rvc-jax knows: as a recording it is {error}") from error
    return {
        "kind": "recording",
        "path": str(path),
        "seconds": wave.shape[1] / rate,
        "sample_rate": rate,
        "channels": wave.shape[0],
        "peak": float(np.abs(wave).max()),
    }


def _torch_file(path: Path) -> dict[str, Any]:
    from rvc_jax.weights import torch_file

    content = torch_file.read(path, placeholders=True)
    keys = list(map(str, content)) if isinstance(content, dict) else []
    return {"kind": "PyTorch file", "path": str(path), "bytes": path.stat().st_size, "keys": keys}
