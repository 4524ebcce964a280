"""Options: their help texts, and their old spellings."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from rvc_jax.cli.main import main
from rvc_jax.cli.options import OLD_OPTIONS, replace_old_options
from rvc_jax.config import (
    PRESETS,
    STORED_NAMES,
    PrepareConfig,
    Preset,
    TrainConfig,
    from_dict,
    to_dict,
)


def test_old_spellings_become_the_present_ones() -> None:
    assert OLD_OPTIONS["--rematerialise"] == "--rematerialize"
    before = [
        "prepare",
        "a",
        "--normalisation=loudness",
        "--normalise_mix",
        "1",
        "--vad",
        "--name=b=c",
    ]
    after = [
        "prepare",
        "a",
        "--normalization=loudness",
        "--normalize-mix",
        "1",
        "--vad",
        "--name=b=c",
    ]
    assert replace_old_options(before) == after
    assert replace_old_options(after) == after


def test_every_renamed_option_exists_under_its_present_name_only() -> None:
    fields = {
        field.name
        for config in (PrepareConfig, TrainConfig)
        for field in dataclasses.fields(config)
    }
    assert set(STORED_NAMES) <= fields and not set(STORED_NAMES.values()) & fields


def test_a_dataset_is_prepared_with_an_old_spelling(
    sample_voice: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files keep the first names of the fields: hashes are computed over them."""
    command = [
        "prepare",
        str(next(sample_voice.glob("*.flac"))),
        "--out",
        str(tmp_path / "dataset"),
    ]
    assert main([*command, "--preset", "nano", "--normalise-peak", "0.5", "--json"]) == 0
    stored = json.loads(capsys.readouterr().out)["config"]
    assert stored["normalise_peak"] == 0.5 and stored["normalisation"] == "post"
    assert from_dict(PrepareConfig, stored).normalize_peak == 0.5


def test_files_keep_the_first_names_and_both_are_read() -> None:
    preset = dataclasses.replace(PRESETS["nano"], train=TrainConfig(rematerialize=True))
    stored = to_dict(preset)
    assert stored["train"]["rematerialise"] is True and "rematerialize" not in stored["train"]
    assert list(stored["train"])[:3] == ["epochs", "steps", "minutes"]
    assert from_dict(Preset, stored) == preset
    stored["train"]["rematerialize"] = stored["train"].pop("rematerialise")
    assert from_dict(Preset, stored) == preset
