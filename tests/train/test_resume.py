"""Settings of a run: what is refused, and what fits itself to the dataset."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from made_runs import make_run
from micro import MICRO

from rvc_jax.config import PRESETS, TrainConfig
from rvc_jax.data.dataset import load_dataset
from rvc_jax.errors import UserError
from rvc_jax.train import resume
from rvc_jax.train.resume import (
    check_recipe,
    describe_memory,
    resolve_memory_limit,
    resolve_settings,
)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ema": 1.0}, "--ema"),
        ({"clip_norm": -1.0}, "--clip-norm"),
        ({"steps": -1}, "--steps"),
        ({"discriminator_every": 0}, "--discriminator-every"),
        ({"memory_gigabytes": -1.0}, "--memory-gigabytes"),
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


def test_windows_get_an_eighth_of_the_memory_or_what_the_user_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "measure_available_memory", lambda: 80_000)
    new = tmp_path / "new"
    assert resolve_memory_limit(new, None, {}) == 10_000
    assert resolve_memory_limit(new, None, {"memory_gigabytes": 2e-6}) == 2000
    assert resolve_memory_limit(new, None, {"data_on_device": "yes"}) > 1e15
    recipe = dataclasses.replace(MICRO.train, memory_gigabytes=3e-6)
    preset = dataclasses.replace(MICRO, train=recipe)
    assert resolve_memory_limit(new, preset, {}) == 3000
    make_run(tmp_path / "run", preset=preset)  # a run keeps its own
    assert resolve_memory_limit(tmp_path / "run", None, {}) == 3000
    assert resolve_memory_limit(tmp_path / "run", None, {"memory_gigabytes": 0.0}) == 10_000


def test_it_is_said_when_windows_stay_on_disk(sample_dataset: Path) -> None:
    data = load_dataset(sample_dataset)
    assert describe_memory(data, 1 << 40) == ""
    assert "are read from disk as they are needed" in describe_memory(data, 1000)
