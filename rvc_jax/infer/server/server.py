"""A warm voice behind HTTP: a recording is posted, the same words in the voice come back.

One thread converts, a recording at a time; the event loop does the rest and is never kept waiting.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import math
import os
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from aiohttp import web

from rvc_jax.audio.reading import AudioError, EncodingOptions, save
from rvc_jax.config import ConvertConfig, ServeConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.converter import Conversion, Listener, RecordingError
from rvc_jax.infer.options import check_range, coding
from rvc_jax.infer.server.limits import (
    LimitedServer,
    Refusal,
    check_sender,
    is_local,
    save_body,
    send,
)
from rvc_jax.infer.server.query import FORMATS, OPTIONS, parse_options
from rvc_jax.infer.warm_voice import RecordingTooLong, read_recording
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

_METHODS = {"/": ("GET", "HEAD"), "/health": ("GET", "HEAD"), "/convert": ("POST",)}
_OTHER_CONNECTIONS = 64  # beside those that wait: they send, read, or are idle


class Speak(Protocol):
    """What converts, e.g. a `WarmVoice`; called from one thread."""

    def __call__(
        self, wave: np.ndarray, rate: int, config: ConvertConfig, progress: Listener
    ) -> Conversion: ...


class Spoken(NamedTuple):
    """An audio file that is ready to be sent."""

    path: Path
    transpose: float


class VoiceServer:
    """Serves until it is told to stop. Everything but `stop` belongs to the thread of `run`."""

    def __init__(
        self,
        speak: Speak,
        about: dict[str, Any],
        config: ServeConfig,
        log: Callable[[str], None] = lambda text: None,
    ):
        """about: what is told of the voice to whoever asks. log: is told of every conversion and
        every failure."""
        self._speak = speak
        self._about = about
        self.config = config
        self._log = log
        self._worker = concurrent.futures.ThreadPoolExecutor(1, "conversion")
        self._jobs: set[concurrent.futures.Future[Spoken | Refusal]] = set()
        self._served = 0
        self._seconds_each = 1.0
        self._stops = 0
        self._unwanted = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: LimitedServer | None = None
        self._stopped = asyncio.Event()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._server.connections) if self._server else 0

    async def run(self, listener: socket.socket, ready: Callable[[str], None]) -> None:
        """Serves until `stop`; what is being converted or sent then is finished first.

        listener: of `bind`; it is closed at the end. ready: is told the address, once it can be
        asked.
        """
        self._loop = asyncio.get_running_loop()
        most = self.config.max_waiting + _OTHER_CONNECTIONS
        self._server = LimitedServer(self._answer, self.config.timeout, most)
        runner = web.ServerRunner(self._server, shutdown_timeout=None)
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            ready(_address(listener.getsockname()))
            await self._stopped.wait()
        finally:
            await runner.cleanup()
            self._worker.shutdown(cancel_futures=True)

    def stop(self) -> None:
        """Take nothing more, and end after what is running; the second time, without that. For any
        thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self._stops += 1
        if self._stops > 1:
            self._unwanted.set()
        for job in list(self._jobs):
            job.cancel()
        self._stopped.set()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        with contextlib.ExitStack() as files:
            try:
                check_sender(request, self.config.host)
                response = await self._routed(request, files)
            except Refusal as refusal:
                response = refusal.response()
            return await send(request, response, self.config.timeout)

    async def _routed(
        self, request: web.BaseRequest, files: contextlib.ExitStack
    ) -> web.Response:
        methods = _METHODS.get(request.path)
        if methods is None:
            raise Refusal(404, "there is /health and /convert, nothing else", close=True)
        if request.method not in methods:
            allowed = ", ".join(methods)
            raise Refusal(
                405, f"{request.path} takes {allowed}", close=True, headers={"Allow": allowed}
            )
        return (
            await self._convert(request, files)
            if request.path == "/convert"
            else self._health()
        )

    def _health(self) -> web.Response:
        jobs = list(self._jobs)
        told = {
            **self._about,
            "rvc_jax": __version__,
            "served": self._served,
            "waiting": sum(not job.running() and not job.done() for job in jobs),
            "converting": any(job.running() for job in jobs),
            "formats": FORMATS,
            "options": {name: getattr(ConvertConfig(), name) for name in OPTIONS},
            "limits": {
                name: getattr(self.config, name)
                for name in ("max_megabytes", "max_seconds", "max_waiting")
            },
        }
        return web.json_response(told)

    async def _convert(
        self, request: web.BaseRequest, files: contextlib.ExitStack
    ) -> web.Response:
        """files: what is kept until the answer is sent."""
        try:
            config, extension = parse_options(request.query.items())
        except UserError as error:
            raise Refusal(400, str(error), close=True) from None
        self._check_room()
        folder = files.enter_context(
            tempfile.TemporaryDirectory(prefix="rvc_jax-", ignore_cleanup_errors=True)
        )
        path = Path(folder) / "recording"
        await save_body(
            request, path, round(1e6 * self.config.max_megabytes), self.config.timeout
        )
        self._check_room()
        spoken = await self._spoken(path, config, extension)
        media_type = MEDIA_TYPES.get(extension, "application/octet-stream")
        size = spoken.path.stat().st_size
        headers = {
            "Content-Type": media_type,
            "Content-Length": str(size),
            "X-Transpose": f"{spoken.transpose:g}",
        }
        return web.Response(body=files.enter_context(spoken.path.open("rb")), headers=headers)

    def _check_room(self) -> None:
        """Refuse a recording that would have to wait behind too many."""
        if self._stops:
            raise Refusal(503, "the server is stopping", close=True)
        if len(self._jobs) > self.config.max_waiting:
            seconds = math.ceil(self._seconds_each * len(self._jobs) / 2)
            headers = {"Retry-After": str(max(1, min(seconds, 3600)))}
            raise Refusal(
                503,
                f"{self.config.max_waiting} recordings wait already",
                close=True,
                headers=headers,
            )

    async def _spoken(self, path: Path, config: ConvertConfig, extension: str) -> Spoken:
        """The conversion, when its turn has come. It is dropped if nobody waits for it any more."""
        gone = threading.Event()
        job = self._worker.submit(self._work, path, config, extension, gone)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        done = asyncio.wrap_future(job)
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError:
            gone.set()
            if not job.cancel():  # it ends soon, and has the files until then
                await asyncio.wait([done])
            raise
        if job.cancelled():
            raise Refusal(503, "the server is stopping", close=True)
        result = job.result()
        if isinstance(result, Refusal):
            raise result
        self._served += 1
        return result

    def _work(
        self, path: Path, config: ConvertConfig, extension: str, gone: threading.Event
    ) -> Spoken | Refusal:
        """What the worker does. It raises nothing: nobody may be there to hear of it."""

        def progress(share: float) -> None:
            if gone.is_set() or self._unwanted.is_set():
                raise _Dropped

        begun = time.monotonic()
        try:
            wave, rate = read_recording(path, self.config.max_seconds)
            progress(0)
            conversion = self._speak(wave, rate, config, progress)
            progress(1)
            out = path.with_name(f"spoken.{extension}")
            _save(out, conversion, coding(config))
        except Exception as error:
            return self._failure(error)
        took = time.monotonic() - begun
        self._seconds_each += 0.2 * (took - self._seconds_each)
        self._log(f"converted {wave.shape[1] / rate:.1f} s in {took:.2f} s")
        return Spoken(out, conversion.transpose)

    def _failure(self, error: Exception) -> Refusal:
        if isinstance(error, Refusal):
            return error
        if isinstance(error, _Dropped):
            self._log("a conversion was dropped: nobody waits for it")
            return Refusal(503, "the server is stopping", close=True)
        if isinstance(error, RecordingTooLong):
            return Refusal(413, str(error))
        if isinstance(error, (AudioError, RecordingError)):
            return Refusal(400, f"the recording can't be converted: {error}")
        if isinstance(error, UserError):
            return Refusal(400, str(error))
        for line in "".join(traceback.format_exception(error)).splitlines():
            self._log(line)
        return Refusal(500, "the conversion failed; the server's terminal tells more")


