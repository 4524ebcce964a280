"""Guard yt-dlp's network access: the links it follows come from pages that strangers publish.

Every request of yt-dlp, including redirects and entries of playlists, passes one handler of its
network layer. The handler follows http and https only, to public addresses only, and bounds every
wait and every read; the search of a page is bounded, too. A connection is made to an address that
was checked, so that a name which resolves differently the second time gains nothing. A redirect to
another origin takes no credentials along.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import signal
import socket
import threading
import time
import urllib.parse
import urllib.request
import urllib.response
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from yt_dlp.networking._urllib import (
    RedirectHandler,
    UrllibResponseAdapter,
    UrllibRH,
    handle_response_read_exceptions,
)
from yt_dlp.networking.exceptions import (
    HTTPError,
    IncompleteRead,
    RequestError,
    TransportError,
)

from rvc_jax.data.fetch.addresses import is_public
from rvc_jax.errors import hide_credentials
from rvc_jax.storage.origins import drop_credentials, shorten_referer

_MAX_PAGE_BYTES = 32 << 20
"""Limit for a page, feed or manifest; recordings go to the disk block by block."""
_BLOCK_BYTES = 1 << 16
_MIN_BYTES_PER_TIMEOUT = 1024
"""A transfer with fewer bytes within the timeout is stalled."""
_MAX_TIMEOUTS_PER_PAGE = 10
"""Limit for reading a whole page, in timeouts."""
MAX_CPU_SECONDS = 30.0
"""Limit for searching one page."""
_LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".intranet", ".lan", ".home.arpa")
"""Names of private networks, which a proxy could resolve where this machine can't."""
_NOT_IN_HOSTS = frozenset(" /\\@#?<>\"'|^`{}")
_MAX_QUOTED = 100


class RefusedError(RequestError):
    """A request that is refused and never retried. The text is for the user."""


def check_link(link: str, allow_private: bool = False) -> None:
    """Refuse links that are not http or https, or lead to addresses that are not public.

    A name that cannot be resolved passes: the connection fails with a message of its own.

    Raises:
        RefusedError: With the reason.
    """
    try:
        parts = urllib.parse.urlsplit(link)
        host = urllib.parse.unquote(parts.hostname or "").rstrip(".")
        _ = parts.port  # raises ValueError if it is not a number
    except ValueError as error:
        raise RefusedError(f"this is not a link: {_shorten(link)}") from error
    if not host.isprintable() or _NOT_IN_HOSTS & set(host):
        raise RefusedError(f"this is not a link: {_shorten(link)}")
    if not parts.scheme or (not host and parts.scheme not in ("file", "data")):
        raise RefusedError(
            f"this is not a link: {_shorten(link)}; give it whole, from its https:// on"
        )
    if parts.scheme not in ("http", "https"):
        raise RefusedError(
            f"{parts.scheme}: links are not fetched, only http and https ones: {_shorten(link)}"
        )
    if allow_private:
        return
    try:
        addresses = {
            entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        }
    except OSError:
        if f".{host.lower()}".endswith(_LOCAL_SUFFIXES):
            raise _not_public(host, host) from None
        return
    except ValueError as error:  # no name, or one with characters that names can't have
        raise RefusedError(f"this is not a link: {_shorten(link)}") from error
    for address in addresses:
        check_address(str(address), host)


def check_address(address: str, host: str) -> None:
    """Refuse a numeric address that is not public. Raises RefusedError."""
    if not is_public(address):
        raise _not_public(address, host)


def _not_public(address: str, host: str) -> RefusedError:
    named = host if host == address else f"{host} ({address})"
    return RefusedError(
        f"{named} is an address of this machine or a private network; "
        "pass --allow-private-addresses if it is yours"
    )


