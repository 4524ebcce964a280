"""The hold-out in a run: every figure recorded, the better of raw and averaged weights kept, an end
by patience."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import pytest
from full_disk import full_disk
from micro import MICRO
from reporting import KeepingReporter

from rvc_jax.data.dataset import load_dataset
from rvc_jax.errors import UserError
from rvc_jax.metrics.holdout import METRIC_NAMES
from rvc_jax.metrics.speaker import SpeakerEncoder
from rvc_jax.reporter import SILENT
from rvc_jax.runs import checkpoint
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.history import History, best_evaluation, get_evaluation_metrics
from rvc_jax.train import loop
from rvc_jax.train.metric_writer import MetricWriter
from rvc_jax.train.networks import build_networks
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
    reporter = KeepingReporter()
    result = train(sample_dataset, run, overrides=SETTINGS, reporter=reporter)
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
    assert measured - of_pitch <= set(get_evaluation_metrics(lines[-1])) <= measured
    assert checkpoint.find_newest(run / "best").name == str(best_evaluation(history)["step"])
    evaluated = [text for text in reporter.messages if ": hold-out: log-mel error" in text]
    assert len(evaluated) == 2 and "STFT distance" in evaluated[0]
    hints = [text for text in reporter.messages if "rvc-jax download resemblyzer" in text]
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
    folder.write()
    reporter = KeepingReporter()
    history = History(folder.path / "history.jsonl")
    validator = Validator(folder, data, networks, history, reporter)
    writer = MetricWriter(folder.path, history, from_step=0)
    for step, (raw, average) in enumerate([(poor, poor), (poor, good), (poor, None)]):
        validator.evaluate(step, raw, average, writer)
    validator.finish()
    first, second, third = folder.history()
    assert not get_evaluation_metrics(first, "ema") and not get_evaluation_metrics(third, "ema")
    assert get_evaluation_metrics(second, "raw") == pytest.approx(
        get_evaluation_metrics(first, "raw")
    )
    assert second["holdout_ema/mel"] < second["holdout/mel"]
    assert [line.get("best/which") for line in (first, second, third)] == ["raw", "ema", None]
    assert validator.errors == (first["holdout/mel"], second["holdout_ema/mel"])
    kept_voice = folder.load_generator()[1]
    assert all((kept_voice[name] == good[name]).all() for name in good)
    assert sum("download resemblyzer" in text for text in reporter.messages) == 1
    evaluated = [text for text in reporter.messages if ": hold-out: " in text]
    assert "(averaged weights)" in evaluated[1]
    writer.close()
    validator.close()


def test_a_full_disk_changes_no_decision(
    tiny_run: Path, sample_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Best voice and patience are those of all evaluations, also of those that did not fit."""
    trained = RunFolder.open(tiny_run)
    recipe = dataclasses.replace(trained.preset.train, patience=2)
    preset = dataclasses.replace(trained.preset, train=recipe)
    networks = build_networks(preset, steps_per_epoch=1)
    good = trained.load_generator()[1]
    poor = networks.synthesizer.init(0)
    monkeypatch.setattr(SpeakerEncoder, "find", classmethod(lambda cls: None))
    folder = RunFolder(tmp_path / "run", preset, trained.dataset)
    folder.write()
    history = History(folder.path / "history.jsonl")
    validator = Validator(folder, load_dataset(sample_dataset), networks, history, SILENT)
    writer = MetricWriter(folder.path, history, from_step=0)

    validator.evaluate(1, poor, None, writer)
    with full_disk(folder.path / "history.jsonl"):
        validator.evaluate(2, good, None, writer)
        validator.evaluate(3, poor, None, writer)
        assert validator.stop_reason == ""
        validator.evaluate(4, poor, None, writer)
        assert "2 evaluations have brought no better log-mel error than that of step 2" in (
            validator.stop_reason
        )
        assert [line["step"] for line in folder.history()] == [1]
    validator.finish()
    assert checkpoint.list_steps(folder.best) == [2]
    assert [line.get("best/which") for line in history.lines] == ["raw", "raw", None, None]

    validator.evaluate(5, poor, None, writer)  # there is room again
    assert folder.history() == list(history.lines)
    writer.close()
    validator.close()


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
