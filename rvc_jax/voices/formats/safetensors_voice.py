"""A voice as a safetensors file: its weights in float32 under the public names, and its description
as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rvc_jax.config import to_dict
from rvc_jax.voices.model import VoiceModel
from rvc_jax.weights import safetensors_file

KEY = "rvc_jax_voice"
"""The text that describes the voice, among the file's."""


def write(path: Path, model: VoiceModel) -> None:
    """Writes all that `model` has. Raises UserError when the disk refuses."""
    safetensors_file.write(path, model.weights, {KEY: json.dumps(described(model))})


def described(model: VoiceModel) -> dict[str, Any]:
    """Everything but the weights, as JSON has it."""
    facts = {
        "generator": to_dict(model.generator),
        "audio": to_dict(model.audio),
        "version": model.version,
        "content_encoder": model.content_encoder,
        "content_fingerprint": model.content_fingerprint,
        "speakers": model.speakers,
        "facts": dict(model.facts),
    }
    return json.loads(json.dumps(facts))
