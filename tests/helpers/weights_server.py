"""A server that does everything that servers do, right and wrong."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rvc_jax.errors import UserError
from rvc_jax.weights import store

CONTENT = hashlib.shake_256(b"weights").digest(1_500_000)
OTHER = hashlib.shake_256(b"others").digest(1_500_000)
Behaviour = Callable[["Handler"], Any]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Does what the server's table says for the path: a behaviour, or a list of them to go
    through."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server.owner
        server.requests.append(SimpleNamespace(path=self.path, headers=dict(self.headers)))
        behaviour = server.paths.get(self.path, status(404))
        if isinstance(behaviour, list):
            behaviour = behaviour.pop(0) if len(behaviour) > 1 else behaviour[0]
        with contextlib.suppress(OSError):  # the client has gone
            behaviour(self)
        self.close_connection = True

    def head(self, code: int, **headers: object) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def serve(
    content: bytes, etag: str | None = '"one"', ranges: bool = True, until: int | None = None
) -> Behaviour:
    """The file as a good server gives it; the connection breaks after `until` bytes."""

    def behaviour(handler: Handler) -> None:
        begin = 0
        wanted = handler.headers.get("Range")
        if wanted and ranges and handler.headers.get("If-Range", etag) == etag:
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if begin >= len(content) > 0:
            return handler.head(416, Content_Range=f"bytes */{len(content)}", Content_Length=0)
        headers = {"Content_Length": len(content) - begin} | ({"ETag": etag} if etag else {})
        if begin:
            headers["Content_Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        handler.head(206 if begin else 200, **headers)
        handler.wfile.write(content[begin : None if until is None else begin + until])

    return behaviour


def status(code: int, **headers: object) -> Behaviour:
    return lambda handler: handler.head(code, Content_Length=0, **headers)


def endless(handler: Handler) -> None:
    handler.head(200, Transfer_Encoding="chunked")
    while True:
        handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")


class Server:
    def __init__(self) -> None:
        self.paths: dict[str, Behaviour | list[Behaviour]] = {}
        self.requests: list[SimpleNamespace] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.owner = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


# --- what the tests ask of the cache
# ----------------------------------------------------------------------------------


def refusal(name: str = "toy", fetch: Callable = store.path) -> str:
    with pytest.raises(UserError) as caught:
        fetch(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def left(home: Path) -> list[str]:
    """What lies in the cache beside the locks."""
    files = (
        path
        for path in (home / "weights").rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    )
    return sorted(str(path.relative_to(home / "weights")) for path in files)


WHOLE = ["toys/toy.pth", "toys/toy.pth.download.json"]
