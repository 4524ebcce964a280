"""When a run is evaluated and ends by the clock."""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path

import pytest
from micro import MICRO
from reporting import KeepingReporter

from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.progress import TrainResult
from rvc_jax.train import loop
from rvc_jax.train.budget import BudgetMeter
from rvc_jax.train.clock import NO_LIMIT, EvaluationClock, expect_end


def test_a_run_of_limited_time_is_evaluated_ten_times() -> None:
    now = 0.0
    clock = EvaluationClock(3, lambda: now)
    now = 50.0  # compiled meanwhile
    clock.restart()
    now = 67.0
    assert not clock.is_due and not clock.is_too_soon
    now = 68.0
    assert clock.is_due
    now = 71.0
    clock.restart(after=3.0)
    now = 71.0 + 26.9
    assert clock.is_too_soon and not clock.is_due  # 3 s are a tenth of 30 s
    now = 71.0 + 27.1
    assert clock.is_due and not clock.is_too_soon


def test_other_runs_are_evaluated_by_their_epochs_alone() -> None:
    now = 0.0
    clock = EvaluationClock(0, lambda: now)
    clock.restart(after=100.0)
    assert not clock.is_due and not clock.is_too_soon
    now = 1e6
    assert not clock.is_due and not clock.is_too_soon


def test_the_expected_end_is_the_nearer_one() -> None:
    assert expect_end(10, 100, math.nan) == 100
    assert expect_end(10, 100, 40.7) == 50
    assert expect_end(10, 100, 400.0) == 100
    assert expect_end(10, NO_LIMIT, math.nan) == 0
    assert expect_end(10, NO_LIMIT, 40.7) == 50


def test_minutes_replace_the_epochs_of_the_preset(
    sample_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two minutes of steps of six seconds: an epoch would end sooner, evaluations come later."""
    now = 0.0

    def advance(step: float) -> None:
        nonlocal now
        now += 6.0

    for kind in (BudgetMeter, EvaluationClock):
        timed = functools.partial(kind, clock=lambda: now)
        monkeypatch.setattr(loop, kind.__name__, timed)
    run = tmp_path / "run"
    preset = dataclasses.replace(
        MICRO, train=dataclasses.replace(MICRO.train, epochs=1, evaluate_every=100)
    )

    def train(**options: float) -> TrainResult:
        return loop.train(
            sample_dataset, run, preset, options, KeepingReporter(on_progress=advance)
        )

    result = train(minutes=2.0)
    assert RunFolder.open(run).preset.train.length == "2 minutes"
    assert result.stopped == "its 2 minutes are over" and result.has_ended
    assert 17 <= result.steps <= 20
    measured = [line["step"] for line in RunFolder.open(run).history() if "holdout/mel" in line]
    assert measured[0] == 0 and 7 <= len(measured) <= 11 and measured[-1] == result.steps
    # It is over.
    again = train(minutes=2.0)
    assert (again.steps, again.resumed_from) == (result.steps, result.steps)


@pytest.mark.parametrize(
    ("named", "length"),
    [
        ({}, "50 epochs"),
        ({"minutes": 3.0}, "3 minutes"),
        ({"steps": 500}, "500 steps"),
        ({"epochs": 4, "minutes": 0.5}, "4 epochs, 0.5 minutes"),
        ({"ema": 0.9}, "50 epochs"),
    ],
)
def test_a_limit_that_is_named_replaces_the_preset_s(named: dict, length: str) -> None:
    own = MICRO.train
    assert own.with_options(named, own).length == length
