"""Recordings from links: videos, podcasts, playlists, plain files; through yt-dlp, sound only,
nothing re-encoded."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av

from rvc_jax.config import FetchConfig
from rvc_jax.data.fetch.errors import explain
from rvc_jax.data.fetch.sidecar import (
    SIDECAR_SUFFIX,
    Chapter,
    Sidecar,
    read_sidecar,
    write_sidecar,
)
from rvc_jax.data.timecode import parse_time
from rvc_jax.errors import UserError
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage.files import file_sha256

if TYPE_CHECKING:
    from rvc_jax.data.fetch.ytdlp import Client

_DEPTH = 5
"""Playlists in playlists that are followed."""
_NAMELESS = "Generic"
"""The extractor for what is no site: its names for recordings are the same for many."""
_MOST_CHAPTERS = 1000
_LONGEST_TEXT = 300
_NOT_ENDED = "a live stream that has not ended: fetch it when there is a recording"


@dataclasses.dataclass(frozen=True)
class FetchedRecording:
    """A recording in the folder."""

    path: Path
    note: Sidecar
    new: bool
    """False if it had been there before."""

    @property
    def seconds(self) -> float:
        """Length of what is wanted of it; 0 if unknown."""
        end = self.note.duration or 0.0
        parts = self.note.cuts or ((0.0, None),)
        return sum(max(0.0, (end if stop is None else stop) - start) for start, stop in parts)


@dataclasses.dataclass(frozen=True)
class SkippedRecording:
    """A recording that could not be fetched, or of which nothing is wanted."""

    name: str
    link: str
    reason: str


@dataclasses.dataclass(frozen=True)
class FetchResult:
    """What became of the links."""

    folder: Path
    files: tuple[FetchedRecording, ...]
    skipped: tuple[SkippedRecording, ...]

    @property
    def minutes(self) -> float:
        return sum(file.seconds for file in self.files) / 60


def fetch(
    links: Iterable[str],
    folder: Path | str,
    config: FetchConfig | None = None,
    reporter: Reporter | None = None,
) -> FetchResult:
    """Fetch the recordings that links lead to into a folder, each with a `NAME.source.json` beside
    it.

    These notes are the archive: what has one is not fetched again. A file gets its name when it is
    whole, and its note after that, so a fetch can be ended at any moment, and the next one
    continues. What cannot be had is skipped.

    Args:
      links: to recordings, playlists, podcast feeds, or pages with recordings in them; http and
          https only.
      reporter: receives how far the current file is.

    Raises:
      UserError: an option or a link that makes no sense, a full disk, or nothing could be fetched
          at all.
    """
    config = config or FetchConfig()
    links = [link.strip() for link in links]
    if not links:
        raise UserError("nothing to fetch: give one link or more")
    for limit in ("timeout", "max_gigabytes", "max_hours", "max_files"):
        if not getattr(config, limit) > 0:
            raise UserError(
                f"--{limit.replace('_', '-')} {getattr(config, limit)}: must be more than 0"
            )
    if config.retries < 0:
        raise UserError(f"--retries {config.retries}: must not be negative")
    try:
        return _Fetch(Path(folder), config, reporter or SILENT).run(links)
    except OSError as error:
        raise UserError(
            f"{error.filename or folder} cannot be written: {error.strerror or error}"
        ) from error


class _Fetch:
    """One call of `fetch`."""

    def __init__(self, folder: Path, config: FetchConfig, reporter: Reporter) -> None:
        from rvc_jax.data.fetch.ytdlp import Log

        self._folder = folder
        self._config = config
        self._reporter = reporter
        self._wanted = _Wanted.of(config)
        self._files: dict[Path, FetchedRecording] = {}
        self._skipped: list[SkippedRecording] = []
        self._log = Log()
        self._stack = contextlib.ExitStack()
        self._started: Client | None = None
        self._entries = 0

    def run(self, links: list[str]) -> FetchResult:
        self._archive = _Archive(self._folder)
        self._check(links)
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._stack:
            for link in links:
                self._entries = 0
                self._follow(link, {}, _DEPTH)
        if not self._files:
            name, reason = (
                (self._skipped[0].link, self._skipped[0].reason)
                if self._skipped
                else (links[0], "empty")
            )
            others = f" (and {len(self._skipped) - 1} others)" if len(self._skipped) > 1 else ""
            raise UserError(f"nothing was fetched: {name}: {reason}{others}")
        return FetchResult(self._folder, tuple(self._files.values()), tuple(self._skipped))

    def _check(self, links: list[str]) -> None:
        """Refuse links before anything is fetched; of those that are in the folder nothing is asked
        for."""
        from rvc_jax.data.fetch.network_guard import RefusedError, check_link
        from rvc_jax.data.fetch.ytdlp import clean_link

        try:
            for link in links:
                if not self._archive.find(clean_link(link)):
                    check_link(link, self._config.allow_private_addresses)
        except RefusedError as error:
            raise UserError(str(error)) from error

    def _client(self) -> Client:
        """yt-dlp, once there is something to ask it."""
        if self._started is None:
            from rvc_jax.data.fetch.ytdlp import Client

            self._started = self._stack.enter_context(
                Client(self._folder, self._config, self._log, self._progress)
            )
        return self._started

    def _follow(self, link: str, told: dict[str, Any], depth: int) -> None:
        """Fetch what a link leads to; `told` is what the page with the link says of it."""
        from rvc_jax.data.fetch.network_guard import limit_cpu_time
        from rvc_jax.data.fetch.ytdlp import clean_link

        plain = clean_link(link)
        extractor = told.get("ie_key")
        name = str(told.get("title") or told.get("link_title") or plain)
        if known := self._archive.find(plain) or self._archive.find(
            _key(extractor, told.get("id"))
        ):
            self._keep(*known)
        elif depth < 0:
            self._skip(name, plain, "playlists in playlists, without an end")
        else:
            with self._failing(name, plain):
                with limit_cpu_time():
                    info = self._client().extract_info(
                        link, download=False, process=False, ie_key=extractor
                    )
                self._take(info or {"_type": "playlist", "entries": []}, told, plain, depth)

    def _take(self, info: dict[str, Any], told: dict[str, Any], link: str, depth: int) -> None:
        """Fetch what yt-dlp found at a link: a recording, a link to follow, or a playlist."""
        kind = info.get("_type", "video")
        if kind == "video":
            self._recording({**info, **_without_place(told)}, link)
        elif kind in ("url", "url_transparent"):
            # "Transparent": what the page says of a recording goes before what the recording says
            # of itself.
            own = {
                **_without_place(info if kind == "url_transparent" else {}),
                **_without_place(told),
            }
            own |= {"link_title": info.get("title"), "ie_key": info.get("ie_key")}
            if kind == "url":
                own["id"] = info.get("id")
            self._follow(info["url"], own, depth - 1)
        elif depth > 0:
            self._playlist(info, link, depth)
        else:
            self._skip(
                str(info.get("title") or link), link, "playlists in playlists, without an end"
            )

    def _playlist(self, info: dict[str, Any], link: str, depth: int) -> None:
        page = {key: info.get(key) for key in ("extractor", "extractor_key", "webpage_url")}
        title = str(info.get("title") or link)
        most = self._config.max_files
        empty = True
        for number, entry in self._client().entries(info):
            empty = False
            self._entries += 1
            if self._entries > most:
                self._skip(
                    title, link, f"only the first {most} recordings are fetched (--max-files)"
                )
                break
            if not entry:
                self._skip(f"entry {number} of {title}", link, "removed, or not for everybody")
                continue
            place = _media_link(entry) or f"{link}#{number}"
            with self._failing(str(entry.get("title") or place), place):
                self._take({**page, **entry}, {}, place, depth - 1)
        if empty:
            self._skip(title, link, "there is nothing in it")

    def _recording(self, info: dict[str, Any], link: str) -> None:
        """Fetch one recording of which everything is known."""
        from rvc_jax.data.fetch.ytdlp import NAME_FIELD

        title = _printable(str(info.get("title") or info.get("id") or link))
        if not self._client().has_recording_ids(info.get("extractor_key")):
            info["extractor_key"] = _NAMELESS
        if known := self._archive.find(link) or self._archive.find(
            _key(info.get("extractor_key"), info.get("id"))
        ):
            self._keep(*known)
            return
        chapters = _chapters(info.get("chapters"))
        _, reason = self._wanted.parts(chapters, _seconds(info.get("duration")))
        if info.get("is_live") or info.get("live_status") in ("is_live", "is_upcoming"):
            reason = _NOT_ENDED
        if reason:
            self._skip(title, link, reason)
            return
        info[NAME_FIELD] = _file_name(title, info, link)
        self._reporter.progress("fetch", 0, 1, title)
        done = self._client().process_ie_result(info, download=True)
        path = Path(done["requested_downloads"][-1].get("filepath") or "")
        if not path.is_file():
            self._skip(title, link, explain(self._log.last))
            return
        duration = _sound_seconds(path)
        cuts, reason = self._wanted.parts(chapters, duration or _seconds(done.get("duration")))
        if duration is None or reason:
            path.unlink()
            self._skip(title, link, reason or "there is no sound in the file")
        else:
            note = _note(done, link, title, path, duration or _seconds(done.get("duration")))
            self._done(
                FetchedRecording(
                    path, dataclasses.replace(note, chapters=chapters, cuts=cuts), new=True
                )
            )

    def _keep(self, path: Path, note: Sidecar) -> None:
        """A recording that is there already; what is wanted of it may have changed."""
        cuts, reason = self._wanted.parts(note.chapters, note.duration)
        if reason:
            self._skip(note.title, note.link, reason)
        elif path not in self._files:
            self._done(FetchedRecording(path, dataclasses.replace(note, cuts=cuts), new=False))

    def _done(self, file: FetchedRecording) -> None:
        write_sidecar(file.path, file.note)
        self._archive.add(file.path, file.note)
        self._files[file.path] = file
        self._reporter.progress("fetch", 1, 1, file.path.name)

    def _skip(self, name: str, link: str, reason: str) -> None:
        self._skipped.append(
            SkippedRecording(_printable(name), _printable(link), _printable(reason))
        )

    @contextlib.contextmanager
    def _failing(self, name: str, link: str) -> Iterator[None]:
        """What fails is one recording; a disk that fails, fails for all."""
        from rvc_jax.data.fetch.network_guard import RefusedError

        self._log.warnings.clear()
        try:
            yield
        except UserError:
            raise
        except RefusedError as error:
            self._skip(name, link, str(error))
        except Exception as error:  # extractors trip in any way over sites that have changed
            if "No space left on device" in str(error):
                raise UserError(
                    f"disk full: {self._folder}; free some space and run the same command again"
                ) from error
            if isinstance(error, OSError) and error.filename:
                raise
            own = type(error).__module__.startswith("yt_dlp")
            text = (
                str(error) if own else f"yt-dlp failed inside ({type(error).__name__}: {error})"
            )
            self._skip(name, link, explain(text, tuple(self._log.warnings)))

    def _progress(self, state: dict[str, Any]) -> None:
        """What yt-dlp calls after every block. Raises Refused for what becomes too large or takes
        too long."""
        from rvc_jax.data.fetch.network_guard import RefusedError

        done = state.get("downloaded_bytes") or 0
        total = state.get("total_bytes") or 0
        config = self._config
        reason = None
        if max(done, total) > config.max_gigabytes * 1e9:
            reason = f"larger than {config.max_gigabytes:g} GB (--max-gigabytes)"
        elif (state.get("elapsed") or 0) > config.max_hours * 3600:
            reason = f"not whole after {config.max_hours:g} hours: a stream without an end? (--max-hours)"
        if reason:
            for left in self._folder.glob(
                f"{Path(state.get('tmpfilename') or '').stem or 'nothing'}*"
            ):
                left.unlink()
            raise RefusedError(reason)
        total = total or state.get("total_bytes_estimate") or 0
        if state.get("status") != "downloading" or (total and done >= total):
            return  # that it is whole is told when it has its note
        name = Path(state.get("filename") or "").name
        shares = (min(done, total), int(total)) if total else (0, 1)
        self._reporter.progress("fetch", *shares, f"{name}, {done / 1e6:.1f} MB")


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """Which parts of the recordings are asked for."""

    start: float
    end: float | None
    chapters: re.Pattern[str] | None

    @classmethod
    def of(cls, config: FetchConfig) -> _Wanted:
        start = 0.0 if config.start is None else parse_time(config.start)
        end = None if config.end is None else parse_time(config.end)
        if end is not None and end <= start:
            raise UserError(f"--end {config.end} is not after the start ({config.start or 0})")
        if config.chapters is None:
            return cls(start, end, None)
        if start or end is not None:
            raise UserError("--chapters together with --start or --end: give one or the other")
        try:
            return cls(start, end, re.compile(config.chapters, re.IGNORECASE))
        except re.error as error:
            raise UserError(
                f"--chapters {config.chapters}: not a regular expression ({error})"
            ) from error

    def parts(
        self, chapters: tuple[Chapter, ...], duration: float | None
    ) -> tuple[tuple[tuple[float, float | None], ...], str | None]:
        """The parts of one recording (none: the whole), and the reason if there is nothing of it
        that is wanted."""
        if self.chapters is not None:
            ends = [
                None if duration and item.end >= duration else item.end for item in chapters
            ]
            parts = zip(chapters, ends, strict=True)
            found = tuple(
                (item.start, end) for item, end in parts if self.chapters.search(item.title)
            )
            titles = ", ".join(item.title for item in chapters[:10]) or "it has none"
            return (
                found,
                None if found else f"no chapter matches {self.chapters.pattern}: {titles}",
            )
        if duration and self.start >= duration:
            return (), f"it ends ({duration:.1f} s) before --start"
        end = None if self.end is not None and duration and self.end >= duration else self.end
        return ((self.start, end),) if self.start or end is not None else (), None


class _Archive:
    """The recordings of a folder, by their links and by their sites' names for them."""

    def __init__(self, folder: Path) -> None:
        self._found: dict[str, tuple[Path, Sidecar]] = {}
        for file in sorted(folder.glob(f"*{SIDECAR_SUFFIX}")):
            path = file.with_name(file.name.removesuffix(SIDECAR_SUFFIX))
            with contextlib.suppress(UserError):  # a damaged note: the recording gets a new one
                if path.is_file() and (note := read_sidecar(path)):
                    self.add(path, note)

    def add(self, path: Path, note: Sidecar) -> None:
        for key in (note.link, _key(note.extractor, note.id)):
            if key:
                self._found[key] = (path, note)

    def find(self, key: str | None) -> tuple[Path, Sidecar] | None:
        return self._found.get(key or "")


