"""Fetch recordings from links: videos, podcasts, playlists, plain files.

Through yt-dlp, sound only; nothing is re-encoded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rvc_jax.audio.tracks import read_header_seconds
from rvc_jax.config import FetchConfig, option
from rvc_jax.data.fetch.cookies import CookieFile, read_cookies
from rvc_jax.data.fetch.errors import explain
from rvc_jax.data.fetch.information import (
    drop_place,
    find_media_link,
    make_file_name,
    make_sidecar,
    to_line,
)
from rvc_jax.data.fetch.parts import WantedParts, parse_chapters, parse_seconds
from rvc_jax.data.fetch.sidecar import (
    NO_SITE,
    Archive,
    Sidecar,
    make_recording_key,
    write_sidecar,
)
from rvc_jax.errors import UserError, describe_os_error
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage.environment import check_online
from rvc_jax.storage.files import disk_full
from rvc_jax.storage.locks import lock_folder

if TYPE_CHECKING:
    from rvc_jax.data.fetch.ytdlp import Client

_MAX_DEPTH = 5
"""Levels of playlists in playlists that are followed."""
_NOT_ENDED = "a live stream that has not ended: fetch it when there is a recording"
_ENDLESS = "playlists in playlists, without an end"


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
        self._wanted = WantedParts.from_config(config)
        self._archive = Archive(folder)
        self._files: dict[Path, FetchedRecording] = {}
        self._skipped: list[SkippedRecording] = []
        self._log = Log()
        self._stack = contextlib.ExitStack()
        self._started_client: Client | None = None
        self._entries = 0
        self._refused = ""
        """Name of the file whose transfer was stopped."""
        self._cookies: CookieFile | None = None

    def run(self, links: list[str]) -> FetchResult:
        self._check_links(links)
        self._folder.mkdir(parents=True, exist_ok=True)
        advice = "wait until it is done, or fetch into another folder with --out"
        lock = lock_folder(self._folder, f"the folder {self._folder}", advice, self._reporter)
        with lock, self._stack:
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
                    check_online(link)
                    check_link(link, self._config.allow_private_addresses)
        except RefusedError as error:
            raise UserError(str(error)) from error

    def _client(self) -> Client:
        """Return yt-dlp, started on the first call."""
        if self._started_client is None:
            from rvc_jax.data.fetch.ytdlp import Client

            if self._config.cookies is not None:
                self._cookies = read_cookies(self._config.cookies)
            client = Client(
                self._folder, self._config, self._log, self._on_block, self._cookies
            )
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
            self._fetch_recording({**info, **drop_place(page_info)}, link)
        elif kind in ("url", "url_transparent"):
            # "Transparent": the page's information overrides the recording's own.
            own = drop_place(info) if kind == "url_transparent" else {}
            own |= drop_place(page_info)
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
            entry_link = find_media_link(entry) or f"{link}#{number}"
            with self._skip_on_error(str(entry.get("title") or entry_link), entry_link):
                self._fetch_found({**page, **entry}, {}, entry_link, depth - 1)
        if is_empty:
            self._skip(title, link, "there is nothing in it")

    def _fetch_recording(self, info: dict[str, Any], link: str) -> None:
        """Fetch one recording whose information is complete."""
        from rvc_jax.data.fetch.ytdlp import NAME_FIELD

        title = to_line(str(info.get("title") or info.get("id") or link))
        if not self._client().has_recording_ids(info.get("extractor_key")):
            info["extractor_key"] = NO_SITE
        key = make_recording_key(info.get("extractor_key"), info.get("id"))
        known = self._archive.find(link, key)
        if known:
            self._reuse(*known)
            return
        chapters = parse_chapters(info.get("chapters"))
        _, reason = self._wanted.select(chapters, parse_seconds(info.get("duration")))
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
            self._skip(title, link, self._explain(self._log.last, link))
            return
        # Only the file itself says how long it is: select again, with its length.
        measured = read_header_seconds(path)
        duration = measured or parse_seconds(done.get("duration"))
        cuts, reason = self._wanted.select(chapters, duration)
        if measured is None or reason:
            path.unlink()
            self._skip(title, link, reason or "there is no sound in the file")
            return
        sidecar = make_sidecar(done, link, title, path, duration)
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
        skipped = SkippedRecording(to_line(name), to_line(link), to_line(reason))
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
            self._remove_refused()
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
            self._skip(name, link, self._explain(text, link))

    def _explain(self, text: str, link: str) -> str:
        """Return the reason and the advice for one of yt-dlp's messages."""
        extractor = re.search(r"\[([\w:.-]+)\]", text)
        about_cookies = self._cookies and self._cookies.explain_refusal(
            link, extractor[1] if extractor else None
        )
        return explain(text, tuple(self._log.warnings), about_cookies)

    def _on_block(self, state: dict[str, Any]) -> None:
        """Report progress after a block of a transfer, and stop transfers beyond the limits.

        Raises RefusedError.
        """
        from rvc_jax.data.fetch.network_guard import RefusedError

        done = state.get("downloaded_bytes") or 0
        total = state.get("total_bytes") or 0
        reason = self._find_exceeded_limit(max(done, total), state.get("elapsed") or 0)
        if reason:
            self._refused = Path(state.get("filename") or "").name
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

    def _remove_refused(self) -> None:
        """Remove the parts of the recording whose transfer was stopped: nobody continues it."""
        if self._refused:
            for part in self._folder.glob(f"{glob.escape(self._refused)}*"):
                part.unlink(missing_ok=True)
        self._refused = ""

    def _find_exceeded_limit(self, size: float, seconds: float) -> str | None:
        config = self._config
        if size > config.max_gigabytes * 1e9:
            return f"larger than {config.max_gigabytes:g} GB (--max-gigabytes)"
        if seconds > config.max_hours * 3600:
            hours = f"{config.max_hours:g} hours"
            return f"not whole after {hours}: a stream without an end? (--max-hours)"
        return None
