"""A server on this machine like those on the internet: recordings, feeds, pages, and faults."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import http.server
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import av
import numpy as np
import soundfile


def make_media(source: Path, seconds: float) -> dict[str, bytes]:
    """Return the beginning of a recording as files of several formats, by name."""
    wave, rate = soundfile.read(
        source, dtype="float32", frames=int(seconds * soundfile.info(source).samplerate)
    )
    flac = io.BytesIO()
    soundfile.write(flac, wave, rate, format="FLAC")
    half = len(wave) // 2
    return {
        "talk.flac": flac.getvalue(),
        "talk.m4a": _encoded(wave, rate, "mp4", "aac"),
        "talk.webm": _encoded(wave, rate, "webm", "libopus"),
        "clip.mp4": _encoded(wave, rate, "mp4", "aac", pictures=int(10 * seconds)),
        "silent-film.mp4": _encoded(wave[:0], rate, "mp4", None, pictures=int(10 * seconds)),
        "first.ts": _encoded(wave[:half], rate, "mpegts", "aac"),
        "second.ts": _encoded(wave[half:], rate, "mpegts", "aac"),
    }


def _encoded(
    wave: np.ndarray, rate: int, container: str, codec: str | None, pictures: int = 0
) -> bytes:
    """Encode a wave [samples] and black pictures, ten a second, as a file."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        video = output.add_stream("mpeg4", rate=10) if pictures else None
        if video is not None:
            video.width = 32
            video.height = 32
            video.pix_fmt = "yuv420p"
        audio = output.add_stream(codec, rate=rate, layout="mono") if codec else None
        if audio is not None:
            frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            frame.sample_rate = rate
            queue = av.AudioFifo()
            queue.write(frame)
            while block := queue.read(960, partial=True):
                output.mux(audio.encode(block))
            output.mux(audio.encode(None))
        if video is not None:
            for _ in range(pictures):
                output.mux(
                    video.encode(
                        av.VideoFrame.from_ndarray(
                            np.zeros((32, 32, 3), np.uint8), format="rgb24"
                        )
                    )
                )
            output.mux(video.encode(None))
    return buffer.getvalue()


TYPES = {
    "m4a": "audio/mp4",
    "mp4": "video/mp4",
    "webm": "audio/webm",
    "flac": "audio/flac",
    "ts": "video/mp2t",
}


@dataclasses.dataclass
class MediaServer:
    """The server's address, its content, the requests it got, and its faults."""

    url: str
    media: dict[str, bytes]
    requests: list[tuple[str, str, str | None]] = dataclasses.field(default_factory=list)
    """Method, path and Range header, in order."""
    pages: dict[str, tuple[str, bytes]] = dataclasses.field(default_factory=dict)
    """Content type and body by path."""
    redirects: dict[str, str] = dataclasses.field(default_factory=dict)
    headers: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    """Additional headers by path."""
    statuses: dict[str, int] = dataclasses.field(default_factory=dict)
    breaks: dict[str, int] = dataclasses.field(default_factory=dict)
    """How many more responses with a recording break off half-way, by path."""
    pauses: dict[str, float] = dataclasses.field(default_factory=dict)
    """Seconds between blocks of 1 kB, by path."""
    cookies: list[str] = dataclasses.field(default_factory=list)
    """Cookies that were sent."""

    def feed(self, path: str, *entries: tuple[str, str]) -> str:
        """Publish a podcast feed of titles and links; returns its link."""
        items = "".join(
            f"<item><title>{escape(title)}</title>"
            f"<enclosure url={quoteattr(link)} type='audio/mp4'/></item>"
            for title, link in entries
        )
        channel = f"<channel><title>A show</title>{items}</channel>"
        text = f"<?xml version='1.0'?><rss version='2.0'>{channel}</rss>"
        self.pages[path] = ("application/rss+xml", text.encode())
        return self.url + path

    def asked(self, path: str) -> int:
        """Return how often a path was requested."""
        return sum(found == path for _, found, _ in self.requests)


@contextlib.contextmanager
def serving(media: dict[str, bytes]) -> Iterator[MediaServer]:
    """Run a server in a thread of its own."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    state = MediaServer(f"http://127.0.0.1:{server.server_address[1]}", media)
    server.state = state
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        state: MediaServer = self.server.state
        path = self.path.partition("?")[0]
        state.requests.append((self.command, path, self.headers.get("Range")))
        state.cookies += self.headers.get_all("Cookie", [])
        name = path.rpartition("/")[2]
        with contextlib.suppress(ConnectionError):
            if path in state.statuses:
                self._head(state.statuses[path], {"Content-Length": "0"})
            elif path in state.redirects:
                self._head(302, {"Location": state.redirects[path], "Content-Length": "0"})
            elif path == "/bomb.html":
                self._send(
                    200,
                    "text/html",
                    gzip.compress(bytes(100 << 20), 1),
                    body,
                    {"Content-Encoding": "gzip"},
                )
            elif path == "/endless.html":
                self._endless(body, b"<html>" + bytes(1 << 20), 0)
            elif path == "/endless.mp3":
                self._endless(body, bytes(1 << 16), 0.001, "audio/mpeg")
            elif path == "/drip.mp3":
                self._endless(body, b"x", 0.2, "audio/mpeg")
            elif path == "/slow-head":
                self._slow_head()
            elif path in state.pages:
                kind, content = state.pages[path]
                self._send(200, kind, content, body)
            elif name in state.media:
                self._media(path, name, state, body)
            else:
                self._send(404, "text/plain", b"gone", body)

    def _media(self, path: str, name: str, state: MediaServer, body: bool) -> None:
        content = state.media[name]
        status = 200
        headers = dict(state.headers.get(path, {}))
        wanted = self.headers.get("Range")
        start = 0
        if wanted:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        kind = TYPES[name.rpartition(".")[2]]
        if body and state.breaks.get(path, 0):
            state.breaks[path] -= 1
            self._head(
                status,
                {**headers, "Content-Type": kind, "Content-Length": str(len(content) - start)},
            )
            self.wfile.write(content[start : start + (len(content) - start) // 2])
            self.close_connection = True
            return
        if body and path in state.pauses:
            self._head(
                status,
                {**headers, "Content-Type": kind, "Content-Length": str(len(content) - start)},
            )
            for offset in range(start, len(content), 1024):
                self.wfile.write(content[offset : offset + 1024])
                time.sleep(state.pauses[path])
            return
        self._send(status, kind, content[start:], body, headers)

    def _send(
        self,
        status: int,
        kind: str,
        content: bytes,
        body: bool,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._head(
            status,
            {**(headers or {}), "Content-Type": kind, "Content-Length": str(len(content))},
        )
        if body:
            self.wfile.write(content)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.end_headers()

    def _endless(self, body: bool, block: bytes, pause: float, kind: str = "text/html") -> None:
        self._head(200, {"Content-Type": kind, "Connection": "close"})
        self.close_connection = True
        until = time.monotonic() + 60
        while body and time.monotonic() < until:
            self.wfile.write(block)
            time.sleep(pause)

    def _slow_head(self) -> None:
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(300):
            self.wfile.write(f"X-{number}: a\r\n".encode())
            time.sleep(0.2)
