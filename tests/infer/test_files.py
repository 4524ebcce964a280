"""Files in, files out, and what is said of files that are not what they should be."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rvc_jax.audio import blocks
from rvc_jax.audio.reading import decode
from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.converter import Converter
from rvc_jax.infer.files import convert_file
from rvc_jax.infer.voice import Voice
from rvc_jax.runs.folder import RunFolder


@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg", ".mp3"])
def test_writes_every_format(
    tiny_run: Path, other_clip: Path, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / f"Ünïcode 🎤 out{ending}"
    conversion = convert_file(tiny_run, other_clip, out, ConvertConfig())
    wave, rate = decode(out)
    assert rate == conversion.rate == 16000
    tolerance = 0 if ending in (".wav", ".flac") else 0.1 * rate
    assert abs(wave.shape[1] - 113600) <= tolerance
    assert np.abs(wave).max() > 1e-3
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_long_file_is_the_array_in_blocks(
    tiny_run: Path, other_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is long lies on the disk on its way, and nothing is left there."""
    wave, rate = decode(other_clip)
    source = tmp_path / "stereo.flac"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    stereo = np.stack([wave[0], np.roll(wave[0], 300)])[:, :70001]
    soundfile.write(source, stereo.T, rate)
    stereo, rate = decode(source)
    config = ConvertConfig(stereo="keep-side", volume_envelope=0.5)
    expected = Converter(Voice.from_run(RunFolder.open(tiny_run)), config).convert(stereo, rate)
    monkeypatch.setattr(blocks, "BLOCK", 9000)
    monkeypatch.setattr(blocks, "IN_MEMORY_SECONDS", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    out = tmp_path / "out.flac"
    spoken = convert_file(tiny_run, source, out, config)
    assert (spoken.samples, spoken.channels) == (70001, 2) and isinstance(
        spoken._middle, np.memmap
    )
    np.testing.assert_allclose(decode(out)[0], expected, atol=1e-4)  # of 16 bits
    assert list(scratch.iterdir()) == []


def test_an_unknown_ending_is_refused_before_any_work(tmp_path: Path) -> None:
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
    text.write_text("this is no sound")
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
        "missing run": (tmp_path / "gone", clip, out, "there is no run folder at"),
        "another program's folder": (other, clip, out, "is not a run of rvc-jax"),
        "dataset as run": (dataset, clip, out, "is not a run of rvc-jax"),
        "run without a voice": (untrained, clip, out, "holds no best voice yet"),
        "missing output folder": (
            run,
            clip,
            tmp_path / "gone" / "out.wav",
            "there is no folder",
        ),
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
def test_bad_input_gets_one_line_and_writes_nothing(
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
