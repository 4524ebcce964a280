"""yt-dlp as used here: one network handler, sound only, file names of our own, no user set-up.

Neither plug-ins nor configuration files are read, and ffmpeg counts as missing. Where deno is
installed, yt-dlp lets it solve YouTube's challenges in its sandbox; no other program is started,
except to read a browser's cookies.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# yt-dlp looks for plug-ins when it is imported, and reads this variable before.
os.environ["YTDLP_NO_PLUGINS"] = "1"

import yt_dlp
from yt_dlp.cookies import SUPPORTED_BROWSERS, CookieLoadError
from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor
from yt_dlp.utils import DownloadError, PlaylistEntries, unsmuggle_url

from rvc_jax.audio.reading import AUDIO_EXTENSIONS
from rvc_jax.data.fetch.cookies import CookieFile
from rvc_jax.data.fetch.errors import explain
from rvc_jax.data.fetch.network_guard import GuardedRH
from rvc_jax.errors import UserError
from rvc_jax.storage.environment import cache_dir

if TYPE_CHECKING:
    from rvc_jax.config import FetchConfig

NAME_FIELD = "rvc_jax_name"
"""Key in a recording's information for the name of its file, without the extension."""

_PROTOCOLS = ("http", "https", "m3u8", "m3u8_native", "http_dash_segments")
"""The yt-dlp protocols that need no other program."""
_OTHER_EXTENSION = "mka"
"""Extension for files of any other format: decoders go by the content."""
_MAX_WARNINGS = 20


class Log:
    """Collects yt-dlp's remarks: not shown, but some explain a later failure."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.last = ""

    def debug(self, text: str) -> None:
        """Ignore a debug message."""

    info = debug

    def warning(self, text: str) -> None:
        """Keep a warning, and the last ones before it."""
        self.warnings = [*self.warnings[-_MAX_WARNINGS:], text]

    def error(self, text: str) -> None:
        """Keep the last error."""
        self.last = text


class Client(yt_dlp.YoutubeDL):
    """A yt-dlp that saves into one folder.

    Args:
        folder: Where recordings go.
        config: How to fetch.
        log: Receives yt-dlp's remarks.
        on_block: Called after every block of a transfer, with yt-dlp's state of it.
        cookies: The cookies of the file that the configuration names.

    Raises:
        UserError: Cookies cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        config: FetchConfig,
        log: Log,
        on_block: Callable[[dict[str, Any]], None],
        cookies: CookieFile | None = None,
    ) -> None:
        # Before the parent's constructor: it builds the network handlers.
        self._folder = folder.absolute()
        self._allow_private = config.allow_private_addresses
        # Any: the stubs know only part of the options.
        options: Any = {
            "quiet": True,
            "noprogress": True,
            "color": "never",
            "logger": log,
            "cachedir": str(cache_dir() / "yt-dlp"),
            # As text in memory: yt-dlp would write to the file itself.
            "cookiefile": io.StringIO(cookies.text) if cookies else None,
            "cookiesfrombrowser": _parse_browser(config.cookies_from_browser),
            "format": self._select_sound,
            # "+res": the smallest picture, where sound only comes with one
            "format_sort": ["lang", "quality", "abr", "+res"],
            "fixup": "never",
            "ffmpeg_location": "",  # a place where it is not
            "external_downloader": "native",
            "retries": config.retries,
            "fragment_retries": config.retries,
            "retry_sleep_functions": dict.fromkeys(("http", "fragment"), _retry_seconds),
            "skip_unavailable_fragments": False,
            "socket_timeout": config.timeout,
            "progress_hooks": [on_block],
        }
        super().__init__(options)
        self._check_cookies()

    def __enter__(self) -> Client:
        # Some of yt-dlp asks for ffmpeg without a client; this hides it there, too.
        location: Any = FFmpegPostProcessor._ffmpeg_location  # typed by its default, None
        self._ffmpeg = location.set("")
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        FFmpegPostProcessor._ffmpeg_location.reset(self._ffmpeg)

    def build_request_director(self, handlers: Any, preferences: Any = None) -> Any:
        """Send every request through the network guard."""
        guarded: Any = functools.partial(GuardedRH, self._allow_private)
        return super().build_request_director([guarded])

    def prepare_filename(self, info_dict: Any, *_: Any, **__: Any) -> str:
        """Return our own file name, not yt-dlp's: no name that a site chose reaches the disk."""
        name = info_dict.get(NAME_FIELD, "playlist")
        extension = info_dict.get("ext", _OTHER_EXTENSION)
        return str(self._folder / f"{name}.{extension}")

    def has_recording_ids(self, extractor: str | None) -> bool:
        """Return whether an extractor's site names its recordings.

        Other extractors number what is on a page.
        """
        if extractor == "Generic":
            return False
        name: Any = extractor
        try:
            found: Any = self.get_info_extractor(name)
            return bool(found._VALID_URL)
        except (KeyError, AttributeError, TypeError):
            return False

    def entries(self, playlist: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Yield number and information of a playlist's entries, page by page.

        The information is None for an entry that is removed or not accessible.
        """
        info: Any = playlist
        return PlaylistEntries(self, info).get_requested_items()

    def _select_sound(self, context: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the best sound among a recording's formats, with an extension we know."""
        formats = [item for item in context["formats"] if item.get("protocol") in _PROTOCOLS]
        select = self.build_format_selector("bestaudio/best")
        for item in select({**context, "formats": formats}):
            is_known = f".{item.get('ext')}" in AUDIO_EXTENSIONS
            yield {**item, "ext": item["ext"] if is_known else _OTHER_EXTENSION}

    def _check_cookies(self) -> None:
        """Load the cookies now: without them everything fails later, each time differently."""
        try:
            _ = self.cookiejar
        except (DownloadError, CookieLoadError) as error:
            raise UserError(explain(str(error))) from error


def clean_link(link: str) -> str:
    """Return a link without its password and without what yt-dlp hides in it for itself."""
    link = unsmuggle_url(link)[0]
    scheme, separator, rest = link.partition("://")
    if not separator:
        return link
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


def _retry_seconds(n: int) -> float:
    """Return the wait before try number n; yt-dlp passes it by this name."""
    return min(0.5 * 2**n, 30)


def _parse_browser(name: str | None) -> tuple[str, ...] | None:
    """Return (browser, profile) or (browser,) of "NAME:PROFILE" or "NAME"."""
    if name is None:
        return None
    browser, _, profile = name.partition(":")
    if browser not in SUPPORTED_BROWSERS:
        known = ", ".join(sorted(SUPPORTED_BROWSERS))
        raise UserError(f"--cookies-from-browser {name}: the browsers known are {known}")
    return (browser, profile) if profile else (browser,)
