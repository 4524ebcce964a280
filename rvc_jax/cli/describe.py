"""Identifies files and folders: a dataset, run, voice, index, recording or PyTorch file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rvc_jax.errors import UserError, make_printable, sanitize
from rvc_jax.storage import places

_VOICE_EXTENSIONS = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
_MAX_KEYS = 32
_MAX_GROUPS = 24
_FACTS_SHOWN_ELSEWHERE = ("kind", "name", "epoch", "step")


def describe(
    path: Path | str, content_encoder: str | None = None, member: str | None = None
) -> dict[str, Any]:
    """Return what a file, folder or URL is (`kind`) and its properties, in plain values.

    Args:
      path: The file, folder or URL.
      content_encoder: Content encoder of a voice, in the place of the one that its file states.
      member: Name of the voice's file in an archive or folder that holds several.

    Raises:
      UserError: it does not exist, is damaged, or is nothing that this program reads.
    """
    if places.is_remote(path):
        return _describe_remote(str(path))
    path = Path(path)
    if not os.path.exists(path):  # noqa: PTH110 Path.exists raises for names that are too long
        raise UserError(f"{path} does not exist")
    options = {"content_encoder": content_encoder, "member": member}
    if path.is_dir():
        return _describe_folder(path, options)
    extension = path.suffix.lower()
    if extension in _VOICE_EXTENSIONS:
        return _describe_tensors(path, options)
    if extension == ".zip":
        return _describe_voice(path, options)
    if extension == ".index":
        return _describe_index(path)
    return _describe_recording(path)


def _describe_remote(place: str) -> dict[str, Any]:
    if places.exists(places.join(place, "config.json")):
        from rvc_jax.runs.mirror import fetch_run

        size = sum(entry.bytes for entry in places.list_versions(place).values())
        described = _describe_run(fetch_run(place, "history.jsonl"))
        return described | {"path": place, "bytes": size}
    if places.exists(places.join(place, "metadata.json")):
        return _describe_dataset(place)
    raise UserError(f"{place} is neither a dataset nor a run of rvc-jax")


def _describe_folder(path: Path, options: dict[str, str | None]) -> dict[str, Any]:
    if (path / "config.json").is_file():
        return _describe_run(path)
    if (path / "metadata.json").is_file():
        return _describe_dataset(str(path))
    from rvc_jax.audio.reading import search_folder
    from rvc_jax.voices.formats.native import is_voice_folder, read_description
    from rvc_jax.voices.open import find_voices

    if is_voice_folder(path):
        return _describe_voice(path, options) | {
            "made_of": read_description(path).get("made_of")
        }
    found = search_folder(path)
    recordings = found.recordings
    voices = find_voices(path)
    if recordings and options["member"] is None:
        return {
            "kind": "folder of recordings",
            "path": str(path),
            "files": len(recordings),
            "left_out": [
                make_printable(f"{other.relative_to(path)}: {reason}")
                for other, reason in found.others
            ],
        }
    if voices or options["member"] is not None:
        files = {"files": [voice.name for voice in voices]} if len(voices) > 1 else {}
        return _describe_voice(path, options) | files
    raise UserError(
        f"{path} is neither a dataset nor a run of rvc-jax, and holds no recordings"
    )


def _describe_dataset(place: str) -> dict[str, Any]:
    from rvc_jax.data.dataset import iterate, read_info

    info = read_info(place)
    described = {"kind": "dataset", "path": place, **info.to_dict()}
    try:
        record = next(iterate(place, "train"), {})
    except UserError as error:
        return described | {"notes": [*info.notes, f"its records cannot be read: {error}"]}
    return described | {"record": {name: _shape(value) for name, value in record.items()}}


def _shape(value: Any) -> str:
    if getattr(value, "ndim", 0):
        return f"{value.dtype} {list(value.shape)}"
    return f"{type(value).__name__} {value}"


def _describe_run(path: Path) -> dict[str, Any]:
    from rvc_jax.runs.folder import RunFolder
    from rvc_jax.runs.history import best_evaluation, best_mel, select_evaluations

    run = RunFolder.open(path)
    history = run.history()
    scores = {record["step"]: record["holdout/mel"] for record in select_evaluations(history)}
    best = best_evaluation(history)
    notice = run.describe_damage()
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
        "holdout_before": next(iter(scores.values()), None),
        "holdout_best": best_mel(best) if best else None,
        "best_step": best["step"] if best else None,
        "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        **({"history": notice} if notice else {}),
    }


def _describe_recording(path: Path) -> dict[str, Any]:
    import numpy as np

    from rvc_jax.audio.reading import AudioError, open_audio
    from rvc_jax.features.voice_source import open_voice
    from rvc_jax.voices.formats.sniff import sniff_head

    try:
        opened = open_audio(path)
        samples = 0
        peak = 0.0
        for block in opened.blocks:
            samples += block.shape[1]
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
        notes = opened.notes
        if opened.channels > 1 or opened.tracks > 1 or peak > 1:
            chosen = open_voice(path)
            notes = list(dict.fromkeys([*chosen.notes, *notes]))
    except AudioError as error:
        kind = sniff_head(path)
        if kind and kind.name != "a recording":
            raise UserError(f"{path} is {kind.name}; {kind.advice}") from error
        raise UserError(
            f"{path} is nothing that rvc-jax knows: as a recording it is {error}"
        ) from error
    described = {
        "kind": "recording",
        "path": str(path),
        "seconds": samples / opened.rate,
        "sample_rate": opened.rate,
        "channels": opened.channels,
        "peak": peak,
    }
    if opened.tracks > 1:
        described["tracks"] = opened.tracks
    return described | ({"notes": notes} if notes else {})


def _describe_voice(path: Path, options: dict[str, str | None]) -> dict[str, Any]:
    """Describe a voice's file or folder, with its index."""
    from rvc_jax.storage.files import file_sha256, folder_bytes
    from rvc_jax.voices.open import open_voice

    model = open_voice(
        path, content_encoder=options["content_encoder"], member=options["member"]
    )
    facts = {
        name: value for name, value in model.facts.items() if name not in _FACTS_SHOWN_ELSEWHERE
    }
    return {
        "path": str(path),
        **model.summary(),
        "vocoder": model.facts.get("vocoder", "HiFi-GAN"),
        "index": model.index_name,
        "index_rows": 0 if model.index is None else len(model.index),
        "bytes": folder_bytes(path),
        "sha256": file_sha256(path) if path.is_file() else None,
        "generator": dataclasses.asdict(model.generator),
        "facts": facts,
        "notes": list(model.notes),
    }


