"""The cache folder and the process's memory."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from rvc_jax.storage.environment import cache_dir, peak_memory, silence_libraries


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RVC_JAX_HOME", str(tmp_path / "named"))
    assert cache_dir() == tmp_path / "named"
    monkeypatch.delenv("RVC_JAX_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "rvc_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert cache_dir() == tmp_path / ".cache" / "rvc_jax"


def test_libraries_are_silent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("orbax")
    monkeypatch.setattr(logger, "filters", [])
    monkeypatch.setattr("warnings.simplefilter", lambda action: None)
    silence_libraries()
    logger.error("a remark")
    assert not caplog.records
    logger.critical("the end")
    assert [record.message for record in caplog.records] == ["the end"]


def test_peak_memory_never_falls() -> None:
    before = peak_memory()
    assert before > 10_000_000
    array = np.ones(16_000_000)
    assert peak_memory() >= before and array.nbytes == 128_000_000
