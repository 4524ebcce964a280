"""Recipes: which cuts of which recordings a voice is made of, in TOML.

name = "a voice"                  # the recipe's name; if omitted, that of its file
speaker = "who speaks"            # default speaker; if omitted, the recipe's name
license = "where the right to use the recordings comes from"

[[source]]                        # a recording: a link to fetch, or a file in the recipe's folder
link = "https://..."
file = "sub-folder/speech.wav"
speaker = "another one"
gain_db = -2.0                    # louder or quieter
chapters = "^Part"                # for a link: only chapters whose title matches this expression

  [[source.cut]]                  # a wanted part; a source without cuts is used whole
  start = "1:02.5"                # seconds, m:ss or h:mm:ss; if omitted, the beginning
  end = "3:10"                    # if omitted, the end
  speaker = "the guest"
  gain_db = 3.0                   # replaces the source's
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
from rvc_jax.data.cut import Cut, name_cut, number_duplicates
from rvc_jax.data.fetch.fetch import fetch
from rvc_jax.data.patterns import PatternError, check_pattern
from rvc_jax.data.timecode import parse_time
from rvc_jax.errors import UserError, describe_os_error
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage.environment import cache_dir
from rvc_jax.storage.plain_files import read_text

_MAX_FILE_BYTES = 1 << 20
_MAX_GAIN_DB = 60
_MAX_SECONDS = 1e7
_KEYS = {
    "recipe": {"name", "speaker", "license", "source"},
    "source": {"link", "file", "speaker", "gain_db", "chapters", "cut"},
    "cut": {"start", "end", "speaker", "gain_db"},
}
_OLD_SPELLINGS = {"licence": "license"}


@dataclasses.dataclass(frozen=True)
class RecipeCut:
    """A wanted part of a source."""

    start: float
    """Seconds."""
    end: float | None
    """Seconds; None: the recording's end."""
    speaker: str
    gain_db: float
    place: str
    """Where the recipe has it, for messages."""


@dataclasses.dataclass(frozen=True)
class RecipeSource:
    """A recording, given by a link or a file."""

    link: str | None
    file: Path | None
    name: str
    """The file's name in records."""
    speaker: str
    gain_db: float
    chapters: str | None
    """Regular expression for the titles of the wanted chapters."""
    cuts: tuple[RecipeCut, ...]
    """Empty: the whole recording."""
    place: str
    """Where the recipe has it, for messages."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything a voice is made of."""

    path: Path
    name: str
    speaker: str
    license: str | None
    sources: tuple[RecipeSource, ...]


def read_recipe(path: Path | str) -> Recipe:
    """Read a recipe. Fetches nothing and opens no recording.

    Raises:
        UserError: The file is unreadable or not TOML; a key is unknown; a value is invalid; cuts
            overlap; a file is missing or outside the recipe's folder. The message names the recipe
            and the place in it.
    """
    path = Path(path)
    top = _Table(_read_toml(path), "recipe", str(path))
    name = top.get_text("name") or path.stem
    speaker = top.get_text("speaker") or name
    folder = path.parent.resolve()
    sources = tuple(_parse_source(table, folder, speaker) for table in top.get_tables("source"))
    if not sources:
        raise UserError(f"{path}: there is no [[source]] in it: name a link or a file")
    return Recipe(path, name, speaker, top.get_text("license"), sources)


def collect_recipe_cuts(
    recipe: Recipe,
    folder: Path | None = None,
    config: FetchConfig | None = None,
    reporter: Reporter = SILENT,
) -> list[Cut]:
    """Return a recipe's cuts in its order; links that are not in the folder yet are fetched.

    Args:
        recipe: The recipe.
        folder: Folder for fetched recordings; by default one that all recipes of this user share.
        config: How to fetch. The recipe's cuts and chapters replace its start, end and chapters.
        reporter: Receives the progress of the current file.

    Raises:
        UserError: A link cannot be fetched; cuts are given for a playlist; or a part of a recording
            is used twice.
    """
    folder = cache_dir() / "fetched" if folder is None else folder
    config = dataclasses.replace(config or FetchConfig(), start=None, end=None)
    found: list[tuple[Cut, str]] = []
    for source in recipe.sources:
        if source.file is not None:
            found += _make_cuts(source, source.file, source.name, source.cuts)
        else:
            found += _fetch_cuts(source, folder, config, reporter)
    _check_overlaps((cut.path, cut.start, cut.stop, place) for cut, place in found)
    cuts = [cut for cut, _ in found]
    # Files of one name can come from different folders.
    names = number_duplicates([cut.name for cut in cuts])
    return [dataclasses.replace(cut, name=name) for cut, name in zip(cuts, names, strict=True)]


