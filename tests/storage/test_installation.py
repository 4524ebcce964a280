"""The command that installs an extra, by the way in which the program was installed."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from rvc_jax.storage import installation
from rvc_jax.storage.installation import install_command


@pytest.fixture(autouse=True)
def fresh() -> None:
    install_command.cache_clear()


def test_a_checkout_is_installed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.setattr(installation, "_ROOT", tmp_path)
    assert install_command("serve") == f'pip install -e "{tmp_path}[serve]"'
    monkeypatch.chdir(tmp_path)
    assert install_command("eval") == 'pip install -e ".[eval]"'


@pytest.mark.parametrize(
    ("record", "source"),
    [
        (None, ""),
        ({"url": "file:///a/rvc.whl", "archive_info": {}}, " @ file:///a/rvc.whl"),
        ({"url": "https://h.org/r", "vcs_info": {"vcs": "git"}}, " @ git+https://h.org/r"),
    ],
)
def test_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: dict | None, source: str
) -> None:
    monkeypatch.setattr(installation, "_ROOT", tmp_path)
    found = SimpleNamespace(read_text=lambda _: record and json.dumps(record))
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: found)
    assert install_command("onnx") == f'pip install "rvc_jax[onnx]{source}"'
