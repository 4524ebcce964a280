"""What a request may take along when a server sends it elsewhere, as browsers do it.

Credentials belong to an origin: a scheme, a host and a port. A server that redirects to another one
must not hand them on.
"""

from __future__ import annotations

import base64
import urllib.parse
import urllib.request

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HARMLESS_HEADERS = (
    "Accept",
    "Accept-charset",
    "Accept-encoding",
    "Accept-language",
    "Cache-control",
    "Content-length",
    "Content-type",
    "If-range",
    "Range",
    "Sec-fetch-mode",
    "User-agent",
)
"""Headers that go along to another origin, in urllib's spelling. Others may hold a password or a
token of the first one, under any name."""


def find_origin(address: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of an address. Raises ValueError if it is not a URL."""
    parts = urllib.parse.urlsplit(address)
    host = urllib.parse.unquote(parts.hostname or "").rstrip(".")
    return parts.scheme, host.lower(), parts.port or _DEFAULT_PORTS.get(parts.scheme)


def drop_credentials(request: urllib.request.Request, source: str) -> None:
    """Remove what is for another origin's eyes from a request that a server has redirected.

    Args:
        request: The new request.
        source: The address that redirected to it.
    """
    if _have_same_origin(request.full_url, source):
        return
    for headers in (request.headers, request.unredirected_hdrs):
        referer = headers.get("Referer")
        for name in list(headers):
            if name.capitalize() not in _HARMLESS_HEADERS:
                del headers[name]
        if referer is not None:
            headers["Referer"] = shorten_referer(referer)


def _have_same_origin(first: str, second: str) -> bool:
    try:
        return find_origin(first) == find_origin(second)
    except ValueError:
        return False


def shorten_referer(referer: str) -> str:
    """Return the origin of a page alone, as browsers name it to other origins."""
    parts = urllib.parse.urlsplit(referer)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"


def split_credentials(address: str) -> tuple[str, str | None]:
    """Return an address without its user and password, and the header that stands for them.

    Returns:
        The address; and the value of the header Authorization, None without a user.
    """
    parts = urllib.parse.urlsplit(address)
    user, separator, place = parts.netloc.rpartition("@")
    if not separator:
        return address, None
    pair = urllib.parse.unquote(user if ":" in user else f"{user}:")
    token = base64.b64encode(pair.encode()).decode()
    return urllib.parse.urlunsplit(parts._replace(netloc=place)), f"Basic {token}"
