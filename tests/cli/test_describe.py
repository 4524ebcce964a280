"""`rvc-jax info` knows what it is shown."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import pytest

from rvc_jax.cli.describe import describe
from rvc_jax.cli.main import main
from rvc_jax.errors import UserError


def test_a_dataset(sample_dataset: Path) -> None:
    figures = describe(sample_dataset)
    assert (figures["kind"], figures["preset"], figures["files"]) == ("dataset", "nano", 6)
    assert figures["train_slices"] > 5


def test_a_run(tiny_run: Path) -> None:
    figures = describe(tiny_run)
    assert (figures["kind"], figures["sample_rate"], figures["epochs_asked_for"]) == (
        "run",
        16000,
        4,
    )
    assert 0 < figures["holdout_best"] <= figures["holdout_before"]
    assert figures["steps"] > 0 and figures["bytes"] > 1e6


def test_a_recording_and_a_folder_of_them(other_clip: Path, sample_voice: Path) -> None:
    assert describe(other_clip) == {
        "kind": "recording",
        "path": str(other_clip),
        "seconds": 7.1,
        "sample_rate": 16000,
        "channels": 1,
        "peak": pytest.approx(0.4224, abs=1e-3),
    }
    assert describe(sample_voice)["files"] == 6


def test_a_pytorch_file(tmp_path: Path) -> None:
    path = tmp_path / "voice.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "voice/data.pkl", pickle.dumps({"config": [1, 2], "sr": "40k"}, protocol=2)
        )
        archive.writestr("voice/byteorder", b"little")
    figures = describe(path)
    assert (figures["kind"], figures["keys"]) == ("PyTorch file", ["config", "sr"])


def test_unknown_things_are_told_in_one_line(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("buy milk")
    with pytest.raises(
        UserError,
        match="notes.txt is nothing that rvc-jax knows: as a recording it is not audio",
    ):
        describe(text)


def test_the_command_prints_both_ways(
    sample_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(sample_dataset)]) == 0
    assert "train slices" in capsys.readouterr().out
    assert main(["info", str(sample_dataset), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["preset"] == "nano"