def _fetch_cuts(
    source: RecipeSource, folder: Path, config: FetchConfig, reporter: Reporter
) -> Iterator[tuple[Cut, str]]:
    config = dataclasses.replace(config, chapters=source.chapters)
    try:
        files = fetch([source.link or ""], folder, config, reporter).files
    except UserError as error:
        command = f"rvc-jax fetch '{source.link}' --out '{folder}'"
        raise UserError(
            f"{source.place}: {error}; to give options, fetch it before by itself: {command}"
        ) from error
    if source.cuts and len(files) > 1:
        raise UserError(
            f"{source.place}: this link leads to {len(files)} recordings; cuts need a link to one"
        )
    for file in files:
        chapters = [
            RecipeCut(start, stop, source.speaker, source.gain_db, source.place)
            for start, stop in file.sidecar.cuts
        ]
        yield from _make_cuts(source, file.path, file.path.name, source.cuts or chapters)


def _make_cuts(
    source: RecipeSource, path: Path, name: str, cuts: Iterable[RecipeCut]
) -> Iterator[tuple[Cut, str]]:
    """Yield the cuts of a recording, or the whole, each with its place in the recipe."""
    whole = RecipeCut(0.0, None, source.speaker, source.gain_db, source.place)
    for cut in cuts or (whole,):
        cut_name = name_cut(name, cut.start, cut.end)
        yield Cut(path, cut_name, cut.speaker, cut.start, cut.end, cut.gain_db), cut.place


def _check_overlaps(cuts: Iterable[tuple[Any, float, float | None, str]]) -> None:
    """Check that no part of a recording is in two cuts.

    It would be trained on twice, and could be trained on and held out at once.

    Args:
        cuts: (recording, start in seconds, end in seconds, place in the recipe).
    """
    previous: dict[Any, tuple[float | None, str]] = {}
    for recording, start, end, place in sorted(cuts, key=lambda cut: cut[1]):
        if recording in previous:
            previous_end, previous_place = previous[recording]
            if previous_end is None or start < previous_end:
                other = previous_place.partition(".toml: ")[2] or previous_place
                raise UserError(
                    f"{place} begins at {start:g} s, where {other} has not ended: "
                    "cuts must not overlap"
                )
        previous[recording] = (end, place)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path, _MAX_FILE_BYTES))
    except FileNotFoundError as error:
        raise UserError(f"{path} cannot be read: {describe_os_error(error)}") from None
    except RecursionError as error:
        raise UserError(f"{path} is not a recipe: too many brackets") from error
    except ValueError as error:
        # TOMLDecodeError, and what numbers and dates of strange sizes raise
        raise UserError(f"{path} is not valid TOML: {error}") from error


def _parse_source(table: _Table, folder: Path, speaker: str) -> RecipeSource:
    link = table.get_text("link")
    file = table.get_text("file")
    chapters = table.get_text("chapters")
    if (link is None) == (file is None):
        raise UserError(f"{table.place}: give a link or a file, one of them")
    if link is not None and not re.match(r"https?://", link, re.IGNORECASE):
        raise UserError(f"{table.place}, link: only http:// and https:// links are fetched")
    speaker = table.get_text("speaker") or speaker
    gain_db = table.get_gain(0.0)
    cuts = tuple(_parse_cut(cut, speaker, gain_db) for cut in table.get_tables("cut"))
    _check_overlaps(("", cut.start, cut.end, cut.place) for cut in cuts)
    if chapters is not None:
        _check_chapters(chapters, f"{table.place}, chapters", file is None and not cuts)
    path = None if file is None else _find_file(file, folder, f"{table.place}, file")
    name = _name_file(path, folder)
    return RecipeSource(link, path, name, speaker, gain_db, chapters, cuts, table.place)


