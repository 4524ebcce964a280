"""data/base: which speech the base voice may be trained on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from data.base.recipe import RECIPE, read_recipe


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = RECIPE.read_text()
    assert old in text
    path = tmp_path / "recipe.toml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_many_speakers_of_many_languages() -> None:
    recipe = read_recipe()
    speakers = {source.speaker: source.sex for source in recipe.sources}
    speakers |= {voice.name: voice.sex for voice in recipe.voices}
    languages = {item.language[:2] for item in (*recipe.sources, *recipe.voices)}
    french = [voice for voice in recipe.voices if voice.language == "fr"]
    assert len(speakers) >= 60
    assert min(list(speakers.values()).count(sex) for sex in ("woman", "man")) >= 20
    assert {"en", "fr", "es", "it", "ru"} <= languages
    assert {voice.sex for voice in french} == {"woman", "man"}


def test_every_package_is_pinned() -> None:
    recipe = read_recipe()
    for package in recipe.packages.values():
        assert re.fullmatch("[0-9a-f]{64}", package.sha256)
        assert package.version in package.file
        assert package.registry in ("debian", "pypi", "npm")
    used = {source.package for source in recipe.sources}
    used |= {package for package, _ in recipe.synthesis["model"]}
    used |= {recipe.synthesis["symbols"][0], recipe.synthesis["styles"][0]}
    assert used == recipe.packages.keys()


def test_names_no_registry_hosts() -> None:
    assert "http" not in RECIPE.read_text()


@pytest.mark.parametrize("name", ["june", "Callie", "librivox"])
def test_refuses_voices_of_the_tests(tmp_path: Path, name: str) -> None:
    path = changed(tmp_path, 'speaker = "carlo"', f'speaker = "{name}"')
    with pytest.raises(ValueError, match=rf"(?i)asterisk-it: {name} must stay out"):
        read_recipe(path)


def test_refuses_a_source_without_reason(tmp_path: Path) -> None:
    path = changed(tmp_path, 'license = "CC-BY-3.0"', 'license = ""')
    with pytest.raises(ValueError, match="license and reason are missing"):
        read_recipe(path)


def test_refuses_weights_that_do_not_add_up(tmp_path: Path) -> None:
    path = changed(tmp_path, "am_michael = 0.7", "am_michael = 0.6")
    with pytest.raises(ValueError, match="blend_fr_m1: the weights do not add up"):
        read_recipe(path)
