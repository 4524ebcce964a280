"""Recordings that are to be compared: what is read of them, what is refused, what belongs
together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from rvc_jax.audio.filters import resample
from rvc_jax.audio.reading import decode
from rvc_jax.errors import UserError
from rvc_jax.metrics.clips import Clip, pair_files, read_clip


def write(path: Path, wave: np.ndarray, rate: int = 16000, subtype: str = "FLOAT") -> Path:
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, wave, rate, subtype)
    return path


def test_a_stretch_is_read_and_no_more(tmp_path: Path) -> None:
    ramp = np.linspace(-1, 1, 48000, dtype=np.float32)
    path = write(tmp_path / "ramp.wav", np.stack([ramp, 0 * ramp], axis=1))
    whole = read_clip(path)
    assert whole.whole and whole.seconds == 3 and whole.rate == 16000
    np.testing.assert_array_equal(whole.wave, ramp / 2)  # the mean of both channels
    part = read_clip(path, 1.0, 0.5)
    assert not part.whole
    np.testing.assert_array_equal(part.wave, ramp[16000:24000] / 2)
    assert (
        read_clip(path, 0.0, 3.0).whole
        and not read_clip(path, 0.0, 2.99).whole
        and not read_clip(path, 0.5).whole
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: write(path, np.ones(160)), "10 ms of sound; it takes 100 ms or more"),
        (lambda path: write(path, np.full(16000, np.nan)), "NaN or infinite samples"),
        (lambda path: path.write_text("this is no sound"), "not audio"),
        (lambda path: path.touch(), "empty file"),
        (lambda path: None, "cannot be read: No such file"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    make, message: str, tmp_path: Path
) -> None:
    make(tmp_path / "x.wav")
    with pytest.raises(UserError, match=rf"x\.wav can't be measured: .*{message}") as caught:
        read_clip(tmp_path / "x.wav")
    assert "\n" not in str(caught.value)


def test_a_stretch_behind_the_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="1.0 s long: it cannot be cut from 2 s"):
        read_clip(write(tmp_path / "x.wav", np.ones(16000)), 2.0)


def test_bandwidth_and_speech(sample_voice: Path) -> None:
    channels, rate = decode(sample_voice / "vm-choose_password.flac")
    wide = Clip(channels[0], rate)
    narrow = Clip(resample(resample(channels[0], rate, 8000), 8000, rate), rate)
    assert narrow.bandwidth() == pytest.approx(4000, abs=300) and wide.bandwidth() > 7000
    assert 0.3 < len(wide.speech16k) / len(wide.audio16k) < 1
    hush = Clip(np.zeros(16000, np.float32), 16000)
    assert (
        hush.is_silent
        and not wide.is_silent
        and hush.bandwidth() is None
        and len(hush.speech16k) == 0
    )


def test_files_are_paired_and_folders_by_names(tmp_path: Path) -> None:
    tone = np.ones(1600)
    for name in (
        "in/a.wav",
        "in/b.flac",
        "in/only.wav",
        "out/a.wav",
        "out/b.wav",
        "out/extra.wav",
        "said/b.ogg",
    ):
        write(tmp_path / name, tone, subtype=None)
    source, converted, said = (tmp_path / name for name in ("in", "out", "said"))
    files, notes = pair_files(converted, source, said)
    assert [(item.name, item.source.name, item.converted.name) for item in files] == [
        ("a", "a.wav", "a.wav"),
        ("b", "b.flac", "b.wav"),
    ]
    assert [item.reference and item.reference.name for item in files] == [None, "b.ogg"]
    assert [note.split()[0] for note in notes] == ["extra", "only"]
    assert len(pair_files(converted, None, None)[0]) == 3
    (single,), nothing = pair_files(converted / "a.wav", source / "b.flac", None)
    assert single.name == "a.wav" and single.reference is None and not nothing


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    for name in ("a/x.wav", "b/y.wav", "twice/x.wav", "twice/x.flac"):
        write(tmp_path / name, np.ones(1600), subtype=None)
    (tmp_path / "empty").mkdir()
    for converted, source, message in (
        ("a", "b", "no recording in .*a has the name of one in .*b"),
        ("a", "a/x.wav", "name files, or folders"),
        ("a", "empty", "empty holds no recordings"),
        ("gone.wav", "a/x.wav", r"gone\.wav does not exist"),
        ("twice", "a", "have one name"),
    ):
        with pytest.raises(UserError, match=message):
            pair_files(tmp_path / converted, tmp_path / source, None)
