"""`rvc-jax audit`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import soundfile

from rvc_jax.cli.main import main
from rvc_jax.config import PrepareConfig
from rvc_jax.data.prepare import prepare


def test_it_writes_a_page_and_tells_the_figures(
    sample_dataset: Path, tmp_path: Path, capsys
) -> None:
    page = tmp_path / "audit.html"
    assert main(["audit", str(sample_dataset), "--out", str(page)]) == 0
    shown, progress = capsys.readouterr()
    assert "measuring 100%" in progress
    for text in ("signal-to-noise ratio", "bandwidth", "epochs", "pitch span", str(page)):
        assert text in shown
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_json_holds_every_measure(sample_dataset: Path, tmp_path: Path, capsys) -> None:
    assert (
        main(["audit", str(sample_dataset), "--out", str(tmp_path / "a.html"), "--json"]) == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert {"speech_share", "bandwidth_hz", "repeated", "worst", "pitch"} <= set(
        result["audit"]
    ) | set(result["audit"]["voices"][0])
    assert len(result["audit"]["worst"]) == 10
    assert {item["topic"] for item in result["advice"]} >= {
        "amount of speech",
        "epochs",
        "sample rate and preset",
    }


def test_a_recording_that_is_there_twice_is_found_after_preparation(
    sample_voice: Path, tmp_path: Path, capsys
) -> None:
    """Under another name, quieter and in another format: preparation may well cut it elsewhere."""
    speech = tmp_path / "speech"
    speech.mkdir()
    first, *others = sorted(sample_voice.iterdir())[:3]
    for path in (first, *others):
        shutil.copy(path, speech)
    wave, rate = soundfile.read(first)
    soundfile.write(speech / "copy.ogg", 0.4 * wave, rate)
    prepare(speech, tmp_path / "dataset", PrepareConfig(preset="nano"))
    assert (
        main(["audit", str(tmp_path / "dataset"), "--out", str(tmp_path / "a.html"), "--json"])
        == 0
    )
    (repeated,) = json.loads(capsys.readouterr().out)["audit"]["repeated"]
    assert {repeated["first"], repeated["second"]} == {first.name, "copy.ogg"}
    assert repeated["seconds"] == pytest.approx(len(wave) / rate, rel=0.25)


@pytest.mark.parametrize(
    ("dataset", "out", "message"),
    [
        ("missing", "a.html", "is not a dataset made by"),
        (None, "no/folder/a.html", "cannot be written"),
        (None, ".", "cannot be written"),
    ],
)
def test_mistakes_are_told_in_one_line(
    sample_dataset: Path, tmp_path: Path, capsys, dataset, out, message
) -> None:
    path = tmp_path / dataset if dataset else sample_dataset
    assert main(["audit", str(path), "--out", str(tmp_path / out)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error
