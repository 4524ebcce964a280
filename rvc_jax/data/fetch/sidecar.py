"""The sidecar `NAME.source.json` of a fetched recording: where it is from, which cuts to use."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rvc_jax.errors import UserError
from rvc_jax.storage.files import write_json
from rvc_jax.storage.json_files import parse_json
from rvc_jax.storage.places import Location, read

SIDECAR_SUFFIX = ".source.json"
NO_SITE = "Generic"
"""yt-dlp's extractor for pages of no known site: its names for recordings are not unique."""
_FORMAT = 1
_MAX_CUTS = 10_000


@dataclasses.dataclass(frozen=True)
class Chapter:
    """A part of a recording that its site gives a title."""

    title: str
    start: float
    """Seconds."""
    end: float
    """Seconds."""


@dataclasses.dataclass(frozen=True)
class Sidecar:
    """What is known of a fetched recording. The fields are the keys of the file."""

    link: str
    """The link asked for; unlike the page, it leads to this recording alone."""
    page: str
    extractor: str
    """The yt-dlp extractor that knew the site."""
    id: str
    """The site's name for the recording."""
    title: str
    uploader: str | None
    licence: str | None
    """As the site states it; most do not."""
    duration: float | None
    """Seconds."""
    fetched_at: str
    """ISO 8601, UTC."""
    sha256: str
    yt_dlp: str
    """Version that fetched it."""
    chapters: tuple[Chapter, ...] = ()
    """All chapters that the site lists."""
    cuts: tuple[tuple[float, float | None], ...] = ()
    """Wanted cuts: (start, end) in seconds; an end of None is the recording's. Empty: the whole."""


def sidecar_path(recording: Path) -> Path:
    """Return the path of a recording's sidecar."""
    return recording.with_name(recording.name + SIDECAR_SUFFIX)


def write_sidecar(recording: Path, sidecar: Sidecar) -> None:
    """Write a recording's sidecar, in one move."""
    write_json(sidecar_path(recording), {"format": _FORMAT, **dataclasses.asdict(sidecar)})


def read_sidecar(recording: Location) -> Sidecar | None:
    """Read the sidecar of a recording; None if it has none.

    Raises:
        UserError: The sidecar is damaged.
    """
    content = read(f"{recording}{SIDECAR_SUFFIX}")
    if content is None:
        return None
    try:
        return _parse(parse_json(content))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{recording}{SIDECAR_SUFFIX} is damaged; fetch the recording again, or delete it"
        ) from error


def read_wanted_cuts(recording: Location) -> tuple[tuple[float, float | None], ...]:
    """Return (start, end) in seconds of every cut asked for when a recording was fetched.

    An end of None is the recording's. Without a sidecar, the whole: ((0.0, None),).

    Raises:
        UserError: The sidecar is damaged.
    """
    sidecar = read_sidecar(recording)
    return sidecar.cuts if sidecar is not None and sidecar.cuts else ((0.0, None),)


class Archive:
    """The fetched recordings of a folder, by their links and by their sites' names for them."""

    def __init__(self, folder: Path) -> None:
        self._found: dict[str, tuple[Path, Sidecar]] = {}
        for file in sorted(folder.glob(f"*{SIDECAR_SUFFIX}")):
            path = file.with_name(file.name.removesuffix(SIDECAR_SUFFIX))
            if not path.is_file():
                continue
            # A damaged sidecar is passed over: the recording gets a new one.
            with contextlib.suppress(UserError):
                sidecar = read_sidecar(path)
                if sidecar is not None:
                    self.add(path, sidecar)

    def add(self, path: Path, sidecar: Sidecar) -> None:
        """Add a recording."""
        for key in (sidecar.link, make_recording_key(sidecar.extractor, sidecar.id)):
            if key:
                self._found[key] = (path, sidecar)

    def find(self, *keys: str | None) -> tuple[Path, Sidecar] | None:
        """Return the recording of the first link or key that the archive knows."""
        return next((self._found[key] for key in keys if key and key in self._found), None)


def make_recording_key(extractor: str | None, identity: str | None) -> str | None:
    """Return a recording's name independent of the link; None if its extractor has none."""
    if not extractor or not identity or extractor == NO_SITE:
        return None
    return f"{extractor} {identity}"


def _parse(value: dict[str, Any]) -> Sidecar:
    """Return the sidecar in parsed JSON. Raises ValueError, TypeError and others if it is none."""
    if value.pop("format") != _FORMAT:
        raise ValueError("a format of another version")
    chapters = tuple(_parse_chapter(item) for item in value.pop("chapters"))
    cuts = value.pop("cuts")
    if len(cuts) > _MAX_CUTS:
        raise ValueError(f"more than {_MAX_CUTS} cuts")
    cuts = merge_overlapping([_check_span(start, stop) for start, stop in cuts])
    sidecar = Sidecar(**value, chapters=chapters, cuts=cuts)
    required = ("link", "page", "extractor", "id", "title", "fetched_at", "sha256", "yt_dlp")
    for name in required:
        if not isinstance(getattr(sidecar, name), str):
            raise TypeError(f"{name} is not a text")
    for name in ("uploader", "licence"):
        if not isinstance(getattr(sidecar, name), str | None):
            raise TypeError(f"{name} is not a text")
    if sidecar.duration is None:
        return sidecar
    return dataclasses.replace(sidecar, duration=float(sidecar.duration))


def merge_overlapping(
    cuts: Sequence[tuple[float, float | None]],
) -> tuple[tuple[float, float | None], ...]:
    """Return cuts in which no speech counts twice: the same ones unless some overlap.

    Args:
        cuts: (start, end) in seconds; an end of None is the recording's.
    """
    merged: list[tuple[float, float | None]] = []
    for start, stop in sorted(cuts, key=lambda cut: cut[0]):
        last, end = merged[-1] if merged else (0.0, 0.0)
        if end is not None and start >= end:
            merged.append((start, stop))
        elif end is not None and (stop is None or stop > end):
            merged[-1] = (last, stop)
    return tuple(cuts) if len(merged) == len(cuts) else tuple(merged)


def _parse_chapter(item: dict[str, Any]) -> Chapter:
    start, end = _check_span(item["start"], item["end"])
    if end is None:
        raise ValueError("a chapter without an end")
    return Chapter(str(item["title"]), start, end)


def _check_span(start: Any, stop: Any) -> tuple[float, float | None]:
    start = float(start)
    stop = None if stop is None else float(stop)
    if not (math.isfinite(start) and start >= 0):
        raise ValueError("a start outside of the recording")
    if stop is not None and not start < stop < math.inf:
        raise ValueError("an end that is not after the start")
    return start, stop
