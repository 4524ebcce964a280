"""Files in, files out, and what is said of files that are not what they should be."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from rvc_jax.audio.io import decode
from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.file import convert_file


@pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg", ".mp3"])
def test_writes_every_format(tiny_run: Path, other_clip: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"Ünïcode 🎤 out{ending}"
    conversion = convert_file(tiny_run, other_clip, out, ConvertConfig())
    wave, rate = decode(out)
    assert rate == conversion.rate == 16000
    tolerance = 0 if ending in (".wav", ".flac") else 0.1 * rate
    assert abs(wave.shape[1] - 113600) <= tolerance
    assert np.abs(wave).max() > 1e-3
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_an_unknown_ending_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write \.xyz; use \.wav, \.flac, \.ogg, \.mp3"):
        convert_file(tmp_path / "no run", tmp_path / "no recording.wav", tmp_path / "out.xyz", ConvertConfig())


def bad_inputs(tmp_path: Path, run: Path, dataset: Path, clip: Path) -> dict[str, tuple[Path, Path, Path, str]]:
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
        "missing recording": (run, tmp_path / "gone.wav", out, "gone.wav can't be converted: cannot be read"),
        "folder as recording": (run, tmp_path, out, "can't be converted"),
        "missing run": (tmp_path / "gone", clip, out, "there is no run folder at"),
        "another program's folder": (other, clip, out, "is not a run of rvc-jax"),
        "dataset as run": (dataset, clip, out, "is not a run of rvc-jax"),
        "run without a voice": (untrained, clip, out, "holds no best voice yet"),
        "missing output folder": (run, clip, tmp_path / "gone" / "out.wav", "there is no folder"),
        "output is a folder": (run, clip, other.with_suffix(".wav"), "is a folder"),
        "output is the recording": (run, own, own, "is the recording itself"),
    }


@pytest.mark.parametrize(
    "case",
    [
        "text named wav", "missing recording", "folder as recording", "missing run", "another program's folder",
        "dataset as run", "run without a voice", "missing output folder", "output is a folder",
        "output is the recording",
    ],
)  # fmt: skip
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
