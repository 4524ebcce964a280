"""The text for an issue: complete, without anything private, and never failing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rvc_jax.cli import bug_report
from rvc_jax.cli.bug_report import write_report
from rvc_jax.cli.main import main

SECTIONS = ("versions", "system", "devices", "disks", "variables", "last command")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RVC_JAX_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(bug_report, "_LIST_DEVICES", "print('cpu cpu')")
    return tmp_path / "home"


def test_the_report_has_every_part_and_nothing_private(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JAX_HOME_OF", f"{Path.home()}/x")
    monkeypatch.setenv("https_proxy", "http://user:hidden@proxy:3128")
    monkeypatch.setenv("TF_TOKEN", "hidden")
    monkeypatch.setenv("OTHER", "hidden")
    assert main(["fetch", "http://user:hidden@127.0.0.1/a?k=hidden", "--out", "x"]) == 2
    capsys.readouterr()
    assert main(["bug-report"]) == 0
    text = capsys.readouterr().out
    for section in SECTIONS:
        assert f"**{section}**" in text
    assert "hidden" not in text and "OTHER" not in text and f"{Path.home()}/" not in text
    assert "rvc_jax 0." in text and "jaxlib" in text and "cpu cpu" in text
    assert "rvc-jax fetch" in text and "exit code 2" in text and "JAX_HOME_OF=~/x" in text
    assert text.count("```") == 2 * len(SECTIONS)


def test_no_part_makes_it_fail(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("broken ```")

    for name in ("_find_processor", "read_last_log", "cache_dir"):
        monkeypatch.setattr(bug_report, name, fail)
    monkeypatch.setattr(bug_report, "_LIST_DEVICES", "import time; time.sleep(60)")
    monkeypatch.setattr(bug_report, "_DEVICE_SECONDS", 1)
    text = write_report()
    assert text.count("failed: RuntimeError: broken '''") == 3
    assert "no answer in 1 s" in text


def test_an_unexpected_error_ends_with_the_command_to_use(home: Path) -> None:
    code = (
        "import sys; from rvc_jax.cli import main\n"
        "def info(): raise RuntimeError('surprise')\n"
        "main.COMMANDS = {'train': info, 'card': info}\n"
        "sys.exit(main.main(['train']))"
    )
    environment = {**os.environ, "RVC_JAX_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "RuntimeError: surprise" in done.stderr
    assert "rvc-jax bug-report" in done.stderr.splitlines()[-1]
    (log,) = (home / "logs").iterdir()
    assert "RuntimeError: surprise" in log.read_text()
