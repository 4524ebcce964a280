"""The quick start on half a minute of the sample, and the report that it writes."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile
from micro import MICRO

from rvc_jax.audio.reading import decode
from rvc_jax.cli.main import main
from rvc_jax.config import PRESETS


@pytest.fixture(scope="module")
def made(sample_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The quick start's folder and its JSON, with a few steps of a small network on a short voice
    whose dataset was there already. (`.ci/run` carries out the real one.)"""
    out = tmp_path_factory.mktemp("quick") / "start"
    shutil.copytree(sample_dataset, out / "dataset")
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", printed)
        patch.setitem(PRESETS, "nano", MICRO)
        assert main(["quickstart", "--out", str(out), "--epochs", "3", "--json"]) == 0
        first = json.loads(printed.getvalue())
        printed.truncate(0)
        printed.seek(0)
        assert main(["quickstart", "--out", str(out), "--json"]) == 0
    return out, {"first": first, "again": json.loads(printed.getvalue())}


def test_it_makes_what_it_says(made: tuple[Path, dict]) -> None:
    out, printed = made
    first = printed["first"]
    assert all(Path(path).exists() for path in first["files"]) and len(first["files"]) == 4
    assert first["steps"] > 2 and first["steps_per_second"] > 0
    assert first["holdout_after"] < first["holdout_before"]
    assert 9 <= first["transpose"] <= 14
    assert 1e8 < first["peak_memory_bytes"] < 4e10
    wave, rate = decode(out / "converted.wav")
    assert (wave.shape, rate) == ((1, 113600), 16000)


def test_running_again_uses_what_is_there(made: tuple[Path, dict]) -> None:
    first = made[1]["first"]
    again = made[1]["again"]
    assert again["steps"] == first["steps"] and again["steps_per_second"] is None
    assert again["holdout_after"] == first["holdout_after"]


def test_the_report_is_one_page_with_pictures_sounds_and_licences(
    made: tuple[Path, dict],
) -> None:
    page = (made[0] / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    charts = re.findall(r"<svg .*?</svg>", page)
    clips = 4 + page.count("The same slice from the latest state</h3>")
    assert len(charts) == clips + 1 + 3  # clips, pitch, learning, metrics and losses
    spectrograms = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert len(spectrograms) == clips
    for picture in spectrograms:
        pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(picture)))
        # One pixel per filter and frame; the first clip has 7.1 s.
        assert pixels.shape[0] >= 60 and pixels.shape[1] > 100
        assert np.ptp(pixels[..., :3]) > 0.5
    sounds = [
        soundfile.read(io.BytesIO(base64.b64decode(s)))
        for s in re.findall(r"audio/flac;base64,([^\"]+)", page)
    ]
    assert [rate for _, rate in sounds] == [16000] * clips
    assert len(sounds[0][0]) == len(sounds[1][0]) == 113600 and len(sounds[2][0]) == len(
        sounds[3][0]
    )
    assert "CC-BY-3.0" in page and "Public domain" in page and "hold-out log-mel error" in page


def test_a_folder_with_something_else_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "diary.txt").write_text("dear diary")
    assert main(["quickstart", "--out", str(tmp_path)]) == 2
    assert "is not a dataset" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["dataset", "diary.txt"]


def test_a_dataset_of_other_settings_is_not_used(
    sample_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(sample_dataset, tmp_path / "dataset")
    metadata = tmp_path / "dataset" / "metadata.json"
    metadata.write_text(metadata.read_text().replace('"holdout": 0.05', '"holdout": 0.1'))
    assert main(["quickstart", "--out", str(tmp_path)]) == 2
    assert "was prepared with other settings" in capsys.readouterr().err