def _note(
    info: dict[str, Any], link: str, title: str, path: Path, duration: float | None
) -> Sidecar:
    from yt_dlp.version import __version__

    from rvc_jax.data.fetch.ytdlp import clean_link

    uploader = info.get("uploader") or info.get("channel") or info.get("creator")
    return Sidecar(
        link=link,
        page=clean_link(str(info.get("webpage_url") or link)),
        extractor=str(info.get("extractor_key")),
        id=str(info.get("id")),
        title=title,
        uploader=_printable(str(uploader)) if uploader else None,
        licence=_printable(str(info["license"])) if info.get("license") else None,
        duration=duration,
        fetched_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        sha256=file_sha256(path),
        yt_dlp=__version__,
    )


def _sound_seconds(path: Path) -> float | None:
    """Length of a file by its header, 0 if that does not tell; None if there is no sound in it."""
    try:
        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            if not container.streams.audio:
                return None
            return container.duration / av.time_base if container.duration else 0.0
    except av.FFmpegError:
        return None


def _file_name(title: str, info: dict[str, Any], link: str) -> str:
    """A name that any file system takes, telling and different for every recording: title and id in
    plain letters."""
    extractor = info.get("extractor_key")
    identity = str(info.get("id"))
    if not _key(extractor, identity) or not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", identity):
        identity = hashlib.sha256(f"{extractor} {identity} {link}".encode()).hexdigest()[:10]
    letters = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9]+", "-", letters)[:60].strip("-")
    return f"{slug or 'recording'}-{identity}"