@contextlib.contextmanager
def limit_cpu_time() -> Iterator[None]:
    """End the block after `MAX_CPU_SECONDS` of computing; waiting does not count.

    Some of yt-dlp's regular expressions take hours on a page made to be slow. Without effect on
    Windows and outside of the main thread, where nothing can interrupt them.

    Raises:
        RefusedError: It took longer.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not hasattr(signal, "setitimer") or not in_main_thread:
        yield
        return
    start = time.thread_time()

    def check(*_: Any) -> None:
        # The timer counts the time of all threads; this counts that of the main one.
        if time.thread_time() - start > MAX_CPU_SECONDS:
            raise RefusedError(
                f"looking through the page takes more than {MAX_CPU_SECONDS:.0f} seconds"
            )

    previous = signal.signal(signal.SIGVTALRM, check)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.5, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)


class GuardedRH(UrllibRH):
    """yt-dlp's request handler for urllib, with guarded requests and responses.

    yt-dlp requires that the name ends in RH.
    """

    def __init__(self, allow_private: bool, **options: Any) -> None:
        super().__init__(**options)
        self._allow_private = allow_private

    def _create_instance(self, **options: Any) -> urllib.request.OpenerDirector:
        opener = super()._create_instance(**options)  # pyright: ignore[reportAttributeAccessIssue]
        context = self._make_sslcontext(legacy_ssl_support=options.get("legacy_ssl_support"))
        opener.add_handler(_GuardHandler(context, self._allow_private, self.timeout))
        opener.add_handler(_SafeRedirectHandler())
        return opener

    def _prepare_headers(self, _: Any, headers: Any) -> None:
        headers.setdefault("Accept-Encoding", "gzip")

    def _send(self, request: Any) -> UrllibResponseAdapter:
        def wrap(response: Any) -> _BoundedResponse:
            return _BoundedResponse(response, request.method == "HEAD", self.timeout)

        try:
            return wrap(super()._send(request))
        except HTTPError as error:
            failed: Any = error  # the stubs do not know that it has a response
            failed.response = wrap(failed.response)
            raise


class _GuardHandler(urllib.request.AbstractHTTPHandler):
    """Checks an opener's requests, makes its connections, and unpacks responses within limits.

    Its order is after the proxy handlers, which make connections of their own, and before yt-dlp's
    handlers.
    """

    handler_order = 450

    def __init__(self, context: Any, allow_private: bool, timeout: float) -> None:
        super().__init__()
        self._context = context
        self._allow_private = allow_private
        self._timeout = timeout

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        check_link(request.full_url, self._allow_private)
        referer = request.get_header("Referer")
        if referer is not None and hide_credentials(referer) != referer:
            request.add_header("Referer", shorten_referer(referer))
        return request

    https_request = ftp_request = file_request = data_request = http_request

    def http_open(self, request: urllib.request.Request) -> Any:
        return self._open(_HTTPConnection, request)

    def https_open(self, request: urllib.request.Request) -> Any:
        return self._open(_HTTPSConnection, request, context=self._context)

    def http_response(self, _: urllib.request.Request, response: Any) -> Any:
        encoding = (response.headers.get("Content-Encoding") or "identity").strip().lower()
        if encoding == "identity":
            return response
        body = io.BytesIO(_decompress(_read_page(response.read1, self._timeout), encoding))
        for header in ("Content-Encoding", "Content-Length"):
            del response.headers[header]
        decoded = urllib.response.addinfourl(
            body, response.headers, response.url, response.code
        )
        # urllib's own handlers set it, too.
        decoded.msg = response.msg  # type: ignore[attr-defined]
        return decoded

    https_response = http_response

    def _open(
        self,
        connection: type[_CheckedConnection],
        request: urllib.request.Request,
        **options: Any,
    ) -> Any:
        tunnel = getattr(request, "_tunnel_host", None) or request.has_header(
            "Ytdl-socks-proxy"
        )
        if request.has_proxy() or tunnel:
            return None  # a proxy's handler opens it

        def connect(host: str, **others: Any) -> Any:
            made = connection(host, **others)
            made.allow_private = self._allow_private
            return made

        return self.do_open(connect, request, **options)  # pyright: ignore[reportArgumentType]


class _SafeRedirectHandler(RedirectHandler):
    """Follows redirects before yt-dlp's handler does, without credentials to another origin."""

    handler_order = 450

    def redirect_request(self, req: Any, *details: Any) -> Any:
        request = super().redirect_request(req, *details)
        drop_credentials(request, req.full_url)
        return request


if TYPE_CHECKING:
    _Connection = http.client.HTTPConnection
else:
    # A mixin: `super()` is the HTTP or HTTPS connection that it is combined with.
    _Connection = object


class _CheckedConnection(_Connection):
    """Connects to a checked address, checks the peer, and bounds the wait for the headers."""

    allow_private = False

    def connect(self) -> None:
        if not self.allow_private:
            # http.client calls it for the socket of both kinds of connections.
            self._create_connection = _connect_to_public
        super().connect()
        if not self.allow_private:
            check_address(self.sock.getpeername()[0], self.host)

    def getresponse(self) -> http.client.HTTPResponse:
        timer = threading.Timer(2 * (self.timeout or 0.0), _shut_down, [self.sock])
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()


