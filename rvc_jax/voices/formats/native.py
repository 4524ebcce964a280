"""An imported voice: a folder with its weights, its retrieval index and, where it can be trained
on, a discriminator.

voice.json                     what it was made of
model.safetensors              weights and sizes, with the posterior encoder if it had one
index.npy                      content features of its training speech, float16
discriminator.safetensors      of a training checkpoint
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.errors import UserError
from rvc_jax.storage.files import (
    atomic_folder,
    check_disk_space,
    is_vacant,
    write_array,
    write_json,
)
from rvc_jax.version import __version__
from rvc_jax.voices.formats import pth_reader, safetensors_voice
from rvc_jax.voices.index import read_index
from rvc_jax.voices.model import VoiceModel
from rvc_jax.weights import safetensors_file

FORMAT = "rvc_jax voice"
DESCRIPTION = "voice.json"
MODEL = "model.safetensors"
INDEX = "index.npy"
DISCRIMINATOR = "discriminator.safetensors"


def is_voice(folder: Path) -> bool:
    return (folder / DESCRIPTION).is_file()


def write(
    folder: Path,
    model: VoiceModel,
    index: np.ndarray | None = None,
    discriminator: Mapping[str, np.ndarray] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Makes the folder, whole or not at all.

    index: [rows, channels]. discriminator: its weights under the public names. origin: plain values
    that tell what the voice was made of.

    Raises:
      UserError: something is at `folder` already, or it cannot be written.
    """
    try:
        check_vacant(folder)
        check_disk_space(
            folder,
            sum(
                4 * array.size
                for array in [*model.weights.values(), *(discriminator or {}).values()]
            ),
        )
        with atomic_folder(folder) as unfinished:
            safetensors_voice.write(unfinished / MODEL, model)
            if index is not None:
                write_array(unfinished / INDEX, index.astype(np.float16))
            if discriminator:
                safetensors_file.write(unfinished / DISCRIMINATOR, discriminator)
            told = {"format": FORMAT, "version": __version__, "made_of": dict(origin or {})}
            write_json(unfinished / DESCRIPTION, told)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from None


def check_vacant(folder: Path) -> None:
    """Raises UserError unless a folder can be made there: there is nothing, or an empty one."""
    if not is_vacant(folder):
        raise UserError(f"{folder} exists already; name a new folder with --out")


def read(folder: Path) -> tuple[VoiceModel, np.ndarray | None]:
    """The voice, and its index [rows, channels] if it has one. Raises UserError if it is none, or
    damaged."""
    described(folder)
    model = pth_reader.read(folder / MODEL)
    index = folder / INDEX
    return model, read_index(
        index, model.generator.content_channels
    ) if index.exists() else None


def described(folder: Path) -> dict[str, Any]:
    """What its description tells. Raises UserError if the folder is no voice, or its description
    damaged."""
    file = folder / DESCRIPTION
    try:
        if file.stat().st_size > 1 << 20:
            raise ValueError
        told = json.loads(file.read_text())
    except FileNotFoundError:
        raise UserError(
            f"{folder} is no voice that `rvc-jax import` made: it has no {DESCRIPTION}"
        ) from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{file} is damaged: it is not JSON") from None
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise UserError(
            f"{folder} is no voice that `rvc-jax import` made: its {DESCRIPTION} is another program's"
        )
    return told
