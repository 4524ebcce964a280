"""Servers on this machine count as the network."""

import pytest


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVC_JAX_OFFLINE", "0")
