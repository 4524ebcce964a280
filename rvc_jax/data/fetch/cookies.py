"""Files of cookies: cookies.txt as browsers' extensions write it, in all its variants, or JSON.

yt-dlp reads one form alone: Netscape's, with a heading, tabs and whole numbers. What editors,
shells and other extensions make of it is read here and brought into that form: no heading, marks of
an encoding, other ends of lines, spaces for tabs, UTF-16, lists in JSON. What cannot be used is
said in one line, before anything is fetched.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rvc_jax.errors import UserError, sanitize
from rvc_jax.storage.json_files import parse_json
from rvc_jax.storage.plain_files import read_plain

_HEADING = "# Netscape HTTP Cookie File"
_HTTP_ONLY = "#HttpOnly_"
_FIELDS = "site, subdomains, path, secure, expiry, name and value"
_EXPORT = "export it from a browser that is signed in (cookies.txt, Netscape format)"
_MAX_BYTES = 16_000_000
_MAX_SECONDS = 1e11
"""Times beyond it are in milliseconds."""
_MAX_SITES = 3
_FLAGS = {"true": True, "false": False, "1": True, "0": False}

# Names of the fields in the lists of common extensions, of Playwright and of Selenium.
_JSON_NAMES = {
    "site": ("domain", "host", "Host raw"),
    "path": ("path", "Path raw"),
    "secure": ("secure", "isSecure", "Send for raw"),
    "expiry": ("expirationDate", "expires", "expiry", "Expires raw"),
    "name": ("name", "Name raw"),
    "value": ("value", "Content raw"),
}
_BINARY = (
    (b"SQLite format 3", "it is the database of a browser"),
    (b"PK\x03\x04", "it is a zip archive"),
    (b"\x1f\x8b", "it is a gzip archive"),
    (b"{\\rtf", "it is a document of a word processor"),
)


@dataclasses.dataclass(frozen=True)
class Cookie:
    """One cookie, as a line of cookies.txt has it."""

    site: str
    subdomains: bool
    path: str
    secure: bool
    expiry: int
    """Seconds since 1970; 0 for the end of the browser's session."""
    name: str
    value: str

    def is_expired(self, now: float) -> bool:
        """Return whether sites will not get it any more."""
        return 0 < self.expiry <= now

    def is_for(self, host: str) -> bool:
        """Return whether it is for a host."""
        site = self.site.lower().lstrip(".")
        return host == site or host.endswith(f".{site}")


@dataclasses.dataclass(frozen=True)
class CookieFile:
    """The cookies of a file."""

    path: Path
    cookies: tuple[Cookie, ...]

    @property
    def text(self) -> str:
        """The cookies in the form that yt-dlp reads."""
        lines = [_HEADING]
        for cookie in self.cookies:
            flags = [str(flag).upper() for flag in (cookie.subdomains, cookie.secure)]
            fields = (cookie.site, flags[0], cookie.path, flags[1], str(cookie.expiry))
            lines.append("\t".join((*fields, cookie.name, cookie.value)))
        return "\n".join(lines) + "\n"

    def explain_refusal(self, link: str, extractor: str | None = None) -> str:
        """Return why a site may want a visitor to sign in although there are cookies.

        Args:
            link: What was to be fetched.
            extractor: yt-dlp's name of the site, which may be at several hosts.
        """
        host = (urllib.parse.urlsplit(link).hostname or "").lower()
        site = (extractor or "").lower().partition(":")[0]
        own = [
            cookie
            for cookie in self.cookies
            if cookie.is_for(host) or (len(site) > 2 and site in cookie.site.lower())
        ]
        again = "sign in to the site in a browser, and export its cookies again"
        if not own:
            sites = _list_sites(self.cookies)
            return f"{self.path} has no cookies for {host or link}, only for {sites}: {again}"
        expired = [cookie for cookie in own if cookie.is_expired(time.time())]
        if expired:
            count = f"{len(expired)} of the {len(own)} cookies"
            return f"{count} for {host} in {self.path} {_expired(expired)}: {again}"
        return f"the site does not accept its cookies in {self.path}: {again}"


def read_cookies(path: Path) -> CookieFile:
    """Read a file of cookies.

    Raises:
        UserError: It can't be read, is of another kind, or has no cookie that has not expired.
    """
    try:
        content = read_plain(path, _MAX_BYTES)
    except FileNotFoundError as error:
        raise UserError(
            f"--cookies {path} cannot be read: No such file or directory"
        ) from error
    except UserError as error:
        raise UserError(f"--cookies {error}") from error
    try:
        text = _decode(content).strip("\ufeff \r\n")
        cookies = _parse_json(text) if text[:1] in ("[", "{") else _parse_lines(text)
        if not cookies:
            raise ValueError("it is empty")
    except ValueError as error:
        raise UserError(
            f"--cookies {path} is not a file of cookies: {error}; {_EXPORT}"
        ) from error
    now = time.time()
    if all(cookie.is_expired(now) for cookie in cookies):
        raise UserError(
            f"--cookies {path}: all {len(cookies)} cookies in it {_expired(cookies)}; {_EXPORT}"
        )
    return CookieFile(path, tuple(cookies))


