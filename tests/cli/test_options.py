"""Options: their help texts, their values, and their old names."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path

import pytest

from rvc_jax.cli import main as cli
from rvc_jax.cli.options import (
    OLD_OPTIONS,
    read_field_help,
    replace_old_names,
    unwrap_docstring,
)
from rvc_jax.config import (
    PRESETS,
    STORED_NAMES,
    ConvertConfig,
    FetchConfig,
    PrepareConfig,
    Preset,
    TrainConfig,
    from_dict,
    to_dict,
)
from rvc_jax.errors import UserError


def test_old_names_become_the_present_ones() -> None:
    assert OLD_OPTIONS["--rematerialise"] == "--rematerialize"
    before = ["prepare", "inspect", "--normalisation=loudness", "--normalise_mix", "1", "--vad"]
    after = ["prepare", "inspect", "--normalization=loudness", "--normalize-mix", "1", "--vad"]
    assert replace_old_names(before) == after
    assert replace_old_names(after) == after
    assert replace_old_names(["inspect", "--out=a=b"]) == ["info", "--out=a=b"]
    assert replace_old_names([]) == []


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
    recording = str(next(sample_voice.glob("*.flac")))
    command = ["prepare", recording, "--out", str(tmp_path / "dataset"), "--preset", "nano"]
    assert cli.main([*command, "--normalise-peak", "0.5", "--json"]) == 0
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


def test_configurations_come_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def fetch(urls: tuple[str, ...], out: Path, config: FetchConfig, reporter: object) -> None:
        given.append(config)
        raise UserError("enough")

    monkeypatch.setattr("rvc_jax.data.fetch.fetch.fetch", fetch)
    command = ["fetch", "http://a", "--out", "b"]
    assert cli.main([*command, "--start", "1:00", "--max-files", "3"]) == 2
    assert cli.main(command) == 2
    assert given == [FetchConfig(start="1:00", max_files=3), FetchConfig()]


CONFIGURATIONS = {
    "cluster",
    "comparison",
    "conversion",
    "fetching",
    "preparation",
    "recipe",
    "service",
}
"""Parameters of commands that are configurations."""

SHARED = {"content_encoder", "member"}
"""Parameters of several commands, whose help is part of their annotation."""


def helps(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The help of every command, in one line each."""
    texts = {}
    for command in cli.COMMANDS:
        assert cli.main([command, "--help"]) == 0
        texts[command] = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    return texts


def test_every_option_has_a_help_text(capsys: pytest.CaptureFixture[str]) -> None:
    for config in (FetchConfig, PrepareConfig, TrainConfig, ConvertConfig):
        fields = [field.name for field in dataclasses.fields(config)]
        assert list(read_field_help(config)) == fields
    for name, command in cli.COMMANDS.items():
        described = re.findall(r"^    (\w+): \S", unwrap_docstring(command).__doc__ or "", re.M)
        own = set(inspect.signature(command).parameters) - CONFIGURATIONS - {"as_json"}
        assert set(described) <= own, name
        assert own - set(described) <= SHARED, name
    texts = helps(capsys)
    assert (
        "the first limit ends the run. (default: 200; nano: 50; small: 100)" in texts["train"]
    )
    for name, command in cli.COMMANDS.items():
        for parameter in SHARED.intersection(inspect.signature(command).parameters):
            option = "--" + parameter.replace("_", "-")
            assert re.search(rf"{option} [A-Z]+ [A-Z][a-z]+ ", texts[name]), (name, option)


def test_no_help_begins_with_of_or_shows_none(capsys: pytest.CaptureFixture[str]) -> None:
    for command, text in helps(capsys).items():
        assert not re.search(r"(?:\)|[A-Z]{3,}|\}) Of ", text), command
        assert "{None" not in text and "default: None" not in text, command


def test_wrapped_lines_of_docstrings_are_joined() -> None:
    def command() -> int:
        """Do something long
        (in two lines).

        Then more.

        Args:
            first: A text
                (with a bracket), of
                three lines.
            second: Short.
        """
        return 0

    assert unwrap_docstring(command).__doc__ == (
        "Do something long (in two lines).\n\nThen more.\n\nArgs:\n"
        "    first: A text (with a bracket), of three lines.\n    second: Short."
    )
