"""yt-dlp's way to the network, fenced in: what strangers publish decides which links are followed.

Every request of yt-dlp, redirects and the entries of playlists included, goes through one handler
of its own network layer. It follows http and https only, to public addresses only, and neither
waits nor reads without an end; and yt-dlp's search of a page has an end too. An address is checked
twice: when the name is resolved, so that nothing is connected to, and on the connected socket, so
that a name that resolves to something else the second time gains nothing.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import ipaddress
import signal
import socket
import threading
import time
import urllib.parse
import urllib.request
import urllib.response
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from yt_dlp.networking._urllib import (
    UrllibResponseAdapter,
    UrllibRH,
    handle_response_read_exceptions,
)
from yt_dlp.networking.exceptions import HTTPError, IncompleteRead, RequestError, TransportError

_MAX_PAGE = 32 << 20
"""Most bytes of a page, feed or manifest; recordings go to the disk block by block."""
_BLOCK = 1 << 16
_SLOWEST = 1024
"""A transfer with fewer bytes than this within the timeout is stalled."""
_PAGE_TIMEOUTS = 10
"""A page takes at most so many timeouts."""
_MOST_WORK = 30.0
"""Seconds of computing on one page."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class RefusedError(RequestError):
    """What is not done, whoever asks for it; never tried again. The text is for the user."""


def check_link(link: str, allow_private: bool = False) -> None:
    """Refuse links that are not http or https, or lead to addresses that are not public.

    A name that cannot be resolved passes: the connection will fail in words of its own.

    Raises:
      Refused: with the reason.
    """
    try:
        parts = urllib.parse.urlsplit(link)
        host = urllib.parse.unquote(parts.hostname or "")
        _ = parts.port
    except ValueError as error:
        raise RefusedError(f"this is no link: {_shortened(link)}") from error
    if not parts.scheme or (not host and parts.scheme not in ("file", "data")):
        raise RefusedError(
            f"this is no link: {_shortened(link)}; give it whole, from its https:// on"
        )
    if parts.scheme not in ("http", "https"):
        raise RefusedError(
            f"{parts.scheme}: links are not fetched, only http and https ones: {_shortened(link)}"
        )
    if allow_private:
        return
    try:
        addresses = {
            entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        }
    except OSError:
        return
    except UnicodeError as error:
        raise RefusedError(f"this is no link: {_shortened(link)}") from error
    for address in addresses:
        check_address(str(address), host)


def check_address(address: str, host: str) -> None:
    """Refuse numeric addresses that are not public. Raises Refused."""
    if not is_public(address):
        named = host if host == address else f"{host} ({address})"
        raise RefusedError(
            f"{named} is an address of this machine or a private network; pass --allow-private-addresses if it is yours"
        )