def _name_file(path: Path | None, folder: Path) -> str:
    """Return a file's path below the recipe's folder, or its name if it is elsewhere."""
    if path is None:
        return ""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _check_chapters(pattern: str, place: str, is_allowed: bool) -> None:
    if not is_allowed:
        raise UserError(f"{place}: only for a link, and instead of cuts")
    try:
        check_pattern(pattern)
    except PatternError as error:
        raise UserError(f"{place}: {error}") from error


def _find_file(name: str, folder: Path, place: str) -> Path:
    """Return a file that a recipe names: one below its folder, or any by its absolute path."""
    try:
        path = (folder / name).resolve()
        is_file = path.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        # a link to itself, a name that is too long
        raise UserError(f"{place}: {name[:100]} cannot be looked up: {error}") from error
    if not Path(name).is_absolute() and not path.is_relative_to(folder):
        raise UserError(
            f"{place}: {name} is outside of the recipe's folder; move it there, or give its "
            "whole path"
        )
    if not is_file:
        raise UserError(f"{place}: {path} is not {'a file' if path.exists() else 'there'}")
    return path


def _parse_cut(table: _Table, speaker: str, gain_db: float) -> RecipeCut:
    start = table.get_time("start")
    end = table.get_time("end")
    if start is None and end is None:
        raise UserError(
            f"{table.place}: give a start, an end or both; a source without cuts is taken whole"
        )
    begin = start or 0.0
    if end is not None and end <= begin:
        raise UserError(
            f"{table.place}: the end ({end:g} s) is not after the start ({begin:g} s)"
        )
    speaker = table.get_text("speaker") or speaker
    return RecipeCut(begin, end, speaker, table.get_gain(gain_db), table.place)


class _Table:
    """A table of a recipe, whose values are checked as they are read."""

    def __init__(self, values: Any, kind: str, place: str) -> None:
        if not isinstance(values, dict):
            raise UserError(f"{place}: must be a table")
        values = {_OLD_SPELLINGS.get(key, key): value for key, value in values.items()}
        unknown = sorted(set(values) - _KEYS[kind])
        if unknown:
            raise UserError(
                f"{place}: there is no key {unknown[0]!r}; a {kind} has "
                f"{', '.join(sorted(_KEYS[kind]))}"
            )
        self._values = values
        self.place = place

    def get_tables(self, key: str) -> list[_Table]:
        tables = self._values.get(key, [])
        if not isinstance(tables, list):
            raise UserError(f"{self.place}, {key}: must be written with two brackets")
        return [
            _Table(values, key, f"{self.place}: {key} {number}")
            for number, values in enumerate(tables, 1)
        ]

    def get_text(self, key: str) -> str | None:
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise UserError(f"{self.place}, {key}: must be a text in quotes, on one line")
        return value.strip()

    def get_gain(self, default: float) -> float:
        value = self._values.get("gain_db", default)
        # "not <=", since NaN is neither above nor below the limit
        if not _is_number(value) or not abs(value) <= _MAX_GAIN_DB:
            raise UserError(
                f"{self.place}, gain_db: must be a number from -{_MAX_GAIN_DB} to {_MAX_GAIN_DB} "
                "(dB)"
            )
        return float(value)

    def get_time(self, key: str) -> float | None:
        """Return seconds."""
        value = self._values.get(key)
        if value is None:
            return None
        if isinstance(value, datetime.time):
            # TOML reads 00:01:02 without quotes as a time of day.
            whole = value.hour * 3600 + value.minute * 60 + value.second
            return whole + value.microsecond / 1e6
        if _is_number(value) and 0 <= value < _MAX_SECONDS:
            return float(value)
        if not isinstance(value, str):
            raise UserError(
                f"{self.place}, {key}: must be seconds, not below 0, or a time in quotes "
                '("1:02:03.5")'
            )
        try:
            return parse_time(value)
        except UserError as error:
            raise UserError(f"{self.place}, {key}: {error}") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
