"""`rvc-jax convert`: folders, standard input and output. A voice that turns the sound upside down
stands in."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rvc_jax.audio.reading import decode
from rvc_jax.audio.writing import save
from rvc_jax.cli.main import main
from rvc_jax.config import ConvertConfig
from rvc_jax.infer import files
from rvc_jax.infer.postprocess import ConvertedAudio
from rvc_jax.infer.recording import Source
from rvc_jax.reporter import Reporter

RATE = 16000


class UpsideDown:
    notes: tuple[str, ...] = ()

    def __init__(self, config: ConvertConfig):
        self.config = config

    def convert(self, source: Source, reporter: Reporter) -> ConvertedAudio:
        reporter.progress("converting", 1, 1)
        wave = np.concatenate(list(source.blocks), axis=1)
        return ConvertedAudio(source.rate, 0.0, -wave[0])


@pytest.fixture(autouse=True)
def voice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "load_converter", lambda place, config, *_: UpsideDown(config))


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    save(tmp_path / "speech.wav", np.full(RATE, 0.25, np.float32), RATE)
    return tmp_path / "speech.wav"


@pytest.mark.parametrize(
    ("format", "container"), [(None, "WAV"), ("flac", "FLAC"), ("opus", "OGG")]
)
def test_from_standard_input_to_standard_output(
    recording: Path,
    format: str | None,
    container: str,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(recording.read_bytes())))
    assert main(["convert", "run", "-", "-", *(["--format", format] if format else [])]) == 0
    output = capsysbinary.readouterr()
    with soundfile.SoundFile(io.BytesIO(output.out)) as sound:
        assert sound.format == container and sound.frames == RATE
        assert (
            sound.read()[1000:-1000].mean() == pytest.approx(-0.25, abs=0.02)
            or container == "OGG"
        )
    assert b"to standard output" in output.err


def test_json_goes_to_standard_error_beside_sound(
    recording: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["convert", "run", str(recording), "-", "--json", "--bit-depth", "24"]) == 0
    output = capsysbinary.readouterr()
    assert soundfile.info(io.BytesIO(output.out)).subtype == "PCM_24"
    assert json.loads(output.err[output.err.index(b"{") :])["samples"] == RATE


def test_what_comes_in_is_named(
    tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for content, reason in ((b"", "empty file"), (b"no sound", "not audio")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert main(["convert", "run", "-", str(tmp_path / "out.wav")]) == 2
        assert (
            capsys.readouterr().err
            == f"rvc-jax: error: standard input can't be converted: {reason}\n"
        )
    assert list(tmp_path.iterdir()) == []


def test_options_of_the_file_arrive(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.mp3"
    assert main(["convert", "run", str(recording), str(out), "--bit-rate", "32"]) == 0
    assert out.stat().st_size * 8 / 1000 == pytest.approx(32, rel=0.3)
    capsys.readouterr()
    for arguments, message in (
        ([str(recording), "out.wav", "--format", "flac"], "--format flac contradicts out.wav"),
        ([str(recording), "out.wav", "--overwrite"], "--overwrite is for folders"),
        (
            [str(recording), "out.wav", "--bit-rate", "96"],
            "out.wav: .wav files have no bit rate to choose",
        ),
        (
            [str(recording), "-", "--format", "opus", "--bit-depth", "24"],
            "standard output: .opus files have no bit",
        ),
        ([str(tmp_path), "-"], "is a folder: name a folder to write, not standard output"),
    ):
        assert main(["convert", "run", *arguments]) == 2
        output = capsys.readouterr()
        assert message in output.err and output.out == "" and len(output.err.splitlines()) == 1


def test_a_folder_with_a_broken_recording_is_1(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    out = tmp_path / "out"
    source.mkdir()
    recording.rename(source / "good.wav")
    (source / "bad.wav").write_text("no sound")
    assert main(["convert", "run", str(source), str(out), "--format", "flac"]) == 1
    output = capsys.readouterr()
    assert decode(out / "good.flac")[0].mean() == pytest.approx(-0.25, abs=1e-3)
    assert "failed     " in output.out and "bad.wav can't be converted: not audio" in output.out
    assert "1 of 2 recordings" in output.out and "2/2 good.wav" in output.err
    assert main(["convert", "run", str(source), str(out), "--format", "flac", "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["converted"], result["present"], len(result["failed"])) == (0, 1, 1)
    (source / "bad.wav").unlink()
    assert main(["convert", "run", str(source), str(out), "--format", "flac"]) == 0
    assert "1; --overwrite converts them again" in capsys.readouterr().out
