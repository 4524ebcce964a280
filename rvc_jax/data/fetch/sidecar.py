"""The note beside every fetched recording: where it is from, and which parts of it are wanted."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from rvc_jax.errors import UserError
from rvc_jax.storage.files import write_json
from rvc_jax.storage.places import Location, read

SIDECAR_SUFFIX = ".source.json"
_FORMAT = 1


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
    """What is known of a fetched recording; `NAME.source.json` beside the recording NAME."""

    link: str
    """What was asked for; unlike the page, it leads to this recording alone."""
    page: str
    extractor: str
    """Which of yt-dlp's extractors knew the site."""
    id: str
    """The site's name for the recording."""
    title: str
    uploader: str | None
    licence: str | None
    """As the site states it; most don't."""
    duration: float | None
    """Seconds."""
    fetched_at: str
    """ISO 8601, UTC."""
    sha256: str
    yt_dlp: str
    """Version that fetched it."""
    chapters: tuple[Chapter, ...] = ()
    """All that the site tells of."""
    cuts: tuple[tuple[float, float | None], ...] = ()
    """Wanted parts, as seconds of start and end (None is the recording's); none at all means the
    whole."""


def sidecar_path(recording: Path) -> Path:
    return recording.with_name(recording.name + SIDECAR_SUFFIX)


def write_sidecar(recording: Path, note: Sidecar) -> None:
    write_json(sidecar_path(recording), {"format": _FORMAT, **dataclasses.asdict(note)})


def read_sidecar(recording: Location) -> Sidecar | None:
    """The note of a recording; None if it has none.

    Raises:
      UserError: what is there is no such note.
    """
    content = read(f"{recording}{SIDECAR_SUFFIX}")
    if content is None:
        return None
    try:
        return _note(json.loads(content))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{recording}{SIDECAR_SUFFIX} is damaged; fetch the recording again, or delete it"
        ) from error


def read_wanted_cuts(recording: Location) -> tuple[tuple[float, float | None], ...]:
    """Seconds of start and end (None: to the end) of every part that was asked for when a recording
    was fetched.

    A recording without a note is wanted whole: ((0.0, None),).

    Raises:
      UserError: its note is damaged.
    """
    note = read_sidecar(recording)
    return note.cuts if note is not None and note.cuts else ((0.0, None),)


def _note(value: dict[str, Any]) -> Sidecar:
    if value.pop("format") != _FORMAT:
        raise ValueError("a format of another version")
    chapters = tuple(
        Chapter(str(item["title"]), *_span(item["start"], item["end"]))
        for item in value.pop("chapters")
    )
    cuts = tuple(_span(start, stop) for start, stop in value.pop("cuts"))
    note = Sidecar(**value, chapters=chapters, cuts=cuts)
    texts = (
        note.link,
        note.page,
        note.extractor,
        note.id,
        note.title,
        note.fetched_at,
        note.sha256,
        note.yt_dlp,
    )
    optional = (note.uploader, note.licence)
    if not all(isinstance(text, str) for text in texts) or not all(
        isinstance(text, str | None) for text in optional
    ):
        raise TypeError("not a text")
    return (
        note
        if note.duration is None
        else dataclasses.replace(note, duration=float(note.duration))
    )


def _span(start: Any, stop: Any) -> tuple[float, float | None]:
    start = float(start)
    stop = None if stop is None else float(stop)
    if not (math.isfinite(start) and start >= 0) or (
        stop is not None and not start < stop < math.inf
    ):
        raise ValueError("not a part of a recording")
    return start, stop
