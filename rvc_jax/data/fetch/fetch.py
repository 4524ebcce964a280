"""Fetch recordings from links: videos, podcasts, playlists, plain files.

Through yt-dlp, sound only; nothing is re-encoded.
"""

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
from av.error import FFmpegError

from rvc_jax.config import FetchConfig, option
from rvc_jax.data.fetch.errors import explain
from rvc_jax.data.fetch.sidecar import (
    NO_SITE,
    Archive,
    Chapter,
    Sidecar,
    make_recording_key,
    write_sidecar,
)
from rvc_jax.data.timecode import parse_time
from rvc_jax.errors import UserError, describe_os_error
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage.files import disk_full, file_sha256

if TYPE_CHECKING:
    from rvc_jax.data.fetch.ytdlp import Client

_MAX_DEPTH = 5
"""Levels of playlists in playlists that are followed."""
_MAX_CHAPTERS = 1000
_MAX_SECONDS = 1e7
_MAX_TEXT = 300
_MAX_TITLES = 10
_NOT_ENDED = "a live stream that has not ended: fetch it when there is a recording"
_ENDLESS = "playlists in playlists, without an end"
_PLACE_KEYS = frozenset(
    (
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
)
"""Keys of yt-dlp's information that say where a recording is, not what it is."""


@dataclasses.dataclass(frozen=True)
class FetchedRecording:
    """A recording in the folder."""

    path: Path
    sidecar: Sidecar
    new: bool
    """False if it was there before."""

    @property
    def seconds(self) -> float:
        """Length of its wanted cuts; 0 if unknown."""
        end = self.sidecar.duration or 0.0
        cuts = self.sidecar.cuts or ((0.0, None),)
        return sum(max(0.0, (end if stop is None else stop) - start) for start, stop in cuts)


@dataclasses.dataclass(frozen=True)
class SkippedRecording:
    """A recording that could not be fetched, or of which nothing is wanted."""

    name: str
    link: str
    reason: str


@dataclasses.dataclass(frozen=True)
class FetchResult:
    """What the links gave."""

    folder: Path
    files: tuple[FetchedRecording, ...]
    skipped: tuple[SkippedRecording, ...]

    @property
    def minutes(self) -> float:
        """Length of all wanted cuts."""
        return sum(file.seconds for file in self.files) / 60


def fetch(
    links: Iterable[str],
    folder: Path | str,
    config: FetchConfig | None = None,
    reporter: Reporter = SILENT,
) -> FetchResult:
    """Fetch recordings into a folder, each with a sidecar `NAME.source.json`.

    The sidecars are the archive: a recording that has one is not fetched again. A file gets its
    name once it is whole, and its sidecar after that, so an interrupted fetch can be continued.
    Recordings that cannot be fetched are skipped.

    Args:
        links: Links to recordings, playlists, podcast feeds, or pages with recordings in them;
            http and https only.
        folder: Where the recordings go; made if it is missing.
        config: How to fetch.
        reporter: Receives the progress of the current file.

    Raises:
        UserError: An option or a link is invalid; the disk is full; or nothing could be fetched.
    """
    config = config or FetchConfig()
    links = [link.strip() for link in links]
    if not links:
        raise UserError("nothing to fetch: give one link or more")
    for limit in ("timeout", "max_gigabytes", "max_hours", "max_files"):
        value = getattr(config, limit)
        if not value > 0:  # NaN is refused, too
            raise UserError(f"{option(limit)} {value}: must be more than 0")
    if config.retries < 0:
        raise UserError(f"--retries {config.retries}: must not be negative")
    try:
        return _FetchRun(Path(folder), config, reporter).run(links)
    except OSError as error:
        place = error.filename or folder
        raise UserError(f"{place} cannot be written: {describe_os_error(error)}") from error


class _FetchRun:
    """The state of one call of `fetch`. yt-dlp is imported when there is something to ask it."""

    def __init__(self, folder: Path, config: FetchConfig, reporter: Reporter) -> None:
        from rvc_jax.data.fetch.ytdlp import Log

        self._folder = folder
        self._config = config
        self._reporter = reporter
        self._wanted = _WantedParts.from_config(config)
        self._archive = Archive(folder)
        self._files: dict[Path, FetchedRecording] = {}
        self._skipped: list[SkippedRecording] = []
        self._log = Log()
        self._stack = contextlib.ExitStack()
        self._started_client: Client | None = None
        self._entries = 0

    def run(self, links: list[str]) -> FetchResult:
        self._check_links(links)
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._stack:
            for link in links:
                self._entries = 0
                self._follow(link, {}, _MAX_DEPTH)
        if not self._files:
            raise self._nothing_fetched(links)
        return FetchResult(self._folder, tuple(self._files.values()), tuple(self._skipped))

    def _nothing_fetched(self, links: list[str]) -> UserError:
        if not self._skipped:
            return UserError(f"nothing was fetched: {links[0]}: empty")
        first = self._skipped[0]
        rest = len(self._skipped) - 1
        others = f" (and {rest} others)" if rest else ""
        return UserError(f"nothing was fetched: {first.link}: {first.reason}{others}")

    def _check_links(self, links: list[str]) -> None:
        """Refuse bad links before anything is fetched. Links in the archive need no network."""
        from rvc_jax.data.fetch.network_guard import RefusedError, check_link
        from rvc_jax.data.fetch.ytdlp import clean_link

        try:
            for link in links:
                if not self._archive.find(clean_link(link)):
                    check_link(link, self._config.allow_private_addresses)
        except RefusedError as error:
            raise UserError(str(error)) from error

    def _client(self) -> Client:
        """Return yt-dlp, started on the first call."""
        if self._started_client is None:
            from rvc_jax.data.fetch.ytdlp import Client

            client = Client(self._folder, self._config, self._log, self._on_block)
            self._started_client = self._stack.enter_context(client)
        return self._started_client

    def _follow(self, link: str, page_info: dict[str, Any], depth: int) -> None:
        """Fetch what a link leads to; `page_info` is what the page with the link says of it."""
        from rvc_jax.data.fetch.network_guard import limit_cpu_time
        from rvc_jax.data.fetch.ytdlp import clean_link

        clean = clean_link(link)
        extractor = page_info.get("ie_key")
        name = str(page_info.get("title") or page_info.get("link_title") or clean)
        known = self._archive.find(clean, make_recording_key(extractor, page_info.get("id")))
        if known:
            self._reuse(*known)
        elif depth < 0:
            self._skip(name, clean, _ENDLESS)
        else:
            with self._skip_on_error(name, clean):
                with limit_cpu_time():
                    info: Any = self._client().extract_info(
                        link, download=False, process=False, ie_key=extractor
                    )
                self._fetch_found(
                    info or {"_type": "playlist", "entries": []}, page_info, clean, depth
                )

    def _fetch_found(
        self, info: dict[str, Any], page_info: dict[str, Any], link: str, depth: int
    ) -> None:
        """Fetch what yt-dlp found at a link: a recording, a link to follow, or a playlist."""
        kind = info.get("_type", "video")
        if kind == "video":
            self._fetch_recording({**info, **_drop_place(page_info)}, link)
        elif kind in ("url", "url_transparent"):
            # "Transparent": the page's information overrides the recording's own.
            own = _drop_place(info) if kind == "url_transparent" else {}
            own |= _drop_place(page_info)
            own |= {"link_title": info.get("title"), "ie_key": info.get("ie_key")}
            if kind == "url":
                own["id"] = info.get("id")
            self._follow(info["url"], own, depth - 1)
        elif depth > 0:
            self._fetch_playlist(info, link, depth)
        else:
            self._skip(str(info.get("title") or link), link, _ENDLESS)

    def _fetch_playlist(self, info: dict[str, Any], link: str, depth: int) -> None:
        page = {key: info.get(key) for key in ("extractor", "extractor_key", "webpage_url")}
        title = str(info.get("title") or link)
        limit = self._config.max_files
        is_empty = True
        for number, entry in self._client().entries(info):
            is_empty = False
            self._entries += 1
            if self._entries > limit:
                reason = f"only the first {limit} recordings are fetched (--max-files)"
                self._skip(title, link, reason)
                break
            if not entry:
                self._skip(f"entry {number} of {title}", link, "removed, or not for everybody")
                continue
            entry_link = _find_media_link(entry) or f"{link}#{number}"
            with self._skip_on_error(str(entry.get("title") or entry_link), entry_link):
                self._fetch_found({**page, **entry}, {}, entry_link, depth - 1)
        if is_empty:
            self._skip(title, link, "there is nothing in it")

    def _fetch_recording(self, info: dict[str, Any], link: str) -> None:
        """Fetch one recording whose information is complete."""
        from rvc_jax.data.fetch.ytdlp import NAME_FIELD

        title = _to_line(str(info.get("title") or info.get("id") or link))
        if not self._client().has_recording_ids(info.get("extractor_key")):
            info["extractor_key"] = NO_SITE
        key = make_recording_key(info.get("extractor_key"), info.get("id"))
        known = self._archive.find(link, key)
        if known:
            self._reuse(*known)
            return
        chapters = _parse_chapters(info.get("chapters"))
        _, reason = self._wanted.select(chapters, _parse_seconds(info.get("duration")))
        if info.get("is_live") or info.get("live_status") in ("is_live", "is_upcoming"):
            reason = _NOT_ENDED
        if reason:
            self._skip(title, link, reason)
            return
        info[NAME_FIELD] = make_file_name(title, info, link)
        self._reporter.progress("fetch", 0, 1, title)
        known_info: Any = info
        done: Any = self._client().process_ie_result(known_info, download=True)
        path = Path(done["requested_downloads"][-1].get("filepath") or "")
        if not path.is_file():
            self._skip(title, link, explain(self._log.last))
            return
        # Only the file itself says how long it is: select again, with its length.
        measured = _read_audio_seconds(path)
        duration = measured or _parse_seconds(done.get("duration"))
        cuts, reason = self._wanted.select(chapters, duration)
        if measured is None or reason:
            path.unlink()
            self._skip(title, link, reason or "there is no sound in the file")
            return
        sidecar = _make_sidecar(done, link, title, path, duration)
        sidecar = dataclasses.replace(sidecar, chapters=chapters, cuts=cuts)
        self._add(FetchedRecording(path, sidecar, new=True))

    def _reuse(self, path: Path, sidecar: Sidecar) -> None:
        """Take a recording that is there already; its wanted cuts may have changed."""
        cuts, reason = self._wanted.select(sidecar.chapters, sidecar.duration)
        if reason:
            self._skip(sidecar.title, sidecar.link, reason)
        elif path not in self._files:
            sidecar = dataclasses.replace(sidecar, cuts=cuts)
            self._add(FetchedRecording(path, sidecar, new=False))

    def _add(self, file: FetchedRecording) -> None:
        write_sidecar(file.path, file.sidecar)
        self._archive.add(file.path, file.sidecar)
        self._files[file.path] = file
        self._reporter.progress("fetch", 1, 1, file.path.name)

    def _skip(self, name: str, link: str, reason: str) -> None:
        skipped = SkippedRecording(_to_line(name), _to_line(link), _to_line(reason))
        self._skipped.append(skipped)

    @contextlib.contextmanager
    def _skip_on_error(self, name: str, link: str) -> Iterator[None]:
        """Skip the recording whose fetch fails in the block. A failing disk ends the whole run."""
        from rvc_jax.data.fetch.network_guard import RefusedError

        self._log.warnings.clear()
        try:
            yield
        except UserError:
            raise
        except RefusedError as error:
            self._skip(name, link, str(error))
        except Exception as error:  # extractors fail in any way on sites that have changed
            if disk_full(error):
                raise UserError(
                    f"disk full: {self._folder}; free some space and run the same command again"
                ) from error
            if isinstance(error, OSError) and error.filename:
                raise
            text = str(error)
            if not type(error).__module__.startswith("yt_dlp"):
                text = f"yt-dlp failed inside ({type(error).__name__}: {error})"
            self._skip(name, link, explain(text, tuple(self._log.warnings)))

    def _on_block(self, state: dict[str, Any]) -> None:
        """Report progress after a block of a transfer, and stop transfers beyond the limits.

        Raises RefusedError.
        """
        from rvc_jax.data.fetch.network_guard import RefusedError

        done = state.get("downloaded_bytes") or 0
        total = state.get("total_bytes") or 0
        reason = self._find_exceeded_limit(max(done, total), state.get("elapsed") or 0)
        if reason:
            stem = Path(state.get("tmpfilename") or "").stem or "nothing"
            for part in self._folder.glob(f"{stem}*"):
                part.unlink()
            raise RefusedError(reason)
        total = total or state.get("total_bytes_estimate") or 0
        if state.get("status") != "downloading" or (total and done >= total):
            return  # completion is reported with the sidecar
        name = Path(state.get("filename") or "").name
        text = f"{name}, {done / 1e6:.1f} MB"
        if total:
            self._reporter.progress("fetch", min(done, total), int(total), text)
        else:
            self._reporter.progress("fetch", 0, 1, text)

    def _find_exceeded_limit(self, size: float, seconds: float) -> str | None:
        config = self._config
        if size > config.max_gigabytes * 1e9:
            return f"larger than {config.max_gigabytes:g} GB (--max-gigabytes)"
        if seconds > config.max_hours * 3600:
            hours = f"{config.max_hours:g} hours"
            return f"not whole after {hours}: a stream without an end? (--max-hours)"
        return None


@dataclasses.dataclass(frozen=True)
class _WantedParts:
    """Which parts of the recordings are asked for."""

    start: float
    end: float | None
    chapters: re.Pattern[str] | None

    @classmethod
    def from_config(cls, config: FetchConfig) -> _WantedParts:
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
        pattern: re.Pattern[str], chapters: tuple[Chapter, ...], duration: float | None
    ) -> tuple[tuple[tuple[float, float | None], ...], str | None]:
        cuts = []
        for chapter in chapters:
            if pattern.search(chapter.title):
                is_last = bool(duration) and chapter.end >= duration
                cuts.append((chapter.start, None if is_last else chapter.end))
        if cuts:
            return tuple(cuts), None
        titles = ", ".join(chapter.title for chapter in chapters[:_MAX_TITLES]) or "it has none"
        return (), f"no chapter matches {pattern.pattern}: {titles}"


