"""Our own formats of a voice: a safetensors file, and the folder that `rvc-jax import` makes.

The file holds the weights in float32 under the public names, and a description of the voice as
JSON in its header. The folder holds:

voice.json                     what the voice was made of
model.safetensors              weights and sizes, with the posterior encoder if there was one
index.npy                      content features of the training speech, float16
discriminator.safetensors      of a training checkpoint, to train further
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.config import AudioConfig, from_dict, generator_from_dict, to_dict
from rvc_jax.errors import UserError, describe_os_error
from rvc_jax.storage.files import (
    atomic_folder,
    check_disk_space,
    is_vacant,
    write_array,
    write_json,
)
from rvc_jax.storage.json_files import parse_json
from rvc_jax.storage.locks import lock_output
from rvc_jax.storage.plain_files import read_plain
from rvc_jax.version import __version__
from rvc_jax.voices.formats import pth_reader, sniff
from rvc_jax.voices.formats.infer_sizes import check_sizes
from rvc_jax.voices.model import (
    CONTENT_CHANNELS,
    VoiceModel,
    normalize_weights,
)
from rvc_jax.weights import safetensors_file

NATIVE_VOICE = "voice of rvc-jax"
METADATA_KEY = "rvc_jax_voice"
"""Key of the description among the texts in a file's header."""

FORMAT = "rvc_jax voice"
DESCRIPTION = "voice.json"
MODEL = "model.safetensors"
INDEX = "index.npy"
DISCRIMINATOR = "discriminator.safetensors"

_MAX_DESCRIPTION_BYTES = 1 << 20
_TEXTS = ("model_name", "author", "info", "embedder_model", "embedder_name", "model_hash")
"""Entries of other tools' headers that are texts, even if they look like numbers."""


# --- the file ---


def read(path: Path, preset: str | None = None) -> VoiceModel:
    """Read a voice from a safetensors file: ours, or one that another tool made of a `.pth`.

    Args:
      preset: As in `pth_reader.read`, for files of other tools.

    Raises:
      UserError: The file holds something else, or is damaged.
    """
    with sniff.voice_errors(path):
        texts = safetensors_file.metadata(path)
        weights = safetensors_file.read(path)
        if METADATA_KEY not in texts:
            content = {name: _parse_text(name, text) for name, text in texts.items()}
            kind = pth_reader.VOICE if "config" in content else pth_reader.PRETRAINED
            return pth_reader.parse_content(
                {**content, "weight": weights}, path.stem, preset, kind
            )
        return normalize_weights(_parse_description(texts[METADATA_KEY], weights))


def _parse_text(name: str, text: str) -> Any:
    """Parse an entry of another tool's header, which has texts alone: numbers, lists and so on."""
    if len(text) > _MAX_DESCRIPTION_BYTES or name in _TEXTS:
        return text
    if text in ("True", "False"):
        return text == "True"
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _parse_description(text: str, weights: dict[str, np.ndarray]) -> VoiceModel:
    damaged = "the description of the voice in its header is damaged"
    try:
        described = parse_json(text.encode())
        speakers = described["speakers"]
        model = VoiceModel(
            generator=generator_from_dict(described["generator"]),
            audio=from_dict(AudioConfig, described["audio"]),
            version=described["version"],
            weights=weights,
            content_encoder=described["content_encoder"],
            content_fingerprint=described["content_fingerprint"],
            speakers=speakers,
            content_layer=described.get("content_layer"),
            facts=described["facts"],
        )
    except (KeyError, TypeError, ValueError, RecursionError, AttributeError):
        raise ValueError(f"{damaged}, or from another version of rvc-jax") from None
    # from_dict has checked nothing: the values are any that JSON has.
    if type(speakers) is not list or not speakers:
        raise ValueError(damaged)
    texts = [model.content_encoder, *speakers]
    if model.content_fingerprint is not None:
        texts.append(model.content_fingerprint)
    if any(type(text) is not str for text in texts):
        raise ValueError(damaged)
    if model.content_layer is not None and type(model.content_layer) is not int:
        raise ValueError(damaged)
    if type(model.facts) is not dict or model.version not in list(CONTENT_CHANNELS):
        raise ValueError(damaged)
    check_sizes(model.generator, model.audio)
    return dataclasses.replace(
        model,
        speakers=tuple(speakers),
        facts={"kind": NATIVE_VOICE} | model.facts,
    )


def write(path: Path, model: VoiceModel) -> None:
    """Write a voice to a safetensors file, whole or not at all.

    Raises:
      UserError: The disk refuses.
    """
    safetensors_file.write(path, model.weights, {METADATA_KEY: json.dumps(describe(model))})


def describe(model: VoiceModel) -> dict[str, Any]:
    """Describe a voice in values that JSON has: everything but its weights and its index."""
    description = {
        "generator": to_dict(model.generator),
        "audio": to_dict(model.audio),
        "version": model.version,
        "content_encoder": model.content_encoder,
        "content_fingerprint": model.content_fingerprint,
        "content_layer": model.content_layer,
        "speakers": model.speakers,
        "facts": dict(model.facts),
    }
    return json.loads(json.dumps(description))


# --- the folder ---


def is_voice_folder(folder: Path) -> bool:
    """Whether a folder was made by `rvc-jax import`."""
    return (folder / DESCRIPTION).is_file()


def write_folder(
    folder: Path,
    model: VoiceModel,
    discriminator: Mapping[str, np.ndarray] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Write a voice with its index to a new folder, whole or not at all.

    Args:
      discriminator: Weights of the discriminator under the public names, to train further.
      origin: What the voice was made of, in plain values.

    Raises:
      UserError: Something is at `folder` already, or it can't be written.
    """
    arrays = [*model.weights.values(), *(discriminator or {}).values()]
    try:
        check_vacant(folder)
        check_disk_space(folder, sum(4 * array.size for array in arrays))
        with lock_output(folder), atomic_folder(folder) as unfinished:
            check_vacant(folder)  # again, because it was not ours before
            write(unfinished / MODEL, model)
            if model.index is not None:
                write_array(unfinished / INDEX, model.index.astype(np.float16))
            if discriminator:
                safetensors_file.write(unfinished / DISCRIMINATOR, discriminator)
            description = {
                "format": FORMAT,
                "version": __version__,
                "made_of": dict(origin or {}),
            }
            write_json(unfinished / DESCRIPTION, description)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {describe_os_error(error)}") from None


def check_vacant(folder: Path) -> None:
    """Raise UserError unless a folder can be made there: nothing is there, or an empty folder."""
    if not is_vacant(folder):
        raise UserError(f"{folder} exists already; name a new folder with --out")


def read_description(folder: Path) -> dict[str, Any]:
    """Read what a folder says its voice was made of.

    Raises:
      UserError: The folder is not a voice, or its description is damaged.
    """
    file = folder / DESCRIPTION
    try:
        description = parse_json(read_plain(file, _MAX_DESCRIPTION_BYTES))
    except FileNotFoundError:
        raise UserError(
            f"{folder} is not a voice that `rvc-jax import` made: it has no {DESCRIPTION}"
        ) from None
    except ValueError as error:
        raise UserError(f"{file} is damaged: {error}") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise UserError(
            f"{folder} is not a voice that `rvc-jax import` made: its {DESCRIPTION} is another "
            "program's"
        )
    return description