def _expired(cookies: list[Cookie]) -> str:
    last = max(cookie.expiry for cookie in cookies)
    date = datetime.datetime.fromtimestamp(min(last, 2**40), datetime.UTC).date()
    return f"expired, the last on {date.isoformat()}"


def _list_sites(cookies: tuple[Cookie, ...]) -> str:
    sites = list(dict.fromkeys(cookie.site.lower().lstrip(".") for cookie in cookies))
    more = f" and {len(sites) - _MAX_SITES} others" if len(sites) > _MAX_SITES else ""
    return ", ".join(sites[:_MAX_SITES]) + more


def _decode(content: bytes) -> str:
    """Decode UTF-8 or UTF-16, with or without a mark. Raises ValueError."""
    for start, what in _BINARY:
        if content.startswith(start):
            raise ValueError(what)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif content[:1] == b"\0":
        encoding = "utf-16-be"
    elif content[1:2] == b"\0":
        encoding = "utf-16-le"
    else:
        encoding = "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError("it is not text") from error
    if "\0" in text:
        raise ValueError("it is not text")
    return text


def _parse_lines(text: str) -> list[Cookie]:
    """Parse cookies.txt. Raises ValueError with the number of a line that is none."""
    if text[:1] == "<":
        raise ValueError("it is a web page")
    cookies = []
    # Not splitlines(), which also splits at characters that values may have.
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        entry = line.strip(" ").removeprefix(_HTTP_ONLY)
        if entry.strip() and not entry.startswith("#"):
            cookies.append(_parse_line(entry, number))
    return cookies


def _parse_line(line: str, number: int) -> Cookie:
    # A value may be empty, and editors strip the tab before it.
    fields = line.split("\t") if "\t" in line else line.split(None, 6)
    if len(fields) == 6:
        fields.append("")
    if len(fields) != 7:
        if "=" in fields[0] or line.lower().startswith(("cookie:", "set-cookie:")):
            raise ValueError("it is a header of a request, which does not name the site")
        raise ValueError(f"line {number} has {len(fields)} fields, not 7 ({_FIELDS})")
    site, subdomains, path, secure, expiry, name, value = (field.strip() for field in fields)
    flags = [_FLAGS.get(flag.lower()) for flag in (subdomains, secure)]
    if None in flags:
        raise ValueError(f"line {number} has other fields than {_FIELDS}")
    return _make_cookie(
        f"line {number}",
        {"site": site, "path": path, "expiry": expiry, "name": name, "value": value},
        bool(flags[0]),
        bool(flags[1]),
    )


def _parse_json(text: str) -> list[Cookie]:
    """Parse a list of cookies in JSON, or an object that has one. Raises ValueError."""
    try:
        content = parse_json(text.encode())
    except ValueError as error:
        raise ValueError("it begins like JSON, and is not valid JSON") from error
    if isinstance(content, Mapping):
        content = content.get("cookies", [content])
    if not isinstance(content, list):
        raise ValueError("it is JSON without a list of cookies")
    cookies = []
    for number, item in enumerate(content, 1):
        place = f"entry {number}"
        if not isinstance(item, Mapping):
            raise ValueError(f"{place} of its list is not a cookie")
        fields = {key: _find_field(item, names) for key, names in _JSON_NAMES.items()}
        site = str(fields["site"] or "")
        if "://" in site:
            fields["site"] = urllib.parse.urlsplit(site).hostname
        secure = str(fields["secure"]).lower() == "true"
        subdomains = not item.get("hostOnly", not site.startswith("."))
        cookies.append(_make_cookie(place, fields, subdomains, secure))
    return cookies


def _find_field(item: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((item[name] for name in names if name in item), None)


def _make_cookie(
    place: str, fields: Mapping[str, Any], subdomains: bool, secure: bool
) -> Cookie:
    """Return a cookie of fields as a file has them. Raises ValueError with the place."""
    site = fields["site"]
    name = fields["name"]
    value = fields["value"]
    if not isinstance(site, str) or not re.fullmatch(r"\.?[\w.:\[\]-]+", site):
        raise ValueError(f"{place} does not name its site")
    if not isinstance(name, str) or not isinstance(value, str | int | float | None):
        raise ValueError(f"{place} has no name and value")
    texts = [name, str("" if value is None else value), str(fields["path"] or "/")]
    if any(not text.isprintable() for text in texts):
        raise ValueError(f"{place} has characters that cookies can't have")
    expiry = _parse_expiry(fields["expiry"], place)
    # Python's reader insists that a point comes before the site exactly if subdomains count.
    is_number = re.fullmatch(r"[\d.]+|.*:.*", site) is not None
    subdomains = (subdomains or site.startswith(".")) and not is_number
    site = f".{site.lstrip('.')}" if subdomains else site.lstrip(".")
    return Cookie(site, subdomains, texts[2], secure, expiry, name, texts[1])


def _parse_expiry(value: Any, place: str) -> int:
    """Return seconds since 1970; 0 for a cookie of a session."""
    if value in (None, "", False):
        return 0
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        try:
            seconds = datetime.datetime.fromisoformat(str(value)).timestamp()
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{place} has the expiry {sanitize(value, 40)}") from error
    if not abs(seconds) < 1e18:
        raise ValueError(f"{place} has the expiry {sanitize(value, 40)}")
    if seconds > _MAX_SECONDS:
        seconds /= 1000
    return max(0, int(seconds))
