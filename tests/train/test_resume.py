"""Settings of a run: what is refused, and what fits itself to the dataset."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from rvc_jax.config import PRESETS, TrainConfig
from rvc_jax.data.dataset import load_dataset
from rvc_jax.errors import UserError
from rvc_jax.train.resume import check_recipe, resolve_settings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ema": 1.0}, "--ema"),
        ({"clip_norm": -1.0}, "--clip-norm"),
        ({"steps": -1}, "--steps"),
        ({"discriminator_every": 0}, "--discriminator-every"),
    ],
)
def test_impossible_settings_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_recipe(dataclasses.replace(TrainConfig(), **changes))


@pytest.mark.parametrize(
    ("preset", "part", "known"),
    [
        ("nano", "decoder", "enc_p, enc_q, flow, dec, emb_g"),
        ("nano", "dec.content_blocks", "enc_p, enc_q, flow, dec, emb_g"),
        ("small", "flow", "enc_p, dec.content_blocks, dec, emb_g"),
    ],
)
def test_unknown_parts_are_refused(
    sample_dataset: Path, tmp_path: Path, preset: str, part: str, known: str
) -> None:
    data = load_dataset(sample_dataset)
    message = f"no part of {preset} is called {part}; the parts are {known}$"
    with pytest.raises(UserError, match=message):
        resolve_settings(tmp_path / "run", data, PRESETS[preset], {"freeze": part})


@pytest.mark.parametrize(
    ("overrides", "encoder", "frozen"),
    [
        ({}, "whisper-tiny", "enc_p,dec.content_blocks"),
        # What begins with random numbers must be trained.
        ({"pretrained": "none"}, "whisper-tiny", ""),
        # The base has learned other features.
        ({}, "whisper-base", ""),
        ({"pretrained": "none", "freeze": "emb_g"}, "whisper-tiny", "emb_g"),
        ({"freeze": ""}, "whisper-tiny", ""),
    ],
)
def test_small_trains_all_that_the_base_does_not_know(
    sample_dataset: Path, tmp_path: Path, overrides: dict, encoder: str, frozen: str
) -> None:
    data = load_dataset(sample_dataset)
    info = dataclasses.replace(data.info, content_encoder=encoder)
    data = dataclasses.replace(data, info=info)
    settings = resolve_settings(tmp_path / "run", data, PRESETS["small"], overrides)
    assert settings.train.freeze == frozen
