"""Recipes: which parts of which recordings a voice is made of, written down in TOML.

name = "a voice"                  # of the recipe; its file's name if it is left out
speaker = "who speaks"            # where no other is named; the recipe's name if it is left out
licence = "where the right to use the recordings comes from"

[[source]]                        # a recording: either a link to fetch, or a file in the recipe's folder
link = "https://..."
file = "sub-folder/speech.wav"
speaker = "another one"
gain_db = -2.0                    # louder or quieter
chapters = "^Part"                # of a link: only chapters whose title this expression is found in

  [[source.cut]]                  # a part that is wanted; a source without cuts is wanted whole
  start = "1:02.5"                # seconds, m:ss or h:mm:ss; the beginning if it is left out
  end = "3:10"                    # the end if it is left out
  speaker = "the guest"
  gain_db = 3.0                   # in the place of the source's
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rvc_jax.config import FetchConfig
from rvc_jax.data.fetch.fetch import fetch
from rvc_jax.data.sources import Cut, number_duplicates
from rvc_jax.data.timecode import name_cut, parse_time
from rvc_jax.errors import UserError
from rvc_jax.reporter import Reporter
from rvc_jax.storage.environment import cache_dir

_LARGEST_FILE = 1 << 20
_LARGEST_GAIN = 60
_LONGEST = 1e7
_KEYS = {
    "recipe": {"name", "speaker", "licence", "source"},
    "source": {"link", "file", "speaker", "gain_db", "chapters", "cut"},
    "cut": {"start", "end", "speaker", "gain_db"},
}


@dataclasses.dataclass(frozen=True)
class RecipeCut:
    """A part of a source."""

    start: float
    """Seconds."""
    end: float | None
    """Seconds; None is the recording's end."""
    speaker: str
    gain_db: float
    place: str
    """Where the recipe says so, for messages."""


@dataclasses.dataclass(frozen=True)
class RecipeSource:
    """A recording, by a link or a file."""

    link: str | None
    file: Path | None
    name: str
    """Of the file, as records call it."""
    speaker: str
    gain_db: float
    chapters: str | None
    """Regular expression for the titles of the chapters that are wanted."""
    cuts: tuple[RecipeCut, ...]
    """None at all: the whole."""
    place: str
    """Where the recipe says so, for messages."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that a voice is made of."""

    path: Path
    name: str
    speaker: str
    licence: str | None
    sources: tuple[RecipeSource, ...]


def read_recipe(path: Path | str) -> Recipe:
    """Read a recipe. Nothing is fetched, and no recording is opened.

    Raises:
      UserError: not readable, not TOML, a key that is not known, a value that makes no sense, cuts
        that overlap, a file that is not there or lies outside of the recipe's folder. The line
        names the recipe and the key's place.
    """
    path = Path(path)
    top = _Table(_content(path), "recipe", str(path))
    name = top.text("name") or path.stem
    speaker = top.text("speaker") or name
    sources = tuple(
        _source(table, path.parent.resolve(), speaker) for table in top.tables("source")
    )
    if not sources:
        raise UserError(f"{path}: there is no [[source]] in it: name a link or a file")
    return Recipe(path, name, speaker, top.text("licence"), sources)


def collect_recipe_cuts(
    recipe: Recipe,
    folder: Path | None = None,
    config: FetchConfig | None = None,
    reporter: Reporter | None = None,
) -> list[Cut]:
    """The parts of recordings that a recipe names, in its order; links are fetched if they have not
    been.

    Args:
      folder: for what is fetched; by default one that all recipes of this user share.
      config: how to fetch; its start, end and chapters give way to the recipe's.
      reporter: is told how far the current file is.

    Raises:
      UserError: a link that cannot be fetched, cuts of a playlist, or the same part of a recording
          twice.
    """
    config = dataclasses.replace(config or FetchConfig(), start=None, end=None)
    found: list[tuple[Cut, str]] = []
    for source in recipe.sources:
        if source.file is not None:
            found += _parts(source, source.file, source.name, source.cuts)
        else:
            found += _fetched(
                source, cache_dir() / "fetched" if folder is None else folder, config, reporter
            )
    _check_overlaps((cut.path, cut.start, cut.stop, place) for cut, place in found)
    cuts = [cut for cut, _ in found]  # files of the same name can come from different folders
    return [
        dataclasses.replace(cut, name=name)
        for cut, name in zip(cuts, number_duplicates([c.name for c in cuts]), strict=True)
    ]


