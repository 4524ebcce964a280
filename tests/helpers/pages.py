"""The pages of the documentation, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PROGRAMS = (
    "rvc-jax",
    "python",
    "python3",
    "pip",
    "pytest",
    "docker",
    "mkdocs",
    "tensorboard",
    "curl",
    "ffmpeg",
    "aplay",
)
_SEPARATORS = ("&&", "||", "|", ";")
_FENCED = re.compile(r"^ *```[^\n]*\n.*?^ *```[^\n]*\n", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4,}[^\n]*\n|\n(?= {4}))+")
_IMAGE = re.compile(r"rvc-jax(:\w+)?")


class Command(NamedTuple):
    """A program and its arguments, as a page has them."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)


def blocks(text: str) -> list[str]:
    """The code of a page: what is fenced, or indented after an empty line."""
    return [*_FENCED.findall(text), *_INDENTED.findall(_FENCED.sub("", text))]


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return _INDENTED.sub("", _FENCED.sub("", text))


def commands(page: Path) -> Iterator[Command]:
    for block in blocks(page.read_text()):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            if line.split()[:1] and line.split()[0] in PROGRAMS:
                yield from _split(page, line)


def _split(page: Path, line: str) -> Iterator[Command]:
    """The programs of a line; `docker run ... rvc-jax ...` is what the container runs as well."""
    line = re.sub(
        r"\[(--[^\]]*)\]|\s\.\.\.(?=\s|$)", r"\1", line
    )  # what may be left out is given
    words = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    words.whitespace_split = True
    words.commenters = "#"
    found: list[str] = []
    for word in [*words, ";"]:
        if word not in _SEPARATORS:
            found.append(word)
            continue
        if found:
            yield Command(page.name, tuple(found))
        if found[:2] == ["docker", "run"]:
            image = next(number for number, word in enumerate(found) if _IMAGE.fullmatch(word))
            yield Command(page.name, ("rvc-jax", *found[image + 1 :]))
        found = []


def all_commands() -> list[Command]:
    """Every command once, in the pages' order; the page is the first that has it."""
    found: dict[tuple[str, ...], Command] = {}
    for page in PAGES:
        for command in commands(page):
            found.setdefault(command.words, command)
    return list(found.values())
