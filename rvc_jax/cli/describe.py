"""What is this? A dataset, a run, a voice, an index, a recording, a PyTorch file: the main figures
of each."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from rvc_jax.errors import UserError
from rvc_jax.storage import places

_VOICE_EXTENSIONS = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
_NOT_FACTS = ("kind", "name", "epoch", "step")


def describe(path: Path | str) -> dict[str, Any]:
    """The kind of thing (`kind`) and its figures, in plain values.

    Raises:
      UserError: if it is nothing that this program knows, or damaged.
    """
    if places.is_remote(path):
        return _remote(str(path))
    path = Path(path)
    if not os.path.exists(path):  # unlike Path.exists, also for names that are too long
        raise UserError(f"{path} does not exist")
    if path.is_dir():
        return _folder(path)
    extension = path.suffix.lower()
    if extension in _VOICE_EXTENSIONS:
        return _voice_or_other(path)
    if extension == ".zip":
        return _opened(path)
    return _index(path) if extension == ".index" else _recording(path)


def _remote(place: str) -> dict[str, Any]:
    if places.exists(places.join(place, "config.json")):
        from rvc_jax.runs.mirror import fetch_run

        described = _run(fetch_run(place, "history.jsonl"))
        return described | {
            "path": place,
            "bytes": sum(entry.bytes for entry in places.list_versions(place).values()),
        }
    if places.exists(places.join(place, "metadata.json")):
        from rvc_jax.data.dataset import read_info

        return {"kind": "dataset", "path": place, **read_info(place).to_dict()}
    raise UserError(f"{place} is neither a dataset nor a run of rvc-jax")


def _folder(path: Path) -> dict[str, Any]:
    if (path / "config.json").is_file():
        return _run(path)
    if (path / "metadata.json").is_file():
        from rvc_jax.data.dataset import read_info

        return {"kind": "dataset", "path": str(path), **read_info(path).to_dict()}
    from rvc_jax.audio.reading import find_audio
    from rvc_jax.voices.formats.native import is_voice_folder, read_description
    from rvc_jax.voices.open import find_voices

    if is_voice_folder(path):
        return _opened(path) | {"made_of": read_description(path).get("made_of")}
    recordings = find_audio(path)
    voices = find_voices(path)
    if voices and not recordings:
        return {
            "kind": "folder of voices",
            "path": str(path),
            "files": [voice.name for voice in voices],
        }
    if not recordings:
        raise UserError(
            f"{path} is neither a dataset nor a run of rvc-jax, and holds no recordings"
        )
    return {"kind": "folder of recordings", "path": str(path), "files": len(recordings)}


def _run(path: Path) -> dict[str, Any]:
    from rvc_jax.runs.folder import RunFolder
    from rvc_jax.runs.history import best_evaluation, best_mel, evaluations

    run = RunFolder.open(path)
    history = run.history()
    scores = {record["step"]: record["holdout/mel"] for record in evaluations(history)}
    best = best_evaluation(history)
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
        "holdout_best": best_mel(best) if best else None,
        "best_step": best["step"] if best else None,
        "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
    }


def _recording(path: Path) -> dict[str, Any]:
    import numpy as np

    from rvc_jax.audio.reading import AudioError, decode
    from rvc_jax.voices.formats.sniff import sniff_head

    try:
        wave, rate = decode(path)
    except AudioError as error:
        if (kind := sniff_head(path)) and kind.name != "a recording":
            raise UserError(f"{path} is {kind.name}; {kind.advice}") from error
        raise UserError(
            f"{path} is nothing that rvc-jax knows: as a recording it is {error}"
        ) from error
    return {
        "kind": "recording",
        "path": str(path),
        "seconds": wave.shape[1] / rate,
        "sample_rate": rate,
        "channels": wave.shape[0],
        "peak": float(np.abs(wave).max()),
    }


def _opened(path: Path) -> dict[str, Any]:
    """A voice's file or folder, with its index."""
    from rvc_jax.storage.files import file_sha256, folder_bytes
    from rvc_jax.voices.open import open_voice

    model = open_voice(path)
    return {
        "path": str(path),
        **model.summary(),
        "vocoder": model.facts.get("vocoder", "HiFi-GAN"),
        "index": model.index_name,
        "index_rows": 0 if model.index is None else len(model.index),
        "bytes": folder_bytes(path),
        "sha256": file_sha256(path) if path.is_file() else None,
        "generator": dataclasses.asdict(model.generator),
        "facts": {name: value for name, value in model.facts.items() if name not in _NOT_FACTS},
    }


def _voice_or_other(path: Path) -> dict[str, Any]:
    """A voice, or a file of tensors that is something else, and why it is no voice."""
    try:
        return _opened(path)
    except UserError as error:
        reason = str(error)
    from rvc_jax.voices.formats.sniff import sniff_names
    from rvc_jax.weights import safetensors_file, torch_file

    is_torch = path.suffix.lower() != ".safetensors"
    content = (
        torch_file.read(path, placeholders=True) if is_torch else safetensors_file.read(path)
    )
    content = content if isinstance(content, dict) else {}
    known = sniff_names(torch_file.find_state_dict(content))
    kind = known.name if known else "PyTorch file" if is_torch else "safetensors file"
    keys = list(map(str, content))
    return {
        "kind": kind,
        "path": str(path),
        "bytes": path.stat().st_size,
        "keys": keys,
        "no_voice": reason,
    }


def _index(path: Path) -> dict[str, Any]:
    from rvc_jax.voices.formats import faiss_index

    rows = faiss_index.read(path)
    version = {256: "v1", 768: "v2"}.get(rows.shape[1])
    return {
        "kind": "retrieval index",
        "path": str(path),
        "rows": len(rows),
        "channels": rows.shape[1],
        "for_voices_of": version,
        "bytes": path.stat().st_size,
    }
