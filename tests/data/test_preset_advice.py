"""Advice on what this machine can train."""

from __future__ import annotations

from pathlib import Path

import pytest

from rvc_jax.cli.main import main
from rvc_jax.config import PRESETS, PresetName
from rvc_jax.data.preset_advice import advise_on_preset
from rvc_jax.errors import UserError


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_cpu_is_for_the_small_presets(preset: PresetName) -> None:
    assert advise_on_preset(preset, "tpu") == advise_on_preset(preset, "gpu") == ""
    advice = advise_on_preset(preset, "cpu")
    assert ("prepare with --preset small" in advice) == (preset not in ("small", "nano"))


def test_prepare_says_so_before_its_work(
    sample_voice: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*arguments: object) -> None:
        raise UserError("enough")

    # What comes after the recordings are found, and before they are read.
    monkeypatch.setattr("rvc_jax.data.prepare.Cache", stop)
    command = ["prepare", str(sample_voice), "--out", str(tmp_path / "dataset")]
    assert main(command) == 2
    assert "prepare with --preset small" in capsys.readouterr().err
    assert main([*command, "--preset", "small"]) == 2
    assert "--preset" not in capsys.readouterr().err
