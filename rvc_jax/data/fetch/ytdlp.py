"""yt-dlp as it is used here: one network handler, sound only, names of our own, nothing of the
user's set-up.

Neither plug-ins nor configuration files are read, and ffmpeg counts as missing. Where deno is
installed, yt-dlp lets it solve YouTube's challenges, in its sandbox; no other program is started
but to read a browser's cookies.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["YTDLP_NO_PLUGINS"] = (
    "1"  # yt-dlp looks for plug-ins on its own, and for this before
)

import yt_dlp
from yt_dlp.cookies import SUPPORTED_BROWSERS, CookieLoadError
from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor
from yt_dlp.utils import PlaylistEntries, unsmuggle_url

from rvc_jax.audio.reading import AUDIO_EXTENSIONS
from rvc_jax.data.fetch.errors import explain
from rvc_jax.data.fetch.network_guard import GuardedRH
from rvc_jax.errors import UserError
from rvc_jax.storage.environment import cache_dir

if TYPE_CHECKING:
    from rvc_jax.config import FetchConfig

NAME_FIELD = "rvc_jax_name"
"""Where a recording's information holds the name of its file, without the ending."""

_PROTOCOLS = ("http", "https", "m3u8", "m3u8_native", "http_dash_segments")
"""Of yt-dlp's, those that need no other program."""
_OTHER_ENDING = "mka"
"""Of files in whatever format: decoders go by the content."""


class Log:
    """yt-dlp's remarks: not for the user's eyes, but some explain what fails later."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.last = ""

    def debug(self, text: str) -> None:
        pass

    info = debug

    def warning(self, text: str) -> None:
        self.warnings = [*self.warnings[-20:], text]

    def error(self, text: str) -> None:
        self.last = text


class Client(yt_dlp.YoutubeDL):
    """A yt-dlp that saves into one folder.

    Raises:
      UserError: cookies that cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        config: FetchConfig,
        log: Log,
        progress: Callable[[dict[str, Any]], None],
    ) -> None:
        self._folder = folder.absolute()
        self._allow_private = config.allow_private_addresses
        super().__init__(
            {
                "quiet": True,
                "noprogress": True,
                "color": "never",
                "logger": log,
                "cachedir": str(cache_dir() / "yt-dlp"),
                "cookiefile": _cookie_text(config.cookies),
                "cookiesfrombrowser": _browser(config.cookies_from_browser),
                "format": self._formats,
                "format_sort": [
                    "lang",
                    "quality",
                    "abr",
                    "+res",
                ],  # a small picture, where there is no sound without
                "fixup": "never",
                "ffmpeg_location": "",  # a place where it is not
                "external_downloader": "native",
                "retries": config.retries,
                "fragment_retries": config.retries,
                "retry_sleep_functions": dict.fromkeys(
                    ("http", "fragment"), lambda n: min(0.5 * 2**n, 30)
                ),
                "skip_unavailable_fragments": False,
                "socket_timeout": config.timeout,
                "progress_hooks": [progress],
            }
        )
        self._load_cookies_now()

    def __enter__(self) -> Client:
        self._ffmpeg = FFmpegPostProcessor._ffmpeg_location.set(
            ""
        )  # for those who ask for it without a client
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        FFmpegPostProcessor._ffmpeg_location.reset(self._ffmpeg)

    def build_request_director(self, handlers: Any, preferences: Any = None) -> Any:
        return super().build_request_director(
            [functools.partial(GuardedRH, self._allow_private)]
        )

    def prepare_filename(self, info_dict: Any, *_: Any, **__: Any) -> str:
        """In the place of yt-dlp's templates: nothing that a site calls itself reaches the disk as
        it came."""
        return str(
            self._folder
            / f"{info_dict.get(NAME_FIELD, 'playlist')}.{info_dict.get('ext', _OTHER_ENDING)}"
        )

    def has_recording_ids(self, extractor: str | None) -> bool:
        """Whether an extractor is for a site that has names for its recordings; others number what
        is on a page."""
        try:
            return extractor != "Generic" and bool(
                self.get_info_extractor(extractor)._VALID_URL
            )
        except (KeyError, AttributeError, TypeError):
            return False

    def entries(self, playlist: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Number and information of everything in a playlist, page by page; None for what is not
        for us."""
        return PlaylistEntries(self, playlist).get_requested_items()

    def _formats(self, context: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The best sound among what a recording is offered as, with a file ending that preparation
        knows."""
        formats = [found for found in context["formats"] if found.get("protocol") in _PROTOCOLS]
        for found in self.build_format_selector("bestaudio/best")(
            {**context, "formats": formats}
        ):
            known = f".{found.get('ext')}" in AUDIO_EXTENSIONS
            yield {**found, "ext": found["ext"] if known else _OTHER_ENDING}

    def _load_cookies_now(self) -> None:
        """Without its cookies everything fails, and each time in a different way."""
        try:
            _ = self.cookiejar
        except (yt_dlp.DownloadError, CookieLoadError) as error:
            raise UserError(explain(str(error))) from error


def clean_link(link: str) -> str:
    """A link without what yt-dlp hides in it for itself, and without a password: for eyes and
    notes."""
    link = unsmuggle_url(link)[0]
    start, slashes, rest = link.partition("://")
    place, slash, path = rest.partition("/")
    return f"{start}{slashes}{place.rpartition('@')[2]}{slash}{path}" if slashes else link


def _cookie_text(path: Path | None) -> io.StringIO | None:
    """The file's text: to a file of cookies yt-dlp would write."""
    if path is None:
        return None
    advice = "export it from a browser that is signed in (cookies.txt, Netscape format)"
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise UserError(f"--cookies {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--cookies {path} is no file of cookies: {advice}") from error
    entries = [line.removeprefix("#HttpOnly_") for line in text.splitlines() if line.strip()]
    entries = [line for line in entries if not line.startswith("#")]
    if not entries or any(line.count("\t") != 6 for line in entries):
        raise UserError(f"--cookies {path} is no file of cookies: {advice}")
    return io.StringIO(text)


def _browser(name: str | None) -> tuple[str, ...] | None:
    if name is None:
        return None
    browser, _, profile = name.partition(":")
    if browser not in SUPPORTED_BROWSERS:
        known = ", ".join(sorted(SUPPORTED_BROWSERS))
        raise UserError(f"--cookies-from-browser {name}: the browsers known are {known}")
    return (browser, profile) if profile else (browser,)
