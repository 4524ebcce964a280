"""The logs of the last commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from rvc_jax.cli.last_log import log_folder, note, read_last_log, record_command


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RVC_JAX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_last_log_has_the_command_and_its_messages() -> None:
    assert read_last_log() is None
    note("before any command")
    for number in range(8):
        with record_command(["fetch", f"https://user:pw@site.org/{number}", "--out", "a b"]):
            note(f"message {number}\x1b[2J\nsecond line")
    note("after it")
    log = read_last_log() or ""
    assert log.splitlines()[1:] == [
        "rvc-jax fetch https://site.org/... --out 'a b'",
        "message 7?[2J",
        "second line",
    ]
    assert len(list(log_folder().iterdir())) == 5


def test_a_log_stays_small() -> None:
    with record_command(["train"]):
        for _ in range(1000):
            note("a line of some length, again and again " * 10)
    assert len(read_last_log() or "") < 200_000


def test_a_cache_that_cannot_be_written_to_keeps_no_log(home: Path) -> None:
    home.write_text("a file in the place of the folder")
    with record_command(["train"]):
        note("still trains")
    assert read_last_log() is None
