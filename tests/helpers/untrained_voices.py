"""Voices with random weights, which need nothing downloaded."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from rvc_jax.config import PRESETS, ConvertConfig, PrepareConfig, Preset
from rvc_jax.infer.chunking import CHUNK_FRAMES
from rvc_jax.infer.converter import Converter
from rvc_jax.infer.engine import Engine
from rvc_jax.models.synthesizer import build_synthesizer
from rvc_jax.voices.model import VoiceModel


def untrained_voice(
    preset: Preset = PRESETS["nano"], seed: int = 5, **changes: Any
) -> VoiceModel:
    """The voice of a preset before training; changes: other fields of the `VoiceModel`."""
    network = build_synthesizer(preset.generator, preset.audio)
    model = VoiceModel(
        preset.generator,
        preset.audio,
        preset.version,
        network.to_public(network.init(seed)),
        preset.content_encoder,
        prepare=PrepareConfig(preset=preset.name).resolved(),
        precision="float32",
    )
    return dataclasses.replace(model, **changes)


def with_weights(model: VoiceModel, weights: dict[str, np.ndarray]) -> VoiceModel:
    """The voice with some other arrays, by their public names."""
    return dataclasses.replace(model, weights=model.weights | weights)


def make_converter(
    model: VoiceModel,
    config: ConvertConfig | None = None,
    chunk_frames: tuple[int, ...] = CHUNK_FRAMES,
) -> Converter:
    """A converter of a voice that is in memory."""
    return Converter(Engine.from_model(model, config or ConvertConfig()), chunk_frames)
