"""A server, a cache folder and a registry of one toy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from weights_server import CONTENT, Server, sha256

from rvc_jax.weights import store, transfer
from rvc_jax.weights.registry import WeightsEntry, WeightsFile


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RVC_JAX_OFFLINE", "RVC_JAX_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RVC_JAX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(transfer, "PAUSES", (0.0, 0.0))
    return tmp_path / "home"


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., WeightsFile]:
    """Puts an entry `toy` of one file into the registry."""

    def register(*urls: str, content: bytes | None = CONTENT, **fields: Any) -> WeightsFile:
        if content is not None:
            fields = {"sha256": sha256(content), "size": len(content)} | fields
        file = WeightsFile("toys/toy.pth", urls, **fields)
        monkeypatch.setitem(store.ENTRIES, "toy", WeightsEntry("toy", (file,), "MIT", "a toy"))
        return file

    return register
