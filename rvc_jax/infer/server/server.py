"""A voice behind HTTP: a recording is posted, the answer is the same words in the voice.

One thread converts, one recording at a time. The event loop does the rest and never waits for it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import math
import os
import re
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from aiohttp import web
from aiohttp.typedefs import Handler

from rvc_jax.audio.reading import AudioError
from rvc_jax.audio.writing import EncodingOptions, save
from rvc_jax.config import ConvertConfig, ServeConfig
from rvc_jax.errors import UserError, describe_os_error, make_printable
from rvc_jax.infer.options import check_range, file_encoding
from rvc_jax.infer.postprocess import ConvertedAudio
from rvc_jax.infer.recording import RecordingError
from rvc_jax.infer.server.capabilities import EVERYTHING, Capabilities
from rvc_jax.infer.server.limits import (
    ANSWER_HEADERS,
    LimitedConnection,
    RecordingTooLongError,
    RefusalError,
    check_sender,
    decode_limited,
    is_local,
    save_body,
    send,
)
from rvc_jax.infer.server.query import FORMATS, OPTIONS, parse_options
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage.files import disk_full
from rvc_jax.storage.scratch import temporary_folder
from rvc_jax.version import __version__

MEDIA_TYPES = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
    "opus": "audio/ogg",
}
"""Content type by format."""

_PATH = re.compile(r"/(?:[^\s:;,]+/)+[^\s:;,]*")
_OTHER_CONNECTIONS = 64  # beside those that wait: they send, read, or are idle
_STOPPING = "the server is stopping"


class ConvertRecording(Protocol):
    """What converts, such as `Voice.convert_recording`. It is called from one thread."""

    def __call__(
        self, wave: np.ndarray, rate: int, config: ConvertConfig, reporter: Reporter
    ) -> ConvertedAudio:
        """Convert a recording [channels, samples]."""
        ...


@dataclasses.dataclass(frozen=True)
class ConvertedFile:
    """An audio file that is ready to be sent."""

    path: Path
    transpose: float
    notes: tuple[str, ...]
    """Where little or nothing was found in the recording."""


class VoiceServer:
    """Serves a voice until it is stopped. Everything but `stop` belongs to the thread of `run`."""

    def __init__(
        self,
        convert: ConvertRecording,
        about: dict[str, Any],
        config: ServeConfig,
        reporter: Reporter = SILENT,
        capabilities: Capabilities = EVERYTHING,
    ):
        """Make a server that is not running yet.

        Args:
          convert: Converts a recording.
          about: Facts of the voice, which `/health` returns.
          config: Limits.
          reporter: Receives a message for every conversion and every failure.
          capabilities: What requests can ask for.
        """
        self._capabilities = capabilities
        self.config = config
        self._convert_recording = convert
        self._about = about
        self._reporter = reporter
        self._worker = concurrent.futures.ThreadPoolExecutor(1, "conversion")
        self._jobs: set[concurrent.futures.Future[ConvertedFile | RefusalError]] = set()
        self._served = 0
        self._seconds_each = 1.0
        self._stops = 0
        self._abandon_all = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: web.Server | None = None
        self._stopped = asyncio.Event()

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._server.connections) if self._server else 0

    async def run(self, listener: socket.socket, ready: Callable[[str], None]) -> None:
        """Serve until `stop`; what is being converted or sent then is finished first.

        Args:
          listener: A socket of `bind`; it is closed at the end.
          ready: Is called with the address once the server answers.
        """
        self._loop = asyncio.get_running_loop()
        # A client that disconnects cancels its handler, which drops its conversion.
        runner = web.AppRunner(
            self._make_app(), handler_cancellation=True, shutdown_timeout=None
        )
        await runner.setup()
        server = runner.server
        assert server is not None
        self._server = server
        max_connections = self.config.max_waiting + _OTHER_CONNECTIONS

        def accept() -> LimitedConnection:
            return LimitedConnection(server, self.config.timeout, max_connections)

        acceptor = await self._loop.create_server(accept, sock=listener)
        try:
            ready(_format_address(listener.getsockname()))
            await self._stopped.wait()
        finally:
            acceptor.close()
            await runner.cleanup()  # waits for the handlers that still run
            self._worker.shutdown(cancel_futures=True)

    def stop(self) -> None:
        """Accept nothing more, and end after what is running; a second call drops that as well.

        May be called from any thread.
        """
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self._stops += 1
        if self._stops > 1:
            self._abandon_all.set()
        for job in list(self._jobs):
            job.cancel()
        self._stopped.set()

    def _make_app(self) -> web.Application:
        max_bytes = round(1e6 * self.config.max_megabytes)
        app = web.Application(middlewares=[self._guard], client_max_size=max_bytes)
        app.on_response_prepare.append(_add_headers)
        # `Expect` is not answered before the query is checked: `save_body` asks for the body.
        app.router.add_get("/", self._health, expect_handler=_ignore_expectation)
        app.router.add_get("/health", self._health, expect_handler=_ignore_expectation)
        app.router.add_post("/convert", self._convert, expect_handler=_ignore_expectation)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Check the sender, answer errors in JSON, and send every answer within its time."""
        try:
            check_sender(request, self.config.host)
            response = await handler(request)
        except RefusalError as refusal:
            response = refusal.response()
        except web.HTTPNotFound:
            text = "there is /health and /convert, nothing else"
            response = RefusalError(404, text, close=True).response()
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            text = f"{request.path} takes {allowed}"
            response = RefusalError(
                405, text, close=True, headers={"Allow": allowed}
            ).response()
        except web.HTTPException as error:
            response = RefusalError(error.status, error.reason, close=True).response()
        if response.prepared:
            return response
        return await send(request, response, self.config.timeout)

    async def _health(self, request: web.Request) -> web.Response:
        jobs = list(self._jobs)
        limits = ("max_megabytes", "max_seconds", "max_waiting")
        return web.json_response(
            {
                **self._about,
                "rvc_jax": __version__,
                "served": self._served,
                "waiting": sum(not job.running() and not job.done() for job in jobs),
                "converting": any(job.running() for job in jobs),
                "formats": FORMATS,
                "options": {name: getattr(ConvertConfig(), name) for name in OPTIONS},
                "limits": {name: getattr(self.config, name) for name in limits},
            }
        )

    async def _convert(self, request: web.Request) -> web.StreamResponse:
        try:
            config, extension = parse_options(request.query.items())
            self._capabilities.check(config)
        except UserError as error:
            raise RefusalError(400, str(error), close=True) from None
        self._check_queue()
        with temporary_folder() as folder:
            path = folder / "recording"
            await save_body(request, path, self.config.timeout)
            self._check_queue()  # it may have filled while the body came
            converted = await self._wait_for_conversion(path, config, extension)
            with converted.path.open("rb") as file:
                headers = {
                    "Content-Type": MEDIA_TYPES.get(extension, "application/octet-stream"),
                    "Content-Length": str(converted.path.stat().st_size),
                    "X-Transpose": f"{converted.transpose:g}",
                }
                if converted.notes:
                    headers["X-Note"] = make_printable("; ".join(converted.notes))
                response = web.Response(body=file, headers=headers)
                # The file is removed below, so that it must be sent here.
                return await send(request, response, self.config.timeout)

    def _check_queue(self) -> None:
        """Refuse a recording that would have to wait behind too many."""
        if self._stops:
            raise RefusalError(503, _STOPPING, close=True)
        if len(self._jobs) > self.config.max_waiting:
            seconds = math.ceil(self._seconds_each * len(self._jobs) / 2)
            raise RefusalError(
                503,
                f"{self.config.max_waiting} recordings wait already",
                close=True,
                headers={"Retry-After": str(max(1, min(seconds, 3600)))},
            )

    async def _wait_for_conversion(
        self, path: Path, config: ConvertConfig, extension: str
    ) -> ConvertedFile:
        """Convert a file when its turn has come. A client that disconnects drops the conversion."""
        is_abandoned = threading.Event()
        job = self._worker.submit(self._work, path, config, extension, is_abandoned)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        done = asyncio.wrap_future(job)
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError:
            is_abandoned.set()
            if not job.cancel():  # it ends soon, and has the files until then
                await asyncio.wait([done])
            raise
        if job.cancelled():
            raise RefusalError(503, _STOPPING, close=True)
        result = job.result()
        if isinstance(result, RefusalError):
            raise result
        self._served += 1
        return result

    def _work(
        self, path: Path, config: ConvertConfig, extension: str, is_abandoned: threading.Event
    ) -> ConvertedFile | RefusalError:
        """Convert a file in the worker's thread. Errors are returned: nobody may wait for them."""
        reporter = _AbandonReporter(is_abandoned, self._abandon_all)
        begun = time.monotonic()
        try:
            wave, rate = decode_limited(path, self.config.max_seconds, config)
            reporter.check()
            converted = self._convert_recording(wave, rate, config, reporter)
            reporter.check()
            out = path.with_name(f"converted.{extension}")
            _save(out, converted, file_encoding(config))
        except Exception as error:
            return self._to_refusal(error, path)
        took = time.monotonic() - begun
        self._seconds_each += 0.2 * (took - self._seconds_each)
        self._reporter.message(f"converted {wave.shape[1] / rate:.1f} s in {took:.2f} s")
        for note in converted.notes:
            self._reporter.message(f"note: {note}")
        return ConvertedFile(out, converted.transpose, converted.notes)

    def _to_refusal(self, error: Exception, path: Path) -> RefusalError:
        """The answer to a conversion that failed. It names no place on this machine.

        path: of the recording.
        """
        if isinstance(error, RefusalError):
            return error
        if isinstance(error, _AbandonedError):
            self._reporter.message("a conversion was dropped: nobody waits for it")
            return RefusalError(503, _STOPPING, close=True)
        if isinstance(error, RecordingTooLongError):
            return RefusalError(413, str(error))
        if isinstance(error, (AudioError, RecordingError)):
            reason = _PATH.sub("the file", str(error).removeprefix(f"{path}: "))
            return RefusalError(400, f"the recording can't be converted: {reason}")
        if disk_full(error):
            self._reporter.message(str(error))
            return RefusalError(507, "the disk has no room for the conversion")
        if isinstance(error, UserError):
            # The options were checked: what is wrong is a matter of the server.
            lines = [f"a conversion failed: {error}"]
        else:
            lines = "".join(traceback.format_exception(error)).splitlines()
        for line in lines:
            self._reporter.message(line)
        return RefusalError(
            500, "the conversion failed; see the server's terminal for the reason"
        )