def _describe_tensors(path: Path, options: dict[str, str | None]) -> dict[str, Any]:
    """Describe a voice, or another file of tensors and why it is not a voice."""
    try:
        return _describe_voice(path, options)
    except UserError as error:
        reason = str(error)
    from rvc_jax.voices.formats.sniff import sniff_names
    from rvc_jax.weights import safetensors_file, torch_file

    if path.suffix.lower() == ".safetensors":
        kind = "safetensors file"
        content: Any = safetensors_file.read(path)
    else:
        kind = "PyTorch file"
        content = torch_file.read(path, placeholders=True)
    if not isinstance(content, dict):
        content = {}
    state = torch_file.find_state_dict(content)
    known = sniff_names(state)
    described: dict[str, Any] = {
        "kind": known.name if known else kind,
        "path": str(path),
        "bytes": path.stat().st_size,
    }
    counts = count_tensors(state)
    if state is not content or not counts["tensors"]:
        described["keys"] = list(map(str, content))[:_MAX_KEYS]
    if counts["tensors"]:
        described |= counts
    return described | {"no_voice": reason}


def count_tensors(state: Mapping[Any, Any]) -> dict[str, Any]:
    """Count tensors and numbers, and list the groups of tensors by the beginning of their names.

    Of each group, the number of tensors, of numbers, and the largest shape.
    """
    arrays = {str(name): each for name, each in state.items() if hasattr(each, "shape")}
    groups: dict[str, list[Any]] = {}
    for name, array in arrays.items():
        groups.setdefault(_group_of(name), []).append(array)
    shown = {
        sanitize(name, 60): _describe_group(members)
        for name, members in list(groups.items())[:_MAX_GROUPS]
    }
    if len(groups) > _MAX_GROUPS:
        shown["..."] = f"{len(groups) - _MAX_GROUPS} more groups"
    return {
        "tensors": len(arrays),
        "parameters": sum(array.size for array in arrays.values()),
        "types": sorted({str(array.dtype) for array in arrays.values()}),
        "groups": shown,
    }


def _group_of(name: str) -> str:
    """The first two parts of a tensor's name, or those before its first number."""
    parts = name.split(".")[:-1][:2]
    return ".".join(part for part in parts if not part.isdecimal()) or name


def _describe_group(members: list[Any]) -> str:
    largest = max(members, key=lambda array: array.size)
    count = f"{len(members)} tensor{'s' if len(members) > 1 else ''}"
    numbers = sum(array.size for array in members)
    return f"{count}, {numbers} numbers, up to {list(largest.shape)}"


def _describe_index(path: Path) -> dict[str, Any]:
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
