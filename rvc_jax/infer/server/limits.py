"""Limits of the server: how large, how slow, how many, and from where."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from pathlib import Path

import numpy as np
from aiohttp import web

from rvc_jax.audio.reading import AudioError, open_audio
from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError, describe_os_error, make_printable
from rvc_jax.features.voice_source import choose_channels, choose_track

MIN_BYTES_PER_SECOND = 64 * 1024
"""Rate that a client must keep up, beside the timeout."""

_MAX_VALUES_PER_SECOND = 2 * 192_000  # of all channels: stereo at the highest rate in use
_MAX_LINE_BYTES = 8190
_MAX_HEADERS = 64
_LINGER_SECONDS = (
    1.0  # the rest of a refused request is read that long, so that the answer arrives
)
_HOST = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")

ANSWER_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Server": "rvc-jax",
}
"""Headers of every answer."""


class RecordingTooLongError(UserError):
    """A recording that is longer than the server accepts."""


class RefusalError(Exception):
    """An answer other than the one that was asked for: a status and one line that says why."""

    def __init__(
        self,
        status: int,
        text: str,
        *,
        close: bool = False,
        headers: dict[str, str] | None = None,
    ):
        """close: read nothing more from the connection."""
        super().__init__(text)
        self.status = status
        self.close = close
        self.headers = headers or {}

    def response(self) -> web.Response:
        """The answer, as JSON with the key `error`."""
        text = make_printable(" ".join(str(self).split()))
        response = web.json_response(
            {"error": text}, status=self.status, headers=ANSWER_HEADERS | self.headers
        )
        if self.close:
            response.force_close()
        return response


class LimitedConnection(web.RequestHandler):
    """A connection with limits on its headers and its idle time, and with errors in JSON."""

    def __init__(self, server: web.Server, timeout: float, max_connections: int):
        """Begin a connection.

        Args:
          server: What it belongs to.
          timeout: Seconds for the headers of a request, from the connection's start or the last
            answer.
          max_connections: Connections beyond this number are refused.
        """
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=timeout,
            lingering_time=_LINGER_SECONDS,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_LINE_BYTES,
            max_headers=_MAX_HEADERS,
            auto_decompress=False,
            access_log=None,  # pyright: ignore[reportArgumentType] (aiohttp: no log)
        )
        self._server = server
        self._max_connections = max_connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the connection, or refuse it where there are too many."""
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        # `drain` then waits until all is sent, so that nothing piles up here.
        transport.set_write_buffer_limits(high=0)
        if len(self._server.connections) > self._max_connections:
            transport.write(
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
            )
            transport.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP, or a request whose handler has failed."""
        if status == 500:
            self.log_exception("a request failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        reason = (message or "the server failed").strip().partition("\n")[0].rstrip(":")
        text = f"not a request that can be answered: {reason}"
        return RefusalError(status, text, close=True).response()


def check_sender(request: web.BaseRequest, host: str) -> None:
    """Refuse what a web page may have sent from a browser on this machine.

    A page can make a name of its own resolve to this machine (DNS rebinding), so that the Host
    header must be an address, `localhost`, or the name in `host`. Browsers state where a request
    comes from (`Origin`, `Sec-Fetch-Site`).
    """
    hosts = request.headers.getall("Host", [])
    found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if found is None:
        raise RefusalError(400, "a request needs exactly one valid Host header", close=True)
    name = found[1].strip("[]").lower()
    if name not in ("localhost", host.strip("[]").lower()) and not _is_address(name):
        raise RefusalError(
            403, f"this server is not {name}: ask for it by its address", close=True
        )
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "none")
    if origin not in (None, f"http://{hosts[0]}") or site not in ("none", "same-origin"):
        raise RefusalError(403, "web pages of other places may not use this server", close=True)


def is_local(host: str) -> bool:
    """Whether only this machine can reach what listens at a host."""
    name = host.strip("[]").lower()
    return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def save_body(request: web.Request, path: Path, timeout: float) -> None:
    """Write the body of a request to a file, of at most the application's `client_max_size` bytes.

    Args:
      request: The request; nothing of its body has been read.
      path: The file.
      timeout: Seconds that it may take, and one more for every `MIN_BYTES_PER_SECOND` bytes.

    Raises:
      Refusal: the body is too large (413), too slow (408), empty or broken (400), compressed or a
        form (415), or the disk is full (507).
    """
    max_bytes = request.client_max_size
    _check_headers(request, max_bytes)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # nothing of the answer itself is sent
    begun = asyncio.get_running_loop().time()
    received = 0
    try:
        with path.open("wb") as file:
            while True:
                deadline = begun + timeout + received / MIN_BYTES_PER_SECOND
                async with asyncio.timeout_at(deadline):
                    block = await request.content.readany()
                if not block:
                    break
                received += len(block)
                if received > max_bytes:
                    raise _too_large(max_bytes)
                file.write(block)
    except TimeoutError:
        text = f"too slow: {received} bytes came in time, and not the end"
        raise RefusalError(408, text, close=True) from None
    except web.RequestPayloadError as error:
        text = f"the body is not what its headers promise: {error}"
        raise RefusalError(400, text, close=True) from None
    except OSError as error:
        text = f"the recording can't be kept: {describe_os_error(error)}"
        raise RefusalError(507, text, close=True) from None
    if not received:
        raise RefusalError(400, "the body is empty: send the bytes of an audio file")


def _check_headers(request: web.Request, max_bytes: int) -> None:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        text = "a compressed body is not taken: send the file as it is"
        raise RefusalError(415, text, close=True)
    if request.content_type.startswith("multipart/"):
        text = "a form is not taken: send the file alone (curl --data-binary @FILE)"
        raise RefusalError(415, text, close=True)
    if (request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> RefusalError:
    text = f"the recording is too large: at most {max_bytes / 1e6:g} MB are taken"
    return RefusalError(413, text, close=True)


async def send(
    request: web.BaseRequest, response: web.StreamResponse, timeout: float
) -> web.StreamResponse:
    """Send an answer whole; a client that does not read it is disconnected.

    timeout: as for `save_body`.
    """
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


def decode_limited(
    path: Path, max_seconds: float, config: ConvertConfig
) -> tuple[np.ndarray, int]:
    """Decode the channels with the voice of a recording, in memory that only its length bounds.

    Returns: float32 [channels, samples] and the sample rate in Hz.

    Raises:
      RecordingTooLongError: it is longer than `max_seconds`; nothing beyond is decoded.
      AudioError: as `audio.reading.decode`, or more channels at a higher rate than are accepted.
    """
    opened = open_audio(path, track=max(config.track - 1, 0))
    if opened.tracks > 1 and not config.track:
        opened = open_audio(path, track=choose_track(path, 0.0, max_seconds, opened.tracks))
    rate = opened.rate
    held = []
    samples = 0
    for block in opened.blocks:
        if len(block) * rate > _MAX_VALUES_PER_SECOND:
            raise AudioError(f"{len(block)} channels at {rate} Hz are more than what is taken")
        samples += block.shape[1]
        if samples > max_seconds * rate:
            raise RecordingTooLongError(
                f"the recording is too long: at most {max_seconds:g} s are taken"
            )
        held.append(block)
    wave = np.concatenate(held, axis=1)
    choice = choose_channels(
        wave, rate, opened.is_float, config.channel, config.stereo == "keep-side"
    )
    return choice.apply(wave), rate
