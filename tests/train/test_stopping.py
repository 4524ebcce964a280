"""The hold-out in a run: every figure recorded, the better of raw and averaged weights kept, an end
by patience."""

from __future__ import annotations

import functools
import types
from pathlib import Path

import pytest
from micro import MICRO

from rvc_jax.data.dataset import load_dataset
from rvc_jax.errors import UserError
from rvc_jax.metrics.holdout import METRIC_NAMES
from rvc_jax.metrics.speaker import SpeakerEncoder
from rvc_jax.runs import checkpoint
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.learning_curve import best_evaluation, evaluation_metrics
from rvc_jax.train import loop
from rvc_jax.train.metric_writer import MetricWriter
from rvc_jax.train.step import build_networks
from rvc_jax.train.validation import Validator

SETTINGS = {
    "epochs": 12,
    "evaluate_every": 1,
    "save_every": 12,
    "log_every": 1,
    "precision": "float32",
    "patience": 1,
    "least_improvement": 0.9,
}

train = functools.partial(loop.train, preset=MICRO)


def test_a_run_ends_when_its_patience_does_and_goes_on_with_more(
    sample_dataset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    said = []
    result = train(
        sample_dataset,
        run,
        overrides=SETTINGS,
        report=lambda progress: said.append(progress.message),
    )
    per_epoch = result.steps
    assert (
        result.stopped
        == "stopped: 1 evaluations have brought no better log-mel error than that of step 0"
    )
    assert (result.interrupted, result.used_up, result.epochs) == (False, False, 1)
    assert checkpoint.find_newest(run / "checkpoints").name == str(per_epoch)
    again = train(sample_dataset, run, overrides=SETTINGS)
    assert (again.steps, again.resumed_from, again.stopped) == (
        per_epoch,
        per_epoch,
        result.stopped,
    )
    more = train(sample_dataset, run, overrides={"patience": 0, "epochs": 2})
    assert (more.steps, more.stopped, more.interrupted) == (2 * per_epoch, "", False)

    history = RunFolder.open(run).history()
    lines = [line for line in history if "holdout/mel" in line]
    measured = (
        set(METRIC_NAMES) if SpeakerEncoder.find() else set(METRIC_NAMES) - {"similarity"}
    )
    assert [line["step"] for line in lines] == [0, per_epoch, 2 * per_epoch]
    of_pitch = {"f0_median_cents", "f0_rmse_cents", "gross_pitch_errors", "f0_cents"}
    assert measured - of_pitch <= set(evaluation_metrics(lines[-1])) <= measured
    assert checkpoint.find_newest(run / "best").name == str(best_evaluation(history)["step"])
    evaluated = [text for text in said if text and text.startswith("hold-out: log-mel error")]
    assert len(evaluated) == 2 and "STFT distance" in evaluated[0]
    hints = [text for text in said if text and "rvc-jax download resemblyzer" in text]
    assert len(hints) == (0 if SpeakerEncoder.find() else 1)


def test_the_better_of_raw_and_averaged_weights_is_kept_and_named(
    tiny_run: Path, sample_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = RunFolder.open(tiny_run)
    networks = build_networks(trained.preset, steps_per_epoch=1)
    data = load_dataset(sample_dataset)
    good = trained.load_generator()[1]
    poor = networks.synthesizer.init(0)
    monkeypatch.setattr(SpeakerEncoder, "find", classmethod(lambda cls: None))
    folder = RunFolder(tmp_path / "run", trained.preset, trained.dataset)
    folder.write(trained.index())
    said: list[str] = []
    holdout = Validator(folder, data, networks, lambda step, text, error: said.append(text))
    recorder = MetricWriter(folder.path, 0)
    states = [(poor, poor), (poor, good), (poor, None)]
    for step, (raw, average) in enumerate(states):
        holdout.evaluate(
            step,
            types.SimpleNamespace(generator=types.SimpleNamespace(params=raw), average=average),
            recorder,
        )
    holdout.finish()
    first, second, third = folder.history()
    assert not evaluation_metrics(first, "ema") and not evaluation_metrics(third, "ema")
    assert evaluation_metrics(second, "raw") == pytest.approx(evaluation_metrics(first, "raw"))
    assert second["holdout_ema/mel"] < second["holdout/mel"]
    assert [line.get("best/which") for line in (first, second, third)] == ["raw", "ema", None]
    assert holdout.errors() == (first["holdout/mel"], second["holdout_ema/mel"])
    kept_voice = folder.load_generator()[1]
    assert all((kept_voice[name] == good[name]).all() for name in good)
    assert sum("download resemblyzer" in text for text in said) == 1
    assert "(averaged weights)" in [text for text in said if text.startswith("hold-out")][1]
    recorder.close()
    holdout.close()


def test_what_cannot_be_measured_or_is_no_number_of_evaluations_is_refused(
    sample_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SpeakerEncoder, "find", classmethod(lambda cls: None))
    with pytest.raises(
        UserError, match="--best-by similarity needs .*rvc-jax download resemblyzer"
    ):
        train(sample_dataset, tmp_path / "run", overrides={"best_by": "similarity"})
    for name, value in (("patience", -1), ("least_improvement", 1.0)):
        with pytest.raises(UserError, match=f"--{name.replace('_', '-')} must be"):
            train(sample_dataset, tmp_path / "other", overrides={name: value})
    assert not (tmp_path / "other").exists()
