"""The quick start on half a minute of the sample, and the report that it writes."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
import shutil
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile
from made_base import use_base
from micro import MICRO_SMALL

from rvc_jax.audio.reading import decode
from rvc_jax.cli.main import main
from rvc_jax.cli.quickstart import QuickstartResult
from rvc_jax.metrics.asr import SpeechRecognizer
from rvc_jax.metrics.speaker import SpeakerEncoder


@pytest.fixture(scope="module")
def small_dataset(sample_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sample_dataset` as if prepared for small, which has the features and the rate of nano."""
    copy = shutil.copytree(sample_dataset, tmp_path_factory.mktemp("small") / "dataset")
    metadata = copy / "metadata.json"
    metadata.write_text(metadata.read_text().replace('"nano"', '"small"'))
    return copy


@pytest.fixture(scope="module")
def made(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """The quick start's folder and its JSON, with a few steps of a small network on a short voice
    whose dataset was there already. (`.ci/run` carries out the real one.)"""
    out = tmp_path_factory.mktemp("quick") / "start"
    shutil.copytree(small_dataset, out / "dataset")
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", printed)
        patch.setattr(SpeechRecognizer, "find", classmethod(lambda kind: None))
        patch.setattr(SpeakerEncoder, "find", classmethod(lambda kind: None))
        use_base(patch, MICRO_SMALL, tmp_path_factory.mktemp("base"))
        assert main(["quickstart", "--out", str(out), "--epochs", "3", "--json"]) == 0
        first = json.loads(printed.getvalue())
        printed.truncate(0)
        printed.seek(0)
        assert main(["quickstart", "--out", str(out), "--json"]) == 0
    return out, {"first": first, "again": json.loads(printed.getvalue())}


def test_it_makes_what_it_says(made: tuple[Path, dict]) -> None:
    out, printed = made
    first = printed["first"]
    assert all(Path(path).exists() for path in first["files"]) and len(first["files"]) == 5
    assert first["steps"] > 2 and first["steps_per_second"] > 0
    assert first["holdout_after"] < first["holdout_before"]
    assert 9 <= first["transpose"] <= 14
    assert 1e8 < first["peak_memory_bytes"] < 4e10
    converted, base = (decode(out / f"{name}.wav") for name in ("converted", "base"))
    for wave, rate in (converted, base):
        assert (wave.shape, rate) == ((1, 113600), 16000)
    # Three epochs have changed the voice.
    assert np.abs(converted[0] - base[0]).max() > 1e-3


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
    clips = 6 + page.count("The same slice from the latest state</h3>")
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
    lengths = [len(wave) for wave, _ in sounds]
    assert lengths[0] == lengths[2] == lengths[3] == 113600  # source, converted, base alone
    assert lengths[1] == 7 * 16000 and lengths[4] == lengths[5]  # target; hold-out
    for title in ("(source)", "(target)", "Converted", "Converted by the base voice alone"):
        assert f"{title}</h3>" in page
    assert "rvc-jax download resemblyzer faster-whisper-base" in page
    assert "CC-BY-3.0" in page and "Public domain" in page and "hold-out log-mel error" in page


def test_a_folder_with_something_else_is_left_alone(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    use_base(monkeypatch, MICRO_SMALL, tmp_path_factory.mktemp("base"))
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "diary.txt").write_text("dear diary")
    assert main(["quickstart", "--out", str(tmp_path)]) == 2
    assert "is not a dataset" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["dataset", "diary.txt"]


def test_a_dataset_of_other_settings_is_not_used(
    small_dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(small_dataset, tmp_path / "dataset")
    metadata = tmp_path / "dataset" / "metadata.json"
    metadata.write_text(metadata.read_text().replace('"holdout": 0.05', '"holdout": 0.1'))
    use_base(monkeypatch, MICRO_SMALL, tmp_path)
    assert main(["quickstart", "--out", str(tmp_path)]) == 2
    assert "was prepared with other settings" in capsys.readouterr().err


def test_figures_of_words_and_speaker_stand_beside_those_of_the_base() -> None:
    figures = QuickstartResult(
        2.7,
        54,
        3,
        400,
        4.0,
        0.8,
        0.6,
        12.0,
        0.99,
        0.125,
        0.25,
        0.81,
        0.6,
        0.55,
        200.0,
        2**31,
        (),
    )
    rows = dict(figures.rows())
    assert rows["hold-out log-mel error"] == (
        "0.800 for the base voice, 0.600 after fine-tuning it: 25 % lower"
    )
    assert rows["word error rate"] == "12%, 25% by the base alone"
    assert rows["similarity to the target"].startswith("0.81, 0.60 by the base alone, 0.55 for")
    assert "not measured" not in rows
    rows = dict(dataclasses.replace(figures, similarity=None).rows())
    assert "resemblyzer" in rows["not measured"] and "word error rate" in rows
