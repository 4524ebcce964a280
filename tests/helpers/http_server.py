"""A server for the tests of serving: a thread with a `VoiceServer`, and clients that can
misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import soundfile

from rvc_jax.config import ConvertConfig, ServeConfig
from rvc_jax.infer.postprocess import ConvertedAudio
from rvc_jax.infer.server.capabilities import EVERYTHING, Capabilities
from rvc_jax.infer.server.server import ConvertRecording, VoiceServer, bind
from rvc_jax.reporter import Reporter, SilentReporter

RATE = 8000


class Reply(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def error(self) -> str:
        """The one line of an error."""
        (line,) = json.loads(self.body).values()
        assert self.headers["Content-Type"].startswith("application/json") and "\n" not in line
        assert "Traceback" not in line and len(line) < 300
        return line


class Stub:
    """Converts by making the recording louder by as many dB as semitones are asked for.

    Inside `holding`, conversions wait; `begun` counts them all, `dropped` those that did not end.
    """

    def __init__(self) -> None:
        self.held = threading.Event()
        self.begun = 0
        self.dropped = 0
        self.held.set()
        self._alone = threading.Lock()

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        self.held.clear()
        try:
            yield
        finally:
            self.held.set()

    def __call__(
        self, wave: np.ndarray, rate: int, config: ConvertConfig, reporter: Reporter
    ) -> ConvertedAudio:
        assert self._alone.acquire(blocking=False), "two conversions at once"
        self.begun += 1
        try:
            while not self.held.wait(0.01):
                reporter.progress("converting", 0.5, 1)
            if config.speaker == 13:
                raise ValueError("a secret of the inside")
            mono = wave.mean(axis=0) * np.float32(10 ** (config.transpose / 20))
            return ConvertedAudio(rate, config.transpose, mono)
        except Exception:
            self.dropped += 1
            raise
        finally:
            self._alone.release()


class _LogReporter(SilentReporter):
    """Appends messages to a list."""

    def __init__(self, log: list[str]):
        self._log = log

    def message(self, text: str) -> None:
        self._log.append(text)


class Running:
    """A server, and how to talk to it."""

    def __init__(
        self, server: VoiceServer | None, port: int, thread: threading.Thread, log: list[str]
    ):
        self.server = server
        self.port = port
        self.thread = thread
        self.log = log

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def health(self) -> dict[str, Any]:
        reply = self.ask("GET", "/health")
        assert reply.status == 200
        return json.loads(reply.body)

    def is_up(self) -> bool:
        try:
            return self.health()["waiting"] == 0
        except OSError:
            return False

    def convert(self, wave: np.ndarray, query: str = "", **headers: str) -> Reply:
        return self.ask("POST", f"/convert?{query}", audio_file(wave), headers)

    def connected(self, receive_buffer: int | None = None) -> socket.socket:
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(10)
        client.connect(("127.0.0.1", self.port))
        return client

    def raw(self, data: bytes, silence: float = 0.25) -> bytes:
        """All that the server answers to bytes, until it closes or, after the first bytes, falls
        silent."""
        with self.connected() as client:
            with contextlib.suppress(
                OSError
            ):  # it may have answered and closed before all was sent
                client.sendall(data)
            return received(client, silence)

    def until(self, condition: Any, seconds: float = 30.0) -> None:
        """Waits for a condition of the server's state."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.005)


def received(client: socket.socket, silence: float) -> bytes:
    """What comes within ten seconds, and then until the other side closes or is silent for as many
    seconds."""
    client.settimeout(10)
    found = b""
    with contextlib.suppress(OSError):
        while piece := client.recv(65536):
            found += piece
            client.settimeout(silence)
    return found


@contextlib.contextmanager
def serving(
    convert: ConvertRecording, capabilities: Capabilities = EVERYTHING, **settings: Any
) -> Iterator[Running]:
    """A server on a free port, which must end cleanly."""
    config = ServeConfig(port=0, **settings)
    listener = bind(config)
    log = []
    ended = []
    server = VoiceServer(
        convert,
        {"voice": "a voice", "sample_rate": RATE},
        config,
        _LogReporter(log),
        capabilities,
    )
    ready = threading.Event()

    def run() -> None:
        asyncio.run(server.run(listener, lambda address: ready.set()))
        ended.append(True)

    thread = threading.Thread(target=run, daemon=True)
    port = listener.getsockname()[1]
    thread.start()
    assert ready.wait(30)
    running = Running(server, port, thread, log)
    try:
        yield running
    finally:
        server.stop()
        thread.join(30)
        assert ended, "the server did not end"


def audio_file(wave: np.ndarray, format: str = "WAV", rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave.T, rate, format=format)
    return buffer.getvalue()


def tone(seconds: float, level: float = 0.1) -> np.ndarray:
    """float32 [samples]."""
    time = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * 200 * time)).astype(np.float32)


def decoded(reply: Reply) -> np.ndarray:
    assert reply.status == 200, reply.body
    return soundfile.read(io.BytesIO(reply.body), dtype="float32")[0]