def _make_sidecar(
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
        uploader=_to_line(str(uploader)) if uploader else None,
        licence=_to_line(str(info["license"])) if info.get("license") else None,
        duration=duration,
        fetched_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        sha256=file_sha256(path),
        yt_dlp=__version__,
    )


def _read_audio_seconds(path: Path) -> float | None:
    """Return a file's length from its header; 0 if unknown, None if it has no audio."""
    try:
        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            if not container.streams.audio:
                return None
            return container.duration / av.time_base if container.duration else 0.0
    except FFmpegError:
        return None


def make_file_name(title: str, info: dict[str, Any], link: str) -> str:
    """Return a file name for any file system: title and id in ASCII, unique per recording."""
    extractor = info.get("extractor_key")
    identity = str(info.get("id"))
    has_key = make_recording_key(extractor, identity) is not None
    if not has_key or not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", identity):
        identity = hashlib.sha256(f"{extractor} {identity} {link}".encode()).hexdigest()[:10]
    letters = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9]+", "-", letters)[:60].strip("-")
    return f"{slug or 'recording'}-{identity}"


def _drop_place(info: dict[str, Any]) -> dict[str, Any]:
    """Return what a page says of a recording, without where it is and its names there."""
    return {
        key: value
        for key, value in info.items()
        if value is not None and key not in _PLACE_KEYS
    }


def _find_media_link(entry: dict[str, Any]) -> str | None:
    """Return the link of the media itself.

    Recordings on one page need links of their own, or the archive would take them for one.
    """
    formats = entry.get("formats") or [entry]
    link = formats[-1].get("url")
    return link if isinstance(link, str) and link.startswith("http") else None


def _parse_chapters(items: Any) -> tuple[Chapter, ...]:
    """Return the valid chapters of yt-dlp's information, at most `_MAX_CHAPTERS`."""
    chapters = []
    for item in (items or [])[:_MAX_CHAPTERS]:
        start = _parse_seconds(item.get("start_time"))
        end = _parse_seconds(item.get("end_time"))
        if start is not None and end is not None and start < end:
            chapters.append(Chapter(_to_line(str(item.get("title") or "")), start, end))
    return tuple(chapters)


def _parse_seconds(value: Any) -> float | None:
    is_valid = isinstance(value, int | float) and 0 <= value < _MAX_SECONDS
    return float(value) if is_valid else None


def _to_line(text: str) -> str:
    """Return text as one printable line of at most `_MAX_TEXT` characters."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