class _AbandonedError(Exception):
    """Nobody waits for this conversion."""


class _AbandonReporter:
    """Ends a conversion, at its next report, once one of several events is set."""

    def __init__(self, *events: threading.Event):
        self._events = events

    def check(self) -> None:
        """Raises _Abandoned if the conversion is not wanted any more."""
        if any(event.is_set() for event in self._events):
            raise _AbandonedError

    def message(self, text: str) -> None:
        self.check()

    def progress(
        self,
        stage: str,
        done: float,
        total: float | None,
        text: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.check()


async def _ignore_expectation(request: web.Request) -> None:
    """Do not answer `Expect: 100-continue` yet."""


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(ANSWER_HEADERS)


def _save(out: Path, converted: ConvertedAudio, encoding: EncodingOptions) -> None:
    try:
        save(out, converted.to_array(), converted.rate, encoding)
    except UserError as error:
        reason = str(error).removeprefix(f"{out}: ")
        raise RefusalError(507, f"the result can't be kept: {reason}") from error


def bind(config: ServeConfig) -> socket.socket:
    """Open the socket to serve at. Nothing is answered until the server runs.

    Raises:
      UserError: an option is out of its range, the host is open to others without
        `open_to_network`, or the address is in use or not one of this machine.
    """
    _check(config)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host.strip("[]"),
            config.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # elsewhere it would let two programs have one port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = describe_os_error(error)
        raise UserError(
            f"can't listen at {config.host}, port {config.port}: {reason}; "
            "name another with --host or --port"
        ) from error
    return listener


def _check(config: ServeConfig) -> None:
    if not config.open_to_network and not is_local(config.host):
        raise UserError(
            f"--host {config.host} lets other machines use the voice, without password or "
            "encryption: if that is intended, add --open-to-network"
        )
    ranges = {
        "port": (0, 65535),
        "max_waiting": (1, 1000),
        "max_megabytes": (0.001, 4000),
        "max_seconds": (0.1, 10800),
        "timeout": (0.1, 3600),
    }
    for name, (least, most) in ranges.items():
        check_range(name, getattr(config, name), least, most)


def _format_address(address: tuple[Any, ...]) -> str:
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
