"""Files of version 0.1.0 keep working: datasets open, runs continue bit for bit, voices convert.

`tests/fixtures/v0_1/README.md` says how the files were made.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import rvc_jax
from rvc_jax.cli.describe import describe
from rvc_jax.config import PrepareConfig, from_dict
from rvc_jax.data.cache import Cache, make_cache_key
from rvc_jax.data.dataset import iterate, load_dataset
from rvc_jax.data.prepare import prepare
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.runs.folder import RunFolder
from rvc_jax.train.evaluator import evaluate
from rvc_jax.train.loop import train

FIXTURES = Path(__file__).parents[1] / "fixtures" / "v0_1"
EXPECTED: dict[str, Any] = json.loads((FIXTURES / "expected.json").read_text())

PERSISTED = ("kind", "preset", "sample_rate", "content_encoder", "speakers", "speech_minutes")
"""Facts that `info` reports about datasets and runs, under names that scripts rely on."""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked dataset, run, voice and cache. Tests copy what they change."""
    folder = tmp_path_factory.mktemp("v0_1")
    for file in FIXTURES.glob("*.zip"):
        with zipfile.ZipFile(file) as archive:
            archive.extractall(folder / file.stem)
    return folder


def test_info_describes_old_datasets_and_runs(old: Path) -> None:
    for name in ("dataset", "run"):
        described = json.loads(json.dumps(describe(str(old / name)), default=str))
        expected = {
            key: value
            for key, value in EXPECTED[name].items()
            if key not in ("bytes", "config")
        }
        assert set(PERSISTED) <= set(expected)
        assert {key: described.get(key) for key in expected} == expected


def test_an_old_dataset_opens(old: Path) -> None:
    data = load_dataset(old / "dataset")
    expected = EXPECTED["dataset"]
    assert (len(data.train), len(data.holdout)) == (
        expected["train_slices"],
        expected["holdout_slices"],
    )
    assert data.info.fingerprint == expected["fingerprint"]
    assert 0.1 < np.abs(data.train.samples(slice(None))).max() <= 2.5


def test_training_sees_the_same_samples_in_an_old_dataset(old: Path) -> None:
    """They become int16 as version 0.1.0 made them; the hold-out keeps its float32 samples."""
    data = load_dataset(old / "dataset")
    for split, windows in (("train", data.train), ("holdout", data.holdout)):
        stored = [record["wave"] for record in iterate(old / "dataset", split)]
        scale = max(float(np.abs(wave).max()) for wave in stored) / 32767
        for row, wave in zip(windows.wave, stored, strict=True):
            expected = np.rint(wave / scale).astype(np.int16) if split == "train" else wave
            assert row.dtype == expected.dtype and not row[len(wave) :].any()
            np.testing.assert_array_equal(row[: len(wave)], expected)
        assert windows.scale == (scale if split == "train" else 1.0)


def test_a_new_dataset_has_the_samples_of_an_old_one(old: Path, tmp_path: Path) -> None:
    data = load_dataset(old / "dataset")
    prepare(make_speech(tmp_path), tmp_path / "new", from_dict(PrepareConfig, data.info.config))
    new = load_dataset(tmp_path / "new")
    assert new.train.start.tolist() == data.train.start.tolist()
    # Other machines may round other than the one that made the old dataset, by one step.
    assert new.train.scale == pytest.approx(data.train.scale, rel=1e-6)
    assert np.abs(new.train.wave.astype(int) - data.train.wave).max() <= 1
    assert np.mean(new.train.wave != data.train.wave) < 1e-3
    error = np.abs(new.holdout.samples(slice(None)) - data.holdout.wave).max()
    assert error <= 0.51 * new.holdout.scale


def test_an_old_run_continues_as_it_would_have(old: Path, tmp_path: Path) -> None:
    """Same losses, same evaluations, same parameters as version 0.1.0 computed for these steps."""
    run = tmp_path / "run"
    unpack("run", run)
    expected = EXPECTED["continued"]
    first = EXPECTED["run"]["steps"]
    result = train(old / "dataset", run, overrides={"steps": expected["steps"]})
    assert (result.resumed_from, result.steps) == (first, expected["steps"])

    folder = RunFolder.open(run)
    history = [line for line in folder.history() if line["step"] > first]
    assert len(history) == len(expected["history"])
    for line, expected_line in zip(history, expected["history"], strict=True):
        losses = {name: value for name, value in expected_line.items() if is_comparable(name)}
        assert {name: line[name] for name in losses} == pytest.approx(losses, rel=1e-5)
    parameters = folder.load_generator("latest")[1]
    norms = {
        name: float(np.linalg.norm(np.asarray(value))) for name, value in parameters.items()
    }
    assert norms == pytest.approx(expected["norms"], rel=1e-5)


def is_comparable(name: str) -> bool:
    """Whether a figure of the history is defined as it was in version 0.1.0."""
    return "f0" not in name and "voicing" not in name and name != "best/which"


def test_an_old_run_is_evaluated(old: Path) -> None:
    measured = evaluate(RunFolder.open(old / "run"), load_dataset(old / "dataset"))
    expected = EXPECTED["evaluate"]
    for name in ("holdout_mel", "holdout_stft", "holdout_seconds"):
        assert measured[name] == pytest.approx(expected[name], rel=1e-5)
    assert measured["same_speech_as_in_training"]


@pytest.mark.parametrize("name", ["run", "voice"])
def test_an_old_voice_converts(old: Path, name: str) -> None:
    """The folder of the run, and the imported folder that was made of its best voice."""
    samples, rate = soundfile.read(
        next(find_bundled_sample("other").glob("*.flac")), dtype="float32"
    )
    converted = rvc_jax.load_voice(old / name).convert(samples[:rate], rate)
    expected = np.load(FIXTURES / "converted.npz")["audio"].astype(np.float32)
    assert converted.shape == expected.shape
    np.testing.assert_allclose(converted, expected, atol=2e-3)


def test_an_old_cache_is_as_good_as_absent(old: Path) -> None:
    """Its entries have no hash, so nothing says that they are what was computed."""
    cache = Cache(old / "cache")
    assert cache.get_array(make_cache_key("an array", 1)) is None
    assert cache.get_value(make_cache_key("a value", [0.5, None]), dict) is None


def make_speech(folder: Path) -> Path:
    """The six seconds of speech that the old dataset was made of."""
    speech = folder / "callie"
    speech.mkdir()
    for name, seconds in (
        ("vm-voicemail_password_is_web_password", 4.0),
        ("ivr-founder_of_freesource", 2.2),
    ):
        samples, rate = soundfile.read(
            find_bundled_sample("voice") / f"{name}.flac", dtype="float32"
        )
        soundfile.write(speech / f"{name}.flac", samples[: int(seconds * rate)], rate)
    return speech


def unpack(name: str, folder: Path) -> None:
    with zipfile.ZipFile(FIXTURES / f"{name}.zip") as archive:
        archive.extractall(folder)
