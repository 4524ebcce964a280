"""Steps without a finite loss are skipped; after many, a run rolls back, slower, or stops."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from micro import MICRO
from reporting import KeepingReporter

from rvc_jax.errors import UserError
from rvc_jax.runs.folder import RunFolder
from rvc_jax.train import dispatch, loop
from rvc_jax.train.budget import BudgetMeter
from rvc_jax.train.loader import Batch
from rvc_jax.train.state import TrainState
from rvc_jax.train.step import Metrics

SETTINGS = {
    "epochs": 4,
    "save_every": 1,
    "evaluate_every": 4,
    "log_every": 1,
    "precision": "float32",
    "max_consecutive_skips": 2,
}

train = functools.partial(loop.train, preset=MICRO)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable], None]:
    """Makes the steps fail for which a condition of the state holds."""
    make_step = dispatch.make_step

    def arrange(fails: Callable[[TrainState], jax.Array]) -> None:
        def make(networks: object) -> Callable:
            real = make_step(networks)

            def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
                new, metrics = real(state, batch)
                bad = fails(state)
                kept = jax.tree.map(
                    lambda a, b: jnp.where(bad, a, b),
                    dataclasses.replace(state, step=new.step),
                    new,
                )
                metrics = {
                    name: jnp.where(bad, jnp.nan, value) for name, value in metrics.items()
                }
                return kept, metrics | {"skipped": bad.astype(jnp.float32)}

            return step

        monkeypatch.setattr(dispatch, "make_step", make)

    return arrange


def test_a_single_bad_step_is_left_out_and_counted(
    failing: Callable, sample_dataset: Path, tmp_path: Path
) -> None:
    failing(lambda state: state.step == 2)
    result = train(sample_dataset, tmp_path / "run", overrides=SETTINGS)
    assert (result.skipped, result.interrupted) == (1, False)
    steps = [
        line["step"]
        for line in RunFolder.open(tmp_path / "run").history()
        if "loss/mel" in line
    ]
    assert steps == [step for step in range(1, result.steps + 1) if step != 3]


def test_many_bad_steps_send_the_run_back_with_a_lower_rate(
    failing: Callable, sample_dataset: Path, tmp_path: Path
) -> None:
    failing(lambda state: (state.step >= 4) & (state.rate > 0.3))
    reporter = KeepingReporter()
    result = train(sample_dataset, tmp_path / "run", overrides=SETTINGS, reporter=reporter)
    back = [message for message in reporter.messages if "back to step" in message]
    assert (
        len(back) == 2
        and "loss/generator" in back[0]
        and "1.0e-03" in back[0]
        and "5.0e-04" in back[1]
    )
    assert not result.interrupted
    steps = [
        line["step"]
        for line in RunFolder.open(tmp_path / "run").history()
        if "loss/mel" in line
    ]
    assert steps == list(range(1, result.steps + 1))


def test_after_two_rollbacks_it_stops_with_the_cause(
    failing: Callable, sample_dataset: Path, tmp_path: Path
) -> None:
    failing(lambda state: state.step >= 3)
    with pytest.raises(
        UserError, match="no finite loss and gradient.*quarter of the learning rate"
    ):
        train(sample_dataset, tmp_path / "run", overrides=SETTINGS)
    assert [
        path.name
        for path in (tmp_path / "run" / "checkpoints").iterdir()
        if path.name.isdigit()
    ]


def test_a_budget_ends_the_run_in_time_to_save_and_a_larger_one_continues(
    sample_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count(0, 10)
    monkeypatch.setattr(
        loop, "BudgetMeter", functools.partial(BudgetMeter, clock=lambda: float(next(ticks)))
    )
    run = tmp_path / "run"
    result = train(sample_dataset, run, overrides=SETTINGS | {"budget": "2min", "epochs": 40})
    assert result.used_up and result.interrupted and 0 < result.steps < 30
    assert "spent" in result.spent and RunFolder.open(run).load_generator("latest")
    again = train(sample_dataset, run, overrides=SETTINGS | {"epochs": 40})
    assert (again.used_up, again.steps, again.resumed_from) == (
        True,
        result.steps,
        result.steps,
    )
    more = train(sample_dataset, run, overrides={"budget": "5min", "epochs": 40})
    assert result.steps < more.steps
    with pytest.raises(UserError, match="5units, 2h"):
        train(sample_dataset, tmp_path / "other", overrides={"budget": "a lot"})
    assert not (tmp_path / "other").exists()
