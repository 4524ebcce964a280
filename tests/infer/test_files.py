"""Files and folders in and out, and the messages for files that can't be used.

For folders, a stand-in that inverts the sign of the samples takes the place of a voice.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from reporting import KeepingReporter

from rvc_jax.audio import blocks
from rvc_jax.audio.reading import AudioError, decode
from rvc_jax.audio.writing import save
from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.infer import files
from rvc_jax.infer.files import convert_file, convert_folder, load_converter
from rvc_jax.infer.postprocess import ConvertedAudio
from rvc_jax.infer.recording import Source
from rvc_jax.reporter import Reporter

RATE = 16000


@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg", ".mp3"])
def test_writes_every_format(
    tiny_run: Path, other_clip: Path, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / f"Ünïcode 🎤 out{ending}"
    converted = convert_file(tiny_run, other_clip, out, ConvertConfig())
    wave, rate = decode(out)
    assert rate == converted.rate == 16000
    tolerance = 0 if ending in (".wav", ".flac") else 0.1 * rate
    assert abs(wave.shape[1] - 113600) <= tolerance
    assert np.abs(wave).max() > 1e-3
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_long_file_equals_the_array(
    tiny_run: Path, other_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long waves are kept on the disk meanwhile, and nothing is left there."""
    wave, rate = decode(other_clip)
    source = tmp_path / "stereo.flac"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    stereo = np.stack([wave[0], np.roll(wave[0], 300)])[:, :70001]
    soundfile.write(source, stereo.T, rate)
    stereo, rate = decode(source)
    config = ConvertConfig(stereo="keep-side", volume_envelope=0.5)
    expected = load_converter(tiny_run, config).convert_array(stereo, rate)
    monkeypatch.setattr(blocks, "BLOCK", 9000)
    monkeypatch.setattr(blocks, "IN_MEMORY_SECONDS", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    out = tmp_path / "out.flac"
    converted = convert_file(tiny_run, source, out, config)
    assert (converted.samples, converted.channels) == (70001, 2)
    assert isinstance(converted.middle, np.memmap) and isinstance(converted.side, np.memmap)
    np.testing.assert_allclose(decode(out)[0], expected, atol=1e-4)  # of 16 bits
    assert list(scratch.iterdir()) == []


def test_unknown_extensions_are_refused_first(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write \.xyz; use \.wav, \.flac, \.ogg, \.mp3"):
        convert_file(
            tmp_path / "no run",
            tmp_path / "no recording.wav",
            tmp_path / "out.xyz",
            ConvertConfig(),
        )


def bad_inputs(
    tmp_path: Path, run: Path, dataset: Path, clip: Path
) -> dict[str, tuple[Path, Path, Path, str]]:
    out = tmp_path / "out.wav"
    text = tmp_path / "text.wav"
    text.write_text("text, not audio")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"architectures": ["GPT"]}')
    untrained = tmp_path / "untrained"
    untrained.mkdir()
    shutil.copy(run / "config.json", untrained)
    own = tmp_path / "own.flac"
    shutil.copy(clip, own)
    return {
        "text named wav": (run, text, out, "text.wav can't be converted: not audio"),
        "missing recording": (
            run,
            tmp_path / "gone.wav",
            out,
            "gone.wav can't be converted: cannot be read",
        ),
        "folder as recording": (run, tmp_path, out, "can't be converted"),
        "missing run": (tmp_path / "gone", clip, out, "there is neither a run nor a voice at"),
        "another program's folder": (other, clip, out, "is not a run of rvc-jax"),
        "dataset as run": (dataset, clip, out, "holds neither a run nor a voice"),
        "run without a voice": (untrained, clip, out, "holds no best voice yet"),
        "missing output folder": (run, clip, tmp_path / "gone/out.wav", "there is no folder"),
        "output is a folder": (run, clip, other.with_suffix(".wav"), "is a folder"),
        "output is the recording": (run, own, own, "is the recording itself"),
    }


@pytest.mark.parametrize(
    "case",
    [
        "text named wav",
        "missing recording",
        "folder as recording",
        "missing run",
        "another program's folder",
        "dataset as run",
        "run without a voice",
        "missing output folder",
        "output is a folder",
        "output is the recording",
    ],
)
def test_bad_input_writes_nothing(
    case: str, tiny_run: Path, sample_dataset: Path, other_clip: Path, tmp_path: Path
) -> None:
    run, source, out, message = bad_inputs(tmp_path, tiny_run, sample_dataset, other_clip)[case]
    if case == "output is a folder":
        out.mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as raised:
        convert_file(run, source, out, ConvertConfig())
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert sorted(tmp_path.rglob("*")) == before


class UpsideDown:
    """Stands in for a Converter and counts its conversions."""

    notes = ()

    def __init__(self, config: ConvertConfig):
        self.config = config
        self.calls = 0

    def convert(self, source: Source, reporter: Reporter) -> ConvertedAudio:
        self.calls += 1
        reporter.progress("converting", 1, 1)
        wave = np.concatenate(list(source.blocks), axis=1)
        return ConvertedAudio(source.rate, 0.0, -wave[0])


@pytest.fixture
def voices(monkeypatch: pytest.MonkeyPatch) -> list[UpsideDown]:
    """The voices that were loaded."""
    loaded: list[UpsideDown] = []

    def load(
        run: Path | str, config: ConvertConfig, which: str, index: Path | None, *more: object
    ) -> UpsideDown:
        loaded.append(UpsideDown(config))
        return loaded[-1]

    monkeypatch.setattr(files, "load_converter", load)
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


def list_files(path: Path) -> list[str]:
    return sorted(
        found.relative_to(path).as_posix() for found in path.rglob("*") if found.is_file()
    )


def test_a_folder_is_converted(voices: list[UpsideDown], speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    reporter = KeepingReporter()
    result = convert_folder(
        "run", speech, out, ConvertConfig(), extension=".flac", reporter=reporter
    )
    assert list_files(out) == ["a.flac", "b.flac.flac", "b.wav.flac", "deep/er/ü.flac"]
    levels = {name: decode(out / name)[0].mean() for name in list_files(out)}
    expected = {"a.flac": -0.1, "b.wav.flac": -0.2, "b.flac.flac": -0.3, "deep/er/ü.flac": -0.4}
    assert levels == pytest.approx(expected, abs=1e-3)
    assert len(result.converted) == 4 and result.present == []
    assert result.seconds == pytest.approx(4)
    ((name, reason),) = result.failed
    assert (
        name == Path("deep/broken.wav") and "broken.wav can't be converted: not audio" in reason
    )
    assert len(voices) == 1 and voices[0].calls == 4
    done = [step.done for step in reporter.steps]
    assert done == sorted(done) and {step.total for step in reporter.steps} == {5}


def test_present_results_are_kept(
    voices: list[UpsideDown], speech: Path, tmp_path: Path
) -> None:
    (speech / "deep/broken.wav").unlink()
    out = tmp_path / "out"
    convert_folder("run", speech, out, ConvertConfig())
    (out / "a.wav").write_text("made by hand")
    (out / "deep/er/ü.wav").unlink()
    result = convert_folder("run", speech, out, ConvertConfig())
    assert result.converted == [Path("deep/er/ü.wav")] and len(result.present) == 3
    assert (out / "a.wav").read_text() == "made by hand" and voices[1].calls == 1
    result = convert_folder("run", speech, out, ConvertConfig())
    assert result.converted == [] and len(result.present) == 4
    assert len(voices) == 2  # no voice is loaded for nothing
    result = convert_folder("run", speech, out, ConvertConfig(), overwrite=True)
    assert len(result.converted) == 4
    assert decode(out / "a.wav")[0].mean() == pytest.approx(-0.1, abs=1e-3)


def test_a_full_disk_ends_a_folder(
    voices: list[UpsideDown], speech: Path, tmp_path: Path, monkeypatch
) -> None:
    def full(path: Path, *_: object) -> None:
        raise UserError(f"{path}: cannot be written: disk full") from OSError(
            errno.ENOSPC, "disk full"
        )

    monkeypatch.setattr(files, "write_audio", full)
    with pytest.raises(UserError, match="a.wav: cannot be written: disk full"):
        convert_folder("run", speech, tmp_path / "out", ConvertConfig())
    assert voices[0].calls == 1


def test_mistakes_are_reported_before_loading(
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
            "is a file; a folder of recordings is converted",
        ),
        (speech, speech, {}, ".wav", "is inside the folder of recordings"),
        (speech, speech / "deep" / "out", {}, ".wav", "is inside the folder of recordings"),
        (speech, out, {"f0_file": Path("c.csv")}, ".wav", "--f0-file has the pitch of one"),
        (speech, out, {"bit_rate": 96}, ".flac", "have no bit rate to choose"),
        (speech, out, {"protect": 2}, ".wav", "out of range"),
    ):
        with pytest.raises(UserError, match=message):
            convert_folder("run", source, target, ConvertConfig(**config), extension=ending)
    assert voices == [] and not out.exists()


def test_failed_recordings_do_not_stop_a_folder(
    voices, speech: Path, tmp_path: Path, monkeypatch
) -> None:
    def short(self: UpsideDown, source: Source, reporter: object) -> ConvertedAudio:
        raise AudioError("too short")

    monkeypatch.setattr(UpsideDown, "convert", short)
    result = convert_folder("run", speech, tmp_path / "out", ConvertConfig())
    assert len(result.failed) == 5 and list_files(tmp_path / "out") == []