def _fetched(
    source: RecipeSource, folder: Path, config: FetchConfig, reporter: Reporter | None
) -> Iterator[tuple[Cut, str]]:
    try:
        files = fetch(
            [source.link or ""],
            folder,
            dataclasses.replace(config, chapters=source.chapters),
            reporter,
        ).files
    except UserError as error:
        alone = f"rvc-jax fetch '{source.link}' --out '{folder}'"
        raise UserError(
            f"{source.place}: {error}; to give options, fetch it before by itself: {alone}"
        ) from error
    if source.cuts and len(files) > 1:
        raise UserError(
            f"{source.place}: this link leads to {len(files)} recordings; cuts need a link to one"
        )
    for file in files:
        chapters = [
            RecipeCut(*part, source.speaker, source.gain_db, source.place)
            for part in file.note.cuts
        ]
        yield from _parts(source, file.path, file.path.name, source.cuts or chapters)


def _parts(
    source: RecipeSource, path: Path, name: str, cuts: Iterable[RecipeCut]
) -> Iterator[tuple[Cut, str]]:
    """The cuts of a recording, or the whole, each with its place in the recipe."""
    whole = RecipeCut(0.0, None, source.speaker, source.gain_db, source.place)
    for cut in cuts or (whole,):
        part = name_cut(name, cut.start, cut.end)
        yield Cut(path, part, cut.speaker, cut.start, cut.end, cut.gain_db), cut.place


def _check_overlaps(parts: Iterable[tuple[Any, float, float | None, str]]) -> None:
    """What is in two cuts would be learnt twice, and could be trained on and held out at once.

    Args:
      parts: recording, seconds of start and end, and place in the recipe.
    """
    before: dict[Any, tuple[float | None, str]] = {}
    for recording, start, end, place in sorted(parts, key=lambda part: part[1]):
        if recording in before:
            last_end, last_place = before[recording]
            if last_end is None or start < last_end:
                other = last_place.partition(".toml: ")[2] or last_place
                raise UserError(
                    f"{place} begins at {start:g} s, where {other} has not ended: cuts must not overlap"
                )
        before[recording] = (end, place)


