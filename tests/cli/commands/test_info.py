"""`rvc-jax info`, and `inspect`, its old name for datasets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rvc_jax.cli.main import main

Captured = pytest.CaptureFixture[str]


def printed(capsys: Captured, *command: str) -> str:
    assert main(list(command)) == 0
    return capsys.readouterr().out


def test_a_dataset_is_shown_with_everything(sample_dataset: Path, capsys: Captured) -> None:
    """Counts, every setting, the shapes of a record: what `info` and `inspect` had shown."""
    rows = printed(capsys, "info", str(sample_dataset))
    for label in (
        "kind",
        "train slices",
        "speaker minutes",
        "fingerprint",
        "record wave",
        "record content",
        "setting normalization",
        "setting chunk_len",
    ):
        assert f"\n{label} " in f"\n{rows}", label
    assert "float16 [" in rows
    described = json.loads(printed(capsys, "info", str(sample_dataset), "--json"))
    assert described["kind"] == "dataset" and described["config"]["preset"] == "nano"
    assert {"wave", "content", "f0", "speaker"} <= set(described["record"])


def test_the_old_name_prints_the_same(sample_dataset: Path, capsys: Captured) -> None:
    for options in ([], ["--json"]):
        present = printed(capsys, "info", str(sample_dataset), *options)
        assert printed(capsys, "inspect", str(sample_dataset), *options) == present
    assert "inspect" not in printed(capsys, "--help")


def test_records_that_are_gone_are_noted(
    sample_dataset: Path, tmp_path: Path, capsys: Captured
) -> None:
    copy = shutil.copytree(sample_dataset, tmp_path / "dataset")
    for shard in copy.glob("*.tfrecord*"):
        shard.unlink()
    rows = printed(capsys, "info", str(copy))
    assert "train slices" in rows and "its records cannot be read: " in rows


def test_a_recording_is_shown(other_clip: Path, capsys: Captured) -> None:
    rows = dict(
        line.split(maxsplit=1)
        for line in printed(capsys, "info", str(other_clip)).splitlines()
        if not line.startswith("sample rate")
    )
    assert rows["kind"] == "recording" and rows["channels"] == "1"
