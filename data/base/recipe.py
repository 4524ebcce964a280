"""recipe.toml: which speech the base voice is trained on, and why that is allowed."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).with_name("recipe.toml")


@dataclasses.dataclass(frozen=True)
class Package:
    """A file of a package registry."""

    name: str
    registry: str
    """debian, pypi or npm."""
    version: str
    file: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Source:
    """Recordings of one speaker."""

    name: str
    package: str
    files: str
    """Regular expression of the wanted files, from the start of their path in the package."""
    speaker: str
    sex: str
    language: str
    license: str
    copyright: str
    reason: str
    """Why the license allows training, and giving on the trained weights."""
    minutes: float = 0.0
    """Limit on the speech taken, so that no speaker outweighs the others; 0: none."""
    exclude: str = ""
    """Regular expression, searched in the path: beeps, silence, other people."""


@dataclasses.dataclass(frozen=True)
class SyntheticVoice:
    """A voice of the synthesis: one of the model's own, or a blend of some."""

    name: str
    parts: Mapping[str, float]
    """Weights of the model's voices, which add up to 1."""
    sex: str
    language: str
    guest_languages: tuple[str, ...] = ()
    """Languages of every third sentence, in turn."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The whole recipe."""

    seed: int
    packages: Mapping[str, Package]
    sources: tuple[Source, ...]
    voices: tuple[SyntheticVoice, ...]
    synthesis: Mapping[str, Any]
    training: Mapping[str, Any]
    """Options of `rvc-jax train` by the names of their fields, and the preset."""
    forbidden: tuple[str, ...]
    """Names that stay out: targets and sources of tests and of the quick start."""

    def count_clips_per_round(self, voice: SyntheticVoice) -> int:
        """Return the clips of a voice in each round of the synthesis: more in some languages."""
        return self.synthesis["more_clips"].get(voice.language, 1)

    def count_clips(self, voice: SyntheticVoice) -> int:
        """Return the clips of a voice in all rounds."""
        return self.synthesis["clips_per_voice"] * self.count_clips_per_round(voice)


def read_recipe(path: Path = RECIPE) -> Recipe:
    """Read a recipe.

    Raises:
      ValueError: a source names an unknown package or a forbidden voice, or gives no reason.
    """
    data = tomllib.loads(path.read_text())
    packages = {item["name"]: Package(**item) for item in data["package"]}
    recipe = Recipe(
        seed=data["seed"],
        packages=packages,
        sources=tuple(Source(**item) for item in data["source"]),
        voices=tuple(_list_voices(data["synthesis"])),
        synthesis=data["synthesis"],
        training=data["training"],
        forbidden=tuple(data["forbidden"]),
    )
    _check(recipe)
    return recipe


def _list_voices(synthesis: Mapping[str, Any]) -> list[SyntheticVoice]:
    """The model's voices are named by language, sex and name, such as `bf_emma`."""
    guests = synthesis["guest_languages"]
    voices = []
    for language, names in synthesis["voices"].items():
        for name in names:
            sex = "woman" if name[1] == "f" else "man"
            guest = tuple(guests[language])
            voices.append(SyntheticVoice(name, {name: 1.0}, sex, language, guest))
    for blend in synthesis.get("blend", ()):
        guest = tuple(blend.get("guest_languages", guests[blend["language"]]))
        voices.append(SyntheticVoice(**(blend | {"guest_languages": guest})))
    return voices


def _check(recipe: Recipe) -> None:
    for source in recipe.sources:
        if source.package not in recipe.packages:
            raise ValueError(f"{source.name}: the recipe has no package {source.package}")
        if not source.reason or not source.license:
            raise ValueError(f"{source.name}: license and reason are missing")
        for name in recipe.forbidden:
            if name.casefold() in f"{source.name} {source.speaker} {source.files}".casefold():
                raise ValueError(f"{source.name}: {name} must stay out of the base")
    for voice in recipe.voices:
        if abs(sum(voice.parts.values()) - 1) > 1e-6:
            raise ValueError(f"{voice.name}: the weights do not add up to 1")