def _content(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise UserError(f"{path} is no recipe: larger than {_LARGEST_FILE >> 20} MB")
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no recipe: not a text in UTF-8") from error
    except RecursionError as error:
        raise UserError(f"{path} is no recipe: too many brackets") from error
    except (
        ValueError
    ) as error:  # TOMLDecodeError, and what numbers and dates of strange sizes raise
        raise UserError(f"{path} is not valid TOML: {error}") from error


def _source(table: _Table, folder: Path, speaker: str) -> RecipeSource:
    link = table.text("link")
    file = table.text("file")
    chapters = table.text("chapters")
    if (link is None) == (file is None):
        raise UserError(f"{table.place}: give a link or a file, one of them")
    if link is not None and not re.match(r"https?://", link, re.IGNORECASE):
        raise UserError(f"{table.place}, link: only http:// and https:// links are fetched")
    speaker = table.text("speaker") or speaker
    gain_db = table.gain(0.0)
    cuts = tuple(_cut(cut, speaker, gain_db) for cut in table.tables("cut"))
    _check_overlaps(("", cut.start, cut.end, cut.place) for cut in cuts)
    if chapters is not None:
        _check_chapters(chapters, f"{table.place}, chapters", file is None and not cuts)
    path = None if file is None else _local(file, folder, f"{table.place}, file")
    name = (
        path.relative_to(folder).as_posix()
        if path and path.is_relative_to(folder)
        else path.name
        if path
        else ""
    )
    return RecipeSource(link, path, name, speaker, gain_db, chapters, cuts, table.place)


def _check_chapters(pattern: str, place: str, possible: bool) -> None:
    if not possible:
        raise UserError(f"{place}: only for a link, and in the place of cuts")
    try:
        re.compile(pattern)
    except re.error as error:
        raise UserError(f"{place}: not a regular expression ({error})") from error


def _local(name: str, folder: Path, place: str) -> Path:
    """A file that a recipe names: one below its folder, or any by its whole path."""
    try:
        path = (folder / name).resolve()
        is_file = path.is_file()
    except (
        OSError,
        RuntimeError,
        ValueError,
    ) as error:  # a link to itself, a name that is too long
        raise UserError(f"{place}: {name[:100]} cannot be looked up: {error}") from error
    if not Path(name).is_absolute() and not path.is_relative_to(folder):
        raise UserError(
            f"{place}: {name} lies outside of the recipe's folder; move it there, or give its whole path"
        )
    if not is_file:
        raise UserError(f"{place}: {path} is not {'a file' if path.exists() else 'there'}")
    return path


def _cut(table: _Table, speaker: str, gain_db: float) -> RecipeCut:
    start = table.time("start")
    end = table.time("end")
    if start is None and end is None:
        raise UserError(
            f"{table.place}: give a start, an end or both; a source without cuts is taken whole"
        )
    if end is not None and end <= (start or 0.0):
        raise UserError(
            f"{table.place}: the end ({end:g} s) is not after the start ({start or 0:g} s)"
        )
    return RecipeCut(
        start or 0.0, end, table.text("speaker") or speaker, table.gain(gain_db), table.place
    )


class _Table:
    """A table of a recipe, whose values are taken as what they must be."""

    def __init__(self, values: Any, kind: str, place: str) -> None:
        self._values = values
        self.place = place
        if not isinstance(values, dict):
            raise UserError(f"{place}: must be a table")
        if unknown := sorted(set(values) - _KEYS[kind]):
            raise UserError(
                f"{place}: there is no key {unknown[0]!r}; a {kind} has {', '.join(sorted(_KEYS[kind]))}"
            )

    def tables(self, key: str) -> list[_Table]:
        found = self._values.get(key, [])
        if not isinstance(found, list):
            raise UserError(f"{self.place}, {key}: must be written with two brackets")
        return [
            _Table(values, key, f"{self.place}: {key} {number}")
            for number, values in enumerate(found, 1)
        ]

    def text(self, key: str) -> str | None:
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise UserError(f"{self.place}, {key}: must be a text in quotes, on one line")
        return value.strip()

    def gain(self, default: float) -> float:
        value = self._values.get("gain_db", default)
        if not _is_number(value) or not abs(value) <= _LARGEST_GAIN:  # NaN is neither
            raise UserError(
                f"{self.place}, gain_db: must be a number from -{_LARGEST_GAIN} to {_LARGEST_GAIN} (dB)"
            )
        return float(value)

    def time(self, key: str) -> float | None:
        value = self._values.get(key)
        if value is None:
            return None
        if isinstance(value, datetime.time):  # 00:01:02 without quotes is a time of day to TOML
            return (
                value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6
            )
        if _is_number(value) and 0 <= value < _LONGEST:
            return float(value)
        if not isinstance(value, str):
            raise UserError(
                f'{self.place}, {key}: must be seconds, not below 0, or a time in quotes ("1:02:03.5")'
            )
        try:
            return parse_time(value)
        except UserError as error:
            raise UserError(f"{self.place}, {key}: {error}") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
