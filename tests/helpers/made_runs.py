"""Runs as training leaves them, with parameters that nobody trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from micro import MICRO

from rvc_jax.config import Preset
from rvc_jax.data.dataset import DatasetInfo
from rvc_jax.models.discriminator import Discriminator
from rvc_jax.models.parameters import Network
from rvc_jax.models.synthesizer import build_synthesizer
from rvc_jax.runs import checkpoint
from rvc_jax.runs.folder import RunFolder
from rvc_jax.voices.model import VoiceModel

ROWS = (0.3 * np.random.default_rng(0).standard_normal((60, 384))).astype(np.float16)
HISTORY = [
    {"step": 0, "holdout/mel": 2.5, "holdout/stft": 3.0, "best/which": "raw"},
    {"step": 10, "epoch": 1.0, "loss/mel": 1.5},
    {"step": 10, "holdout/mel": 1.25, "holdout/stft": 2.0, "best/which": "raw"},
    {"step": 20, "epoch": 2.0, "loss/mel": 1.25},
]


def info(encoder: str = "contentvec", **changes) -> DatasetInfo:
    facts = {
        "preset": "nano",
        "sample_rate": 16000,
        "content_encoder": encoder,
        "content_channels": 384,
        "content_fingerprint": "ab" * 32,
        "f0_method": "rmvpe",
        "speakers": ("callie",),
        "speaker_minutes": (61.5,),
        "speaker_median_f0": (190.0,),
        "files": 3,
        "source_minutes": 70.0,
        "speech_minutes": 61.5,
        "train_slices": 30,
        "holdout_slices": 3,
        "holdout_seconds": 10.0,
        "dropped": (),
        "notes": (),
        "config": {"preset": "nano"},
        "fingerprint": "cd" * 32,
        "median_f0": 190.0,
    }
    return DatasetInfo(**facts | changes)


def make_run(
    path: Path, encoder: str = "contentvec", seed: int = 1, preset: Preset = MICRO, **changes
) -> RunFolder:
    """A run of two epochs: its best voice is of step 10, its newest checkpoint of step 20."""
    run = RunFolder(path, preset, info(encoder, **changes))
    run.write()
    run.write_index(ROWS)
    generator = build_synthesizer(preset.generator, preset.audio)
    discriminator = Network(Discriminator(preset.discriminator)).init(seed)
    checkpoint.write(run.best, 10, {"generator": generator.init(seed)})
    state = {
        "generator": generator.init(seed + 10),
        "discriminator": discriminator,
        "rate": np.float32(0.5),
    }
    checkpoint.write(run.checkpoints, 20, state | {"step": np.int32(20)})
    (path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in HISTORY))
    return run


def make_model(seed: int, preset: Preset = MICRO, **changes) -> VoiceModel:
    """A voice with all its parts."""
    network = build_synthesizer(preset.generator, preset.audio)
    weights = network.to_public(network.init(seed))
    facts = {
        "name": "made",
        "epoch": 7,
        "step": 700,
        "author": "somebody",
        "dataset_length": "00:20:00",
    }
    fields = {
        "content_encoder": "contentvec",
        "content_fingerprint": "ab" * 32,
        "speakers": ("callie",),
    }
    model = VoiceModel(
        preset.generator, preset.audio, "v2", weights, facts=facts, **fields | changes
    )
    return model
