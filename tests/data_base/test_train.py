"""data/base: the files of the base voice, and what a new run takes from them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from made_runs import make_run
from micro import MICRO_SMALL

from data.base.recipe import read_recipe
from data.base.train import publish, read_curve
from rvc_jax.config import PRESETS, TrainConfig
from rvc_jax.runs.folder import RunFolder
from rvc_jax.train.networks import build_networks
from rvc_jax.train.pretrained import load_initial_parameters
from rvc_jax.voices.model import VoiceModel
from rvc_jax.weights import bundled, safetensors_file

TINY = dataclasses.replace(
    MICRO_SMALL,
    generator=dataclasses.replace(MICRO_SMALL.generator, speakers=5),
    train=dataclasses.replace(MICRO_SMALL.train, pretrained="default"),
)
ROW = {
    "source": "carlo",
    "speaker": "carlo",
    "sex": "man",
    "language": "it",
    "seconds": 1800.0,
    "license": "CC-BY-3.0",
    "copyright": "2012 Carlo",
    "is_synthetic": False,
}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    make_run(tmp_path / "run", "whisper-tiny", preset=TINY)
    (tmp_path / "data_card.json").write_text(json.dumps([ROW]))
    return tmp_path


def test_published_networks_begin_a_new_run(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(read_recipe(), work, tmp_path, "a TPU", {})
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    networks = build_networks(TINY, 10)
    generator, discriminator, notes = load_initial_parameters(networks)
    voice = VoiceModel.from_run(RunFolder.open(work / "run"))
    public = networks.synthesizer.to_public(generator)
    for name, value in voice.weights.items():
        if name != "emb_g.weight":
            np.testing.assert_array_equal(public[name], value.astype(np.float16), name)
    mean = voice.weights["emb_g.weight"].mean(axis=0).astype(np.float16)
    np.testing.assert_array_equal(public["emb_g.weight"], np.tile(mean, (5, 1)))
    fresh = networks.discriminator.init(TINY.train.seed)
    assert any(not np.array_equal(discriminator[name], fresh[name]) for name in fresh)
    assert len(notes) == 2
    assert "starting from the generator base_small_generator.safetensors" in notes[0]
    assert "scratch" not in "".join(notes)


def test_from_scratch_ignores_the_base(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(read_recipe(), work, tmp_path, "a TPU", {})
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    recipe = dataclasses.replace(TINY.train, pretrained="none")
    networks = build_networks(dataclasses.replace(TINY, train=recipe), 10)
    _, _, notes = load_initial_parameters(networks)
    assert notes == []


def test_files_are_half_precision_with_card_and_curve(work: Path, tmp_path: Path) -> None:
    paths = publish(read_recipe(), work, tmp_path, "a TPU", {"word_error_rate": 0.0625})
    names = [path.name for path in paths]
    assert names == [
        "base_small_generator.safetensors",
        "base_small_discriminator.safetensors",
        "base_small_curve.json",
        "base_small.md",
    ]
    for path in paths[:2]:
        arrays = safetensors_file.read(path)
        assert {array.dtype for array in arrays.values()} == {np.dtype(np.float16)}
    assert json.loads(paths[2].read_text()) == [
        {"step": 0, "raw": 2.5},
        {"step": 10, "raw": 1.25},
    ]
    card = paths[3].read_text()
    assert "0.50 hours (0.50 recorded, 0.00 synthesized) of 1 speakers" in card
    assert "the best voice by the hold-out is of step 10" in card
    assert "| word_error_rate | 0.062 |" in card
    assert "| machine | a TPU |" in card
    assert "| carlo | CC-BY-3.0 | 2012 Carlo | 30.0 |" in card


def test_curve_names_averaged_and_raw_weights() -> None:
    history = [{"step": 5, "loss/mel": 1.0}]
    history += [{"step": 5, "holdout/mel": 0.51239, "holdout_ema/mel": 0.5}]
    assert read_curve(history) == [{"step": 5, "averaged": 0.5, "raw": 0.5124}]


def test_options_of_the_recipe_are_options_of_the_command() -> None:
    options = dict(read_recipe().training)
    assert options.pop("preset") in PRESETS
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    assert options.keys() <= fields
