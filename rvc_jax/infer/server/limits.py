"""What a client may do to the server: how large, how slow, how many, and from where."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from rvc_jax.errors import make_printable

MIN_BYTES_PER_SECOND = 64 * 1024
"""Bytes a second that a client must keep up, beside the timeout."""

_HEADER_LINE = 8190  # bytes
_HEADERS = 64
_ANSWER_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Server": "rvc-jax",
}
# seconds that the rest of a refused request is read and thrown away, so that the answer arrives
_LINGERING = 1.0
_HOST = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Refusal(Exception):
    """An answer that is not what was asked for: a status and one line that says why."""

    def __init__(
        self,
        status: int,
        text: str,
        *,
        close: bool = False,
        headers: dict[str, str] | None = None,
    ):
        """close: nothing more is read from the connection."""
        super().__init__(text)
        self.status = status
        self.close = close
        self.headers = headers or {}

    def response(self) -> web.Response:
        text = make_printable(" ".join(str(self).split()))
        response = web.json_response(
            {"error": text}, status=self.status, headers=_ANSWER_HEADERS | self.headers
        )
        if self.close:
            response.force_close()
        return response


class LimitedServer(web.Server):
    """aiohttp's server, with errors in JSON, and with an end to connections, headers and
    patience."""

    def __init__(self, answer: Answer, timeout: float, most_connections: int):
        """timeout: seconds for the headers of a request, from the connection's start or the last
        answer."""
        super().__init__(answer, handler_cancellation=True)
        self._timeout = timeout
        self._most_connections = most_connections

    def __call__(self) -> web.RequestHandler:
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self._timeout,
            lingering_time=_LINGERING,
            max_line_size=_HEADER_LINE,
            max_field_size=_HEADER_LINE,
            max_headers=_HEADERS,
            auto_decompress=False,
            access_log=None,
        )

    def connection_made(
        self, handler: web.RequestHandler, transport: asyncio.Transport
    ) -> None:
        super().connection_made(handler, transport)
        transport.set_write_buffer_limits(
            high=0
        )  # `drain` waits until all is sent, so nothing piles up here
        if len(self.connections) > self._most_connections:
            transport.write(
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
            )
            transport.close()


class _Connection(web.RequestHandler):
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What to answer to what is no HTTP, or when the handler has failed."""
        if status == 500:
            self.log_exception("a request failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        reason = (message or "the server failed").strip().partition("\n")[0].rstrip(":")
        return Refusal(
            status, f"not a request that can be answered: {reason}", close=True
        ).response()


def check_sender(request: web.BaseRequest, host: str) -> None:
    """Refuse what a web page may have sent from the browser of whoever runs this.

    A page can make a name of its own lead to this machine (DNS rebinding), so a host must be an
    address, `localhost` or the name in `host`. A browser says where a request comes from (`Origin`,
    `Sec-Fetch-Site`).
    """
    hosts = request.headers.getall("Host", [])
    found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if found is None:
        raise Refusal(400, "a request needs one Host header, and that a valid one", close=True)
    name = found[1].strip("[]").lower()
    if name not in ("localhost", host.strip("[]").lower()) and not _is_address(name):
        raise Refusal(403, f"this server is not {name}: ask for it by its address", close=True)
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "none")
    if origin not in (None, f"http://{hosts[0]}") or site not in ("none", "same-origin"):
        raise Refusal(403, "web pages of other places may not use this server", close=True)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_local(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    name = host.strip("[]").lower()
    return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)


async def save_body(
    request: web.BaseRequest, path: Path, most_bytes: int, timeout: float
) -> None:
    """Write the body of a request to a file.

    timeout: seconds that it may take, beside one for every `MIN_BYTES_PER_SECOND` bytes.

    Raises:
      Refusal: if it is too large (413), too slow (408), empty or broken (400), compressed or a form
          (415).
    """
    _check_headers(request, most_bytes)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # nothing of the answer itself is sent
    begun = asyncio.get_running_loop().time()
    received = 0
    try:
        with path.open("wb") as file:
            while True:
                async with asyncio.timeout_at(
                    begun + timeout + received / MIN_BYTES_PER_SECOND
                ):
                    piece = await request.content.readany()
                if not piece:
                    break
                received += len(piece)
                if received > most_bytes:
                    raise _too_large(most_bytes)
                file.write(piece)
    except TimeoutError:
        raise Refusal(
            408, f"too slow: {received} bytes came in time, and not the end", close=True
        ) from None
    except web.RequestPayloadError as error:
        raise Refusal(
            400, f"the body is not what its headers promise: {error}", close=True
        ) from None
    except OSError as error:
        raise Refusal(
            507, f"the recording can't be kept: {error.strerror}", close=True
        ) from None
    if not received:
        raise Refusal(400, "the body is empty: send the bytes of an audio file")


def _check_headers(request: web.BaseRequest, most_bytes: int) -> None:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refusal(415, "a compressed body is not taken: send the file as it is", close=True)
    if request.content_type.startswith("multipart/"):
        raise Refusal(
            415,
            "a form is not taken: send the file alone (curl --data-binary @FILE)",
            close=True,
        )
    if (request.content_length or 0) > most_bytes:
        raise _too_large(most_bytes)


def _too_large(most_bytes: int) -> Refusal:
    return Refusal(
        413,
        f"the recording is too large: at most {most_bytes / 1e6:g} MB are taken",
        close=True,
    )


async def send(
    request: web.BaseRequest, response: web.Response, timeout: float
) -> web.Response:
    """Send an answer whole; a client that does not read it is left.

    timeout: as for `save_body`.
    """
    response.headers.update(_ANSWER_HEADERS)
    try:
        async with asyncio.timeout(
            timeout + (response.content_length or 0) / MIN_BYTES_PER_SECOND
        ):
            await response.prepare(request)
            await response.write_eof()
            await request.writer.drain()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client does not read the answer") from None
    return response