def _key(extractor: str | None, identity: str | None) -> str | None:
    """What a recording is called whatever link led to it; None where the extractor has no names of
    its own."""
    return (
        f"{extractor} {identity}" if extractor and identity and extractor != _NAMELESS else None
    )


def _without_place(info: dict[str, Any]) -> dict[str, Any]:
    """What a page says of a recording, but for where it is and what it is called there."""
    place = (
        "_type",
        "url",
        "link_title",
        "ie_key",
        "id",
        "extractor",
        "extractor_key",
        "webpage_url",
        "original_url",
    )
    return {key: value for key, value in info.items() if value is not None and key not in place}


def _media_link(entry: dict[str, Any]) -> str | None:
    """Where the sound itself is. Recordings of one page need links of their own, or they would pass
    for one."""
    formats = entry.get("formats") or [entry]
    link = formats[-1].get("url")
    return link if isinstance(link, str) and link.startswith("http") else None


def _chapters(found: Any) -> tuple[Chapter, ...]:
    chapters = []
    for item in (found or [])[:_MOST_CHAPTERS]:
        start = _seconds(item.get("start_time"))
        end = _seconds(item.get("end_time"))
        if start is not None and end is not None and start < end:
            chapters.append(Chapter(_printable(str(item.get("title") or "")), start, end))
    return tuple(chapters)


def _seconds(value: Any) -> float | None:
    usable = isinstance(value, int | float) and 0 <= value < 1e7
    return float(value) if usable else None


def _printable(text: str) -> str:
    """One line, of a length to look at."""
    text = " ".join(
        "".join(character if character.isprintable() else " " for character in text).split()
    )
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
