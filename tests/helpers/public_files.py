"""Files of small voices as the tools of the RVC world write them, and as they are when they are
something else."""

from __future__ import annotations

import dataclasses
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from rvc_jax.config import PRESETS, GeneratorConfig
from rvc_jax.models.synthesizer import build_synthesizer
from rvc_jax.voices.formats.infer_sizes import to_config_list
from rvc_jax.voices.model import VoiceModel
from rvc_jax.weights import torch_writer

SMALL = {
    "inter_channels": 4,
    "hidden_channels": 8,
    "filter_channels": 8,
    "attention_layers": 1,
    "posterior_layers": 2,
    "flow_steps": 2,
    "flow_layers": 1,
    "speaker_channels": 3,
    "speakers": 3,
    "upsample_initial_channels": 32,
}
"""Every part of the networks, with as little in it as there can be."""


@dataclasses.dataclass(frozen=True)
class Call:
    """An object in a pickle: a class or function that is named there, and what it is called
    with."""

    name: str
    args: tuple = ()


@dataclasses.dataclass(frozen=True)
class Raw:
    """Instructions of a pickle that put a value onto its stack."""

    program: bytes


TUPLES_OF_TUPLES = Raw(b")" + b"".join(b"q%c0(h%ch%ct" % (i, i, i) for i in range(100)))
"""Every tuple holds the one before twice: 2^100 of them, to whoever looks at all."""


class _Pickler(torch_writer.TensorPickler):
    def encode(self, value: Any) -> bytes:
        if isinstance(value, Raw):
            return value.program
        if not isinstance(value, Call):
            return super().encode(value)
        call = self.encode(value.args) + pickle.REDUCE if value.args is not None else b""
        return torch_writer.encode_global(value.name) + call


def write(path: Path, content: Any) -> Path:
    """`torch_writer.write`, of objects as well."""
    with mock.patch.object(torch_writer, "TensorPickler", _Pickler):
        torch_writer.write(path, content)
    return path


def small_voice(
    preset: str = "40k", posterior: bool = False, seed: int = 3, **changes: Any
) -> VoiceModel:
    """A voice of a preset's upsampling and content with random weights."""
    chosen = PRESETS[preset]
    sizes: GeneratorConfig = dataclasses.replace(chosen.generator, **(SMALL | changes))
    network = build_synthesizer(sizes, chosen.audio, posterior=posterior)
    weights = network.to_public(network.init(seed))
    return VoiceModel(sizes, chosen.audio, chosen.version, weights)


def classic(model: VoiceModel, **changes: Any) -> dict[str, Any]:
    """What RVC's WebUI writes; a change to None leaves the key out."""
    half = OrderedDict(
        (name, array.astype(np.float16)) for name, array in model.weights.items()
    )
    content = {
        "weight": half,
        "config": to_config_list(model),
        "info": "120epoch",
        "sr": f"{model.audio.sample_rate // 1000}k",
        "f0": int(model.generator.has_pitch),
        "version": model.version,
    }
    return {name: value for name, value in (content | changes).items() if value is not None}


def applio(model: VoiceModel, **changes: Any) -> dict[str, Any]:
    """What Applio writes."""
    told = {
        "info": None,
        "sr": model.audio.sample_rate,
        "f0": model.generator.has_pitch,
        "epoch": 200,
        "step": 12345,
        "creation_date": "2025-05-01T10:00:00",
        "model_hash": "0" * 64,
        "dataset_length": "00:20:00",
        "model_name": "ada",
        "author": "someone",
        "embedder_model": "contentvec",
        "speakers_id": 1,
        "vocoder": "HiFi-GAN",
    }
    return classic(model, **(told | changes))


def checkpoint(model: VoiceModel, **changes: Any) -> dict[str, Any]:
    """What training writes as G_*.pth."""
    content = {
        "model": OrderedDict(model.weights),
        "iteration": 7,
        "learning_rate": 1e-4,
        "optimizer": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-4}]},
    }
    return {name: value for name, value in (content | changes).items() if value is not None}


def new_names(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weight norms as PyTorch's parametrizations name them."""
    ends = {
        ".weight_g": ".parametrizations.weight.original0",
        ".weight_v": ".parametrizations.weight.original1",
    }
    return {
        next(
            (name.removesuffix(old) + new for old, new in ends.items() if name.endswith(old)),
            name,
        ): array
        for name, array in weights.items()
    }


def folded(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weight norms multiplied out."""
    found = {
        name: array
        for name, array in weights.items()
        if not name.endswith((".weight_g", ".weight_v"))
    }
    for name, direction in weights.items():
        if name.endswith(".weight_v"):
            norm = np.sqrt(
                np.sum(direction**2, axis=tuple(range(1, direction.ndim)), keepdims=True)
            )
            found[name.removesuffix("_v")] = weights[f"{name[:-1]}g"] * direction / norm
    return found
