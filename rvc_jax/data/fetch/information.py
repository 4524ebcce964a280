"""What yt-dlp says of a recording, made into what is kept: names, links, a sidecar."""

from __future__ import annotations

import datetime
import hashlib
import re
import unicodedata
from pathlib import Path
from typing import Any

from rvc_jax.data.fetch.sidecar import Sidecar, make_recording_key
from rvc_jax.errors import hide_credentials
from rvc_jax.storage.files import file_sha256

_MAX_TEXT = 300
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


def make_sidecar(
    info: dict[str, Any], link: str, title: str, path: Path, duration: float | None
) -> Sidecar:
    """Return the sidecar of a fetched file, without chapters and cuts."""
    from yt_dlp.version import __version__

    from rvc_jax.data.fetch.ytdlp import clean_link

    uploader = info.get("uploader") or info.get("channel") or info.get("creator")
    return Sidecar(
        link=link,
        page=clean_link(str(info.get("webpage_url") or link)),
        extractor=str(info.get("extractor_key")),
        id=hide_credentials(str(info.get("id"))),
        title=title,
        uploader=to_line(str(uploader)) if uploader else None,
        licence=to_line(str(info["license"])) if info.get("license") else None,
        duration=duration,
        fetched_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        sha256=file_sha256(path),
        yt_dlp=__version__,
    )


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


def drop_place(info: dict[str, Any]) -> dict[str, Any]:
    """Return what a page says of a recording, without where it is and its names there."""
    return {
        key: value
        for key, value in info.items()
        if value is not None and key not in _PLACE_KEYS
    }


def find_media_link(entry: dict[str, Any]) -> str | None:
    """Return the link of the media itself.

    Recordings on one page need links of their own, or the archive would take them for one.
    """
    formats = entry.get("formats") or [entry]
    link = formats[-1].get("url")
    if not isinstance(link, str) or not link.startswith("http"):
        return None
    return hide_credentials(link)


def to_line(text: str) -> str:
    """Return text as one printable line of at most `_MAX_TEXT` characters, without passwords."""
    text = hide_credentials(text)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
