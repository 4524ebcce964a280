"""Folders of recordings. A voice that only turns the sound upside down stands in for a network."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from rvc_jax.audio.reading import AudioError, decode, save
from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.infer import files as file
from rvc_jax.infer import folder
from rvc_jax.infer.converter import Source
from rvc_jax.infer.folder import convert_folder
from rvc_jax.infer.postprocess import ConvertedAudio

RATE = 16000


class UpsideDown:
    """Stands in for a Converter, and counts what it is asked for."""

    def __init__(self, config: ConvertConfig):
        self.config = config
        self.calls = 0

    def speak(self, source: Source, progress=lambda share: None) -> ConvertedAudio:
        self.calls += 1
        progress(1.0)
        wave = np.concatenate(list(source.blocks()), axis=1)
        return ConvertedAudio(source.rate, 0.0, -wave[0], None, 1.0)


@pytest.fixture
def voices(monkeypatch: pytest.MonkeyPatch) -> list[UpsideDown]:
    """The voices that were loaded."""
    loaded: list[UpsideDown] = []

    def load(
        run: Path | str, config: ConvertConfig, which: str, index: Path | None
    ) -> UpsideDown:
        loaded.append(UpsideDown(config))
        return loaded[-1]

    monkeypatch.setattr(folder, "warm_converter", load)
    return loaded


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    source = tmp_path / "speech"
    for number, name in enumerate(
        ["a.wav", "b.wav", "b.flac", "deep/er/ü.wav", "deep/broken.wav"], 1
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        save(source / name, np.full(RATE, number / 10, np.float32), RATE)
    (source / "deep/broken.wav").write_text("no sound")
    (source / "notes.txt").write_text("no recording")
    return source


def files(path: Path) -> list[str]:
    return sorted(
        found.relative_to(path).as_posix() for found in path.rglob("*") if found.is_file()
    )


def test_a_folder_becomes_a_folder(
    voices: list[UpsideDown], speech: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "out"
    told = []
    result = convert_folder(
        "run", speech, out, ConvertConfig(), ending=".flac", progress=lambda *p: told.append(p)
    )
    assert files(out) == ["a.flac", "b.flac.flac", "b.wav.flac", "deep/er/ü.flac"]
    levels = {name: decode(out / name)[0].mean() for name in files(out)}
    expected = {"a.flac": -0.1, "b.wav.flac": -0.2, "b.flac.flac": -0.3, "deep/er/ü.flac": -0.4}
    assert levels == pytest.approx(expected, abs=1e-3)
    assert (
        len(result.converted) == 4
        and result.present == []
        and result.seconds == pytest.approx(4)
    )
    ((name, reason),) = result.failed
    assert (
        name == Path("deep/broken.wav") and "broken.wav can't be converted: not audio" in reason
    )
    assert len(voices) == 1 and voices[0].calls == 4
    assert [done for done, *_ in told] == sorted(done for done, *_ in told) and {
        total for _, total, _ in told
    } == {5}


def test_what_is_there_is_kept(voices: list[UpsideDown], speech: Path, tmp_path: Path) -> None:
    (speech / "deep/broken.wav").unlink()
    out = tmp_path / "out"
    convert_folder("run", speech, out, ConvertConfig())
    (out / "a.wav").write_text("made by hand")
    (out / "deep/er/ü.wav").unlink()
    result = convert_folder("run", speech, out, ConvertConfig())
    assert result.converted == [Path("deep/er/ü.wav")] and len(result.present) == 3
    assert (out / "a.wav").read_text() == "made by hand" and voices[1].calls == 1
    result = convert_folder("run", speech, out, ConvertConfig())
    assert (
        result.converted == [] and len(result.present) == 4 and len(voices) == 2
    )  # no voice is loaded for nothing
    result = convert_folder("run", speech, out, ConvertConfig(), overwrite=True)
    assert len(result.converted) == 4 and decode(out / "a.wav")[0].mean() == pytest.approx(
        -0.1, abs=1e-3
    )


def test_a_full_disk_ends_it(
    voices: list[UpsideDown], speech: Path, tmp_path: Path, monkeypatch
) -> None:
    def full(path: Path, *_: object) -> None:
        raise UserError(f"{path}: cannot be written: disk full") from OSError(
            errno.ENOSPC, "disk full"
        )

    monkeypatch.setattr(file, "write", full)
    with pytest.raises(UserError, match="a.wav: cannot be written: disk full"):
        convert_folder("run", speech, tmp_path / "out", ConvertConfig())
    assert voices[0].calls == 1


def test_mistakes_are_told_before_a_voice_is_loaded(
    voices: list[UpsideDown], speech: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    out = tmp_path / "out"
    for source, target, config, ending, message in (
        (tmp_path / "empty", out, {}, ".wav", "has no recordings in it"),
        (tmp_path / "gone", out, {}, ".wav", "is not a folder"),
        (
            speech,
            tmp_path / "file",
            {},
            ".wav",
            "is a file; a folder of recordings is converted into a folder",
        ),
        (speech, speech, {}, ".wav", "lies in the folder of recordings"),
        (speech, speech / "deep" / "out", {}, ".wav", "lies in the folder of recordings"),
        (
            speech,
            out,
            {"f0_file": Path("curve.csv")},
            ".wav",
            "--f0-file has the pitch of one recording",
        ),
        (speech, out, {"bit_rate": 96}, ".flac", "have no bit rate to choose"),
        (speech, out, {"protect": 2}, ".wav", "out of range"),
    ):
        with pytest.raises(UserError, match=message):
            convert_folder("run", source, target, ConvertConfig(**config), ending=ending)
    assert voices == [] and not out.exists()


def test_a_voice_that_fails_on_a_recording_goes_on(
    voices, speech: Path, tmp_path: Path, monkeypatch
) -> None:
    def short(self: UpsideDown, source: Source, progress: object) -> ConvertedAudio:
        raise AudioError("too short")

    monkeypatch.setattr(UpsideDown, "speak", short)
    result = convert_folder("run", speech, tmp_path / "out", ConvertConfig())
    assert len(result.failed) == 5 and files(tmp_path / "out") == []