class _Dropped(Exception):
    """Nobody waits for this conversion."""


def _save(out: Path, conversion: Conversion, coding: EncodingOptions) -> None:
    try:
        save(out, conversion.wave, conversion.rate, coding)
    except UserError as error:
        raise Refusal(
            507, f"the result can't be kept: {str(error).removeprefix(f'{out}: ')}"
        ) from error


def bind(config: ServeConfig) -> socket.socket:
    """The socket to serve at, before anything that takes long: nobody is answered until the server
    runs.

    Raises:
      UserError: if a setting is out of its range, the host is open to others without
        `open_to_network`, or the address is taken or not this machine's.
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
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"can't listen at {config.host}, port {config.port}: {reason}; name another with --host or --port"
        ) from error
    return listener


def _check(config: ServeConfig) -> None:
    if not config.open_to_network and not is_local(config.host):
        raise UserError(
            f"--host {config.host} lets other machines use the voice, without password or encryption: if that is "
            "meant, add --open-to-network"
        )
    ranges = {"port": (0, 65535), "max_waiting": (1, 1000), "max_megabytes": (0.001, 4000)}
    ranges |= {"max_seconds": (0.1, 10800), "timeout": (0.1, 3600)}
    for name, (least, most) in ranges.items():
        check_range(name, getattr(config, name), least, most)


def _address(address: tuple[Any, ...]) -> str:
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
