"""The parts of a recording: the chapters that its site lists, and the cuts that are wanted."""

from __future__ import annotations

import dataclasses
from typing import Any

from rvc_jax.config import FetchConfig
from rvc_jax.data.fetch.information import to_line
from rvc_jax.data.fetch.sidecar import Chapter
from rvc_jax.data.patterns import PatternError, check_pattern, search_texts
from rvc_jax.data.timecode import parse_time
from rvc_jax.errors import UserError, sanitize

_MAX_CHAPTERS = 1000
_MAX_SECONDS = 1e7
_MAX_TITLES = 10


@dataclasses.dataclass(frozen=True)
class WantedParts:
    """Which parts of the recordings are asked for."""

    start: float
    """Seconds."""
    end: float | None
    """Seconds; None is the recording's."""
    chapters: str | None
    """Regular expression for the titles of wanted chapters; None if titles do not matter."""

    @classmethod
    def from_config(cls, config: FetchConfig) -> WantedParts:
        """Return the parts that a configuration asks for.

        Raises:
            UserError: The options are invalid, or contradict each other.
        """
        start = 0.0 if config.start is None else parse_time(config.start)
        end = None if config.end is None else parse_time(config.end)
        if end is not None and end <= start:
            raise UserError(f"--end {config.end} is not after the start ({config.start or 0})")
        if config.chapters is None:
            return cls(start, end, None)
        if start or end is not None:
            raise UserError("--chapters together with --start or --end: give one or the other")
        try:
            check_pattern(config.chapters)
        except PatternError as error:
            raise UserError(f"--chapters {sanitize(config.chapters)}: {error}") from error
        return cls(start, end, config.chapters)

    def select(
        self, chapters: tuple[Chapter, ...], duration: float | None
    ) -> tuple[tuple[tuple[float, float | None], ...], str | None]:
        """Select the wanted cuts of one recording.

        Returns:
            (start, end) of each cut in seconds, empty for the whole; and the reason if nothing of
            the recording is wanted, else None.
        """
        if self.chapters is not None:
            return self._select_chapters(self.chapters, chapters, duration)
        if duration and self.start >= duration:
            return (), f"it ends ({duration:.1f} s) before --start"
        end = self.end
        if end is not None and duration and end >= duration:
            end = None
        return ((self.start, end),) if self.start or end is not None else (), None

    @staticmethod
    def _select_chapters(
        pattern: str, chapters: tuple[Chapter, ...], duration: float | None
    ) -> tuple[tuple[tuple[float, float | None], ...], str | None]:
        cuts = []
        titles = [chapter.title for chapter in chapters]
        try:
            is_wanted = search_texts(pattern, titles)
        except PatternError as error:
            return (), f"--chapters {sanitize(pattern)}: {error}"
        for chapter, wanted in zip(chapters, is_wanted, strict=True):
            if wanted:
                is_last = bool(duration) and chapter.end >= duration
                cuts.append((chapter.start, None if is_last else chapter.end))
        if cuts:
            return tuple(cuts), None
        listed = ", ".join(titles[:_MAX_TITLES]) or "it has none"
        return (), f"no chapter matches {sanitize(pattern)}: {listed}"


def parse_chapters(items: Any) -> tuple[Chapter, ...]:
    """Return the valid chapters of yt-dlp's information, at most `_MAX_CHAPTERS`."""
    chapters = []
    for item in (items or [])[:_MAX_CHAPTERS]:
        start = parse_seconds(item.get("start_time"))
        end = parse_seconds(item.get("end_time"))
        if start is not None and end is not None and start < end:
            chapters.append(Chapter(to_line(str(item.get("title") or "")), start, end))
    return tuple(chapters)


def parse_seconds(value: Any) -> float | None:
    """Return a time of yt-dlp's information in seconds; None if it is invalid."""
    is_valid = isinstance(value, int | float) and 0 <= value < _MAX_SECONDS
    return float(value) if is_valid else None