class _HTTPConnection(_CheckedConnection, http.client.HTTPConnection):
    pass


class _HTTPSConnection(_CheckedConnection, http.client.HTTPSConnection):
    pass


def _connect_to_public(
    place: tuple[str, int], timeout: Any = None, source: Any = None
) -> socket.socket:
    """Connect to one of a host's addresses, all of which are public.

    Raises:
        RefusedError: One is not.
        OSError: None of them accepts the connection.
    """
    host, port = place
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        check_address(address, host)
    failure: OSError = OSError(f"{host} has no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout, source)
        except OSError as error:
            failure = error
    raise failure


class _BoundedResponse(UrllibResponseAdapter):
    """A response whose reading ends: at its length, at a page's limit, or when it stalls."""

    def __init__(self, response: Any, head: bool, timeout: float) -> None:
        super().__init__(response.fp)
        # Kept alive: garbage collection would close the connection.
        self._inner = response
        self._timeout = timeout
        has_no_body = head or self.status in (204, 304)
        self._remaining = 0 if has_no_body else _parse_length(self.headers)

    def read(self, amt: int | None = None) -> bytes:
        if self.closed:
            return b""
        try:
            if amt is None or amt < 0:
                return _read_page(self._read_some, self._timeout)
            return self._read_block(amt)
        except RequestError:
            raise
        except Exception as error:
            handle_response_read_exceptions(error)
            raise

    def _read_block(self, wanted: int) -> bytes:
        """Return up to `wanted` bytes; `_MIN_BYTES_PER_TIMEOUT` must arrive within the timeout."""
        start = time.monotonic()
        data = bytearray()
        while len(data) < min(wanted, _MIN_BYTES_PER_TIMEOUT):
            block = self._read_some(min(wanted - len(data), 16 * _BLOCK_BYTES))
            if not block:
                break
            data += block
            if time.monotonic() - start > self._timeout:
                raise TransportError(
                    f"stalled: {len(data)} bytes in {self._timeout:.0f} seconds"
                )
        return bytes(data)

    def _read_some(self, wanted: int) -> bytes:
        """Return what one system call gives; empty at the end."""
        if self._remaining is not None:
            wanted = min(wanted, self._remaining)
        source: Any = self.fp
        data = source.read1(wanted) if wanted else b""
        if self._remaining is not None:
            if wanted and not data:
                raise IncompleteRead(partial=0, expected=self._remaining)
            self._remaining -= len(data)
        return data


def _read_page(read: Callable[[int], bytes], timeout: float) -> bytes:
    """Read a whole page within the limits of size and time."""
    start = time.monotonic()
    data = bytearray()
    while block := read(_BLOCK_BYTES):
        data += block
        if len(data) > _MAX_PAGE_BYTES:
            raise _page_too_large()
        if time.monotonic() - start > _MAX_TIMEOUTS_PER_PAGE * timeout:
            seconds = _MAX_TIMEOUTS_PER_PAGE * timeout
            raise TransportError(f"stalled: {len(data)} bytes in {seconds:.0f} seconds")
    return bytes(data)


def _decompress(data: bytes, encoding: str) -> bytes:
    """Decompress a page, unless it exceeds the limit."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise RefusedError(
            f"the server packs its answer in an unknown way ({_shorten(encoding)})"
        )
    # zlib's window bits: +32 takes gzip or zlib, by the header; negative means no header.
    for bits in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):
        decompressor = zlib.decompressobj(bits)
        try:
            decompressed = decompressor.decompress(data, _MAX_PAGE_BYTES)
        except zlib.error:
            continue
        if decompressor.unconsumed_tail:
            raise _page_too_large()
        if decompressor.eof:
            return decompressed
    raise TransportError("the server's answer is damaged: it cannot be unpacked")


def _page_too_large() -> RefusedError:
    return RefusedError(f"a page of more than {_MAX_PAGE_BYTES >> 20} MB is not read")


def _parse_length(headers: Any) -> int | None:
    """Return the bytes that a response promises; None if it does not."""
    length = headers.get("Content-Length") or ""
    is_chunked = "chunked" in (headers.get("Transfer-Encoding") or "").lower()
    is_valid = length.isdecimal() and len(length) < 19 and not is_chunked
    return int(length) if is_valid else None


def _shut_down(connected: socket.socket) -> None:
    """End a connection that another thread waits for; TLS gets no closing message."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


def _shorten(text: str) -> str:
    text = hide_credentials(text)
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}..."
