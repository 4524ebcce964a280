"""The base voice of a preset as a voice: what new voices start from, alone."""

from __future__ import annotations

import dataclasses

from rvc_jax.config import PRESETS, PrepareConfig, PresetName
from rvc_jax.errors import UserError
from rvc_jax.train import pretrained
from rvc_jax.voices.model import VoiceModel, normalize_weights
from rvc_jax.weights import bundled


def open_base(name: PresetName) -> VoiceModel:
    """Open the base voice that comes with the package for a preset.

    Its one speaker is the mean of those that it was trained on. It has no index, and its speaker's
    pitch is unknown.

    Raises:
      UserError: the package has no base voice for the preset, or its file is damaged.
    """
    preset = PRESETS[name]
    path = bundled.find_base(name, "generator")
    if path is None:
        raise UserError(
            f"this installation has no base voice for the preset {name}: install rvc_jax again"
        )
    model = VoiceModel(
        generator=dataclasses.replace(preset.generator, speakers=1),
        audio=preset.audio,
        version=preset.version,
        weights=pretrained.read(path),
        content_encoder=preset.content_encoder,
        facts={"name": f"base voice of {name}"},
        prepare=PrepareConfig(preset=name).resolved(),
    )
    try:
        return normalize_weights(model)
    except ValueError as error:
        raise UserError(
            f"the base voice {path} can't be used: {error}; install rvc_jax again"
        ) from None
