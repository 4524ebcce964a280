"""The doctor finds this machine fit, and says so when it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rvc_jax.cli.main import main
from rvc_jax.weights import bundled


def test_everything_works_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    for name in (
        "jax",
        "tensorflow",
        "devices",
        "weights swift_f0",
        "write and read .mp3",
        "read .m4a",
    ):
        assert checks[name]["ok"], checks[name]
    assert checks["devices"]["detail"].startswith("cpu")


def test_missing_weights_are_essential(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith("NO   weights whisper_tiny") and "No such file" in line
        for line in lines
    )
    assert lines[-1].startswith("broken: weights swift_f0, weights whisper_tiny; ")
    assert "rvc-jax bug-report" in lines[-1]