def is_public(address: str) -> bool:
    """Whether a numeric address belongs to the public internet, also as an IPv4 address inside an
    IPv6 one."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inside = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inside = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inside is not None:
            found = inside
    return found.is_global and not found.is_multicast


@contextlib.contextmanager
def limit_cpu_time() -> Iterator[None]:
    """Ends the computing of its block after `_MOST_WORK` seconds; waiting is free.

    Some of yt-dlp's regular expressions take hours for a page that is made to be slow. Without
    effect on Windows and outside of the main thread: there is no way to interrupt them there.

    Raises:
      Refused: it took longer.
    """
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return
    began = time.thread_time()

    def look(*_: Any) -> None:  # the timer runs with every thread of the process
        if time.thread_time() - began > _MOST_WORK:
            raise RefusedError(
                f"looking through the page takes more than {_MOST_WORK:.0f} seconds"
            )

    before = signal.signal(signal.SIGVTALRM, look)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.5, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


class GuardedRH(UrllibRH):
    """yt-dlp's handler for urllib (its name must end so), with a fence around every request and
    every answer."""

    def __init__(self, allow_private: bool, **options: Any) -> None:
        super().__init__(**options)
        self._allow_private = allow_private

    def _create_instance(self, **options: Any) -> urllib.request.OpenerDirector:
        opener = super()._create_instance(**options)
        context = self._make_sslcontext(legacy_ssl_support=options.get("legacy_ssl_support"))
        opener.add_handler(_Fence(context, self._allow_private, self.timeout))
        return opener

    def _prepare_headers(self, _: Any, headers: Any) -> None:
        headers.setdefault("Accept-Encoding", "gzip")

    def _send(self, request: Any) -> UrllibResponseAdapter:
        wrap = functools.partial(_Answer, head=request.method == "HEAD", timeout=self.timeout)
        try:
            return wrap(super()._send(request))
        except HTTPError as error:
            error.response = wrap(error.response)
            raise


class _Fence(urllib.request.AbstractHTTPHandler):
    """Checks every request of an opener, opens the connections itself, and unpacks answers within
    limits.

    It stands behind the handlers of proxies (whose connections are theirs to open) and before
    yt-dlp's own.
    """

    handler_order = 450

    def __init__(self, context: Any, allow_private: bool, timeout: float) -> None:
        super().__init__()
        self._context = context
        self._allow_private = allow_private
        self._timeout = timeout

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        check_link(request.full_url, self._allow_private)
        return request

    https_request = ftp_request = file_request = data_request = http_request

    def http_open(self, request: urllib.request.Request) -> Any:
        return self._open(_HTTPConnection, request)

    def https_open(self, request: urllib.request.Request) -> Any:
        return self._open(_HTTPSConnection, request, context=self._context)

    def http_response(self, _: urllib.request.Request, response: Any) -> Any:
        coding = (response.headers.get("Content-Encoding") or "identity").strip().lower()
        if coding == "identity":
            return response
        body = io.BytesIO(_unpacked(_read_all(response.read1, self._timeout), coding))
        for header in ("Content-Encoding", "Content-Length"):
            del response.headers[header]
        unpacked = urllib.response.addinfourl(
            body, response.headers, response.url, response.code
        )
        unpacked.msg = response.msg
        return unpacked

    https_response = http_response

    def _open(self, connection: type, request: urllib.request.Request, **options: Any) -> Any:
        tunnel = getattr(request, "_tunnel_host", None) or request.has_header(
            "Ytdl-socks-proxy"
        )
        if request.has_proxy() or tunnel:
            return None

        def connect(host: str, **others: Any) -> Any:
            made = connection(host, **others)
            made.allow_private = self._allow_private
            return made

        return self.do_open(connect, request, **options)


class _Checked:
    """Of a connection: who is at the other end is checked before a word is said, and the answer's
    head has a limit."""

    allow_private = False

    def connect(self) -> None:
        super().connect()
        if not self.allow_private:
            check_address(self.sock.getpeername()[0], self.host)

    def getresponse(self) -> http.client.HTTPResponse:
        timer = threading.Timer(2 * self.timeout, _hang_up, [self.sock])
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()


class _HTTPConnection(_Checked, http.client.HTTPConnection):
    pass


class _HTTPSConnection(_Checked, http.client.HTTPSConnection):
    pass


class _Answer(UrllibResponseAdapter):
    """An answer whose reading ends: by its length, by a limit for pages, or because nothing more
    comes."""

    def __init__(self, response: UrllibResponseAdapter, head: bool, timeout: float) -> None:
        super().__init__(response.fp)
        self._inner = response  # it would close the connection when it is forgotten
        self._timeout = timeout
        self._left = 0 if head or self.status in (204, 304) else _length(self.headers)

    def read(self, amt: int | None = None) -> bytes:
        if self.closed:
            return b""
        try:
            return (
                _read_all(self._some, self._timeout)
                if amt is None or amt < 0
                else self._at_least(amt)
            )
        except RequestError:
            raise
        except Exception as error:
            handle_response_read_exceptions(error)
            raise

    def _at_least(self, wanted: int) -> bytes:
        """Up to `wanted` bytes, of which `_SLOWEST` must come within the timeout."""
        began = time.monotonic()
        data = bytearray()
        while len(data) < min(wanted, _SLOWEST) and (
            block := self._some(min(wanted - len(data), 16 * _BLOCK))
        ):
            data += block
            if time.monotonic() - began > self._timeout:
                raise TransportError(
                    f"stalled: {len(data)} bytes in {self._timeout:.0f} seconds"
                )
        return bytes(data)

    def _some(self, wanted: int) -> bytes:
        """What one call of the system gives; nothing at the end."""
        wanted = wanted if self._left is None else min(wanted, self._left)
        data = self.fp.read1(wanted) if wanted else b""
        if self._left is not None:
            if wanted and not data:
                raise IncompleteRead(partial=0, expected=self._left)
            self._left -= len(data)
        return data


def _read_all(read: Callable[[int], bytes], timeout: float) -> bytes:
    """A whole page, if it comes within the limits."""
    began = time.monotonic()
    data = bytearray()
    while block := read(_BLOCK):
        data += block
        if len(data) > _MAX_PAGE:
            raise RefusedError(f"a page of more than {_MAX_PAGE >> 20} MB is not read")
        if time.monotonic() - began > _PAGE_TIMEOUTS * timeout:
            raise TransportError(
                f"stalled: {len(data)} bytes in {_PAGE_TIMEOUTS * timeout:.0f} seconds"
            )
    return bytes(data)


def _unpacked(data: bytes, coding: str) -> bytes:
    """A packed page, unless it swells beyond the limit."""
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise RefusedError(
            f"the server packs its answer in a way that is not known here ({_shortened(coding)})"
        )
    for bits in (
        zlib.MAX_WBITS | 32,
        -zlib.MAX_WBITS,
    ):  # 32: gzip or zlib, by the header; negative: no header
        unpacker = zlib.decompressobj(bits)
        try:
            unpacked = unpacker.decompress(data, _MAX_PAGE)
        except zlib.error:
            continue
        if unpacker.unconsumed_tail:
            raise RefusedError(f"a page of more than {_MAX_PAGE >> 20} MB is not read")
        if unpacker.eof:
            return unpacked
    raise TransportError("the server's answer is damaged: it cannot be unpacked")


def _length(headers: Any) -> int | None:
    """Bytes that an answer promises; None if it does not tell."""
    length = headers.get("Content-Length") or ""
    chunked = "chunked" in (headers.get("Transfer-Encoding") or "").lower()
    return int(length) if length.isdecimal() and len(length) < 19 and not chunked else None


def _hang_up(connected: socket.socket) -> None:
    """Ends a connection that another thread waits on; an encrypted one without its farewell."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


def _shortened(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}..."
