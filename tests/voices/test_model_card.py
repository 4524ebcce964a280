"""What the model card states, and that names can not add markup to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_runs import make_model, make_run

from rvc_jax.cli.main import main
from rvc_jax.voices.model import VoiceModel
from rvc_jax.voices.model_card import CardFile, render_card
from rvc_jax.voices.open import open_voice


def cells(text: str) -> dict[str, list[str]]:
    """The tables' lines, by their first cell."""
    lines = [
        line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")
    ]
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


def test_card_of_a_run(tmp_path: Path) -> None:
    text = render_card(open_voice(make_run(tmp_path / "callie").path))
    table = cells(text)
    assert text.startswith("# callie\n")
    assert table["speech"] == ["61.5 minutes in 3 files, 1 speaker(s)"]
    assert table["training"][0].startswith("20 steps so far, 50 epochs asked for")
    assert table["this voice"] == ["of step 10, epoch 1"]
    assert table["content encoder"][0].startswith("contentvec, 384 channels (SHA-256 abab")
    assert table["pitch method"] == ["rmvpe"] and table["preset"] == ["nano"]
    assert table["speaker 0"] == ["callie: 61.5 minutes, median pitch 190 Hz"]
    assert table["log-mel error"] == ["2.5", "1.25"]
    assert table["multi-resolution STFT distance"] == ["3", "2"]
    assert "Best voice: step 10." in text
    assert "rights to the recordings were not stated" in text
    assert "consent" in text and "synthetic" in text


def test_rights_are_stated(tmp_path: Path) -> None:
    text = render_card(
        open_voice(make_run(tmp_path / "a").path), license_note="CC-BY 4.0,\nby the speaker"
    )
    assert "CC-BY 4.0, by the speaker" in text and "not stated" not in text
    notes = ("two files are quiet", "the licence of the recordings: public domain")
    text = render_card(open_voice(make_run(tmp_path / "b", notes=notes).path))
    assert "the licence of the recordings: public domain" in text and "quiet" not in text


def test_a_voice_without_holdout_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    (run.path / "history.jsonl").unlink()
    text = render_card(open_voice(run.path))
    assert "No speech was held out" in text and "epoch" not in cells(text)["this voice"][0]


def test_files_are_listed_with_their_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VoiceModel, "is_rvc_compatible", True)
    files = (
        CardFile("made.pth", 12, "12" * 32),
        CardFile("made.onnx", 3, "34" * 32),
        CardFile("G_0.pth", 1, "5"),
    )
    text = render_card(make_model(1), files)
    assert cells(text)["made.pth"] == ["12", f"`{'12' * 32}`"]
    assert cells(text)["speech"] == ["00:20:00 (hours, minutes, seconds)"]
    uses = text.partition("## Use")[2]
    for tool in (
        "Applio",
        "Ultimate RVC",
        "RVC WebUI",
        "w-okada",
        "ONNX",
        "To train on",
        "rvc-jax convert",
    ):
        assert tool in uses
    assert ".index" not in uses and ".zip" not in uses
    plain = render_card(make_model(1, content_encoder="spin"), files)
    assert "embedder model: spin" in plain and "w-okada" not in plain


def test_a_voice_that_runs_here_alone_does_not_promise_more() -> None:
    text = render_card(make_model(1, content_encoder="whisper-tiny"))
    assert "Other RVC tools can't use it" in text and "Applio" not in text


def test_names_are_text(tmp_path: Path) -> None:
    speaker = "a | b\n# <script>alert(1)</script> [x](http://y) \x1b[31m"
    text = render_card(open_voice(make_run(tmp_path / "a", speakers=(speaker,)).path))
    line = next(line for line in text.splitlines() if line.startswith("| speaker 0"))
    assert "\\<script\\>" in line and "a \\| b" in line and "\\[x\\]" in line
    assert "\x1b" not in text and "\n# <" not in text


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = str(make_run(tmp_path / "a").path)
    out = tmp_path / "card.md"
    assert main(["card", run]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# a\n")
    assert main(["card", run, "--out", str(out)]) == 0 and out.read_text() == printed
    capsys.readouterr()
    assert main(["card", run, "--license-note", "mine", "--json"]) == 0
    assert "mine" in json.loads(capsys.readouterr().out)["card"]
    assert main(["card", run, "--out", str(tmp_path / "no" / "card.md")]) == 2
    assert main(["card", str(tmp_path / "no")]) == 2
