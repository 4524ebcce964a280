"""What a run's heartbeat and history say about it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from rvc_jax.errors import UserError
from rvc_jax.runs.heartbeat import HeartbeatRecord
from rvc_jax.runs.status import interpret_heartbeat, read_status

NOW = 1_000_000.0
TRAINING = HeartbeatRecord(
    "training",
    "",
    NOW - 3,
    NOW - 5,
    "host",
    7,
    step=40,
    total_steps=100,
    steps_per_second=2.0,
    seconds_left=30.0,
)


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({}, "training", ""),
        ({"alive": NOW - 59}, "training", ""),
        ({"alive": NOW - 61}, "gone", "no sign of life of process 7 of host for 1 min"),
        (
            {"moved": NOW - 700},
            "stalled",
            "no step for 12 min, though process 7 of host is alive",
        ),
        ({"moved": NOW - 700, "steps_per_second": 0.1}, "training", ""),  # slow, not stalled
        (
            {"moved": NOW - 700, "steps_per_second": None, "state": "starting"},
            "starting",
            "",
        ),  # compiling takes long
        (
            {"moved": NOW - 7300, "steps_per_second": None, "state": "starting"},
            "stalled",
            "no step for 2.0 h",
        ),
        ({"state": "finished", "alive": NOW - 1e6}, "finished", ""),
        ({"state": "interrupted", "alive": NOW - 1e6}, "interrupted", ""),
        (
            {"state": "failed", "why": "the disk is full", "alive": NOW - 1e6},
            "failed",
            "the disk is full",
        ),
    ],
)
def test_what_a_heartbeat_means(changes: dict, state: str, words: str) -> None:
    found, why, advice = interpret_heartbeat(
        dataclasses.replace(TRAINING, **changes), NOW, remote=False
    )
    assert found == state and why.startswith(words) and bool(why) == bool(words)
    assert bool(advice) == (state in ("gone", "stalled", "interrupted", "failed"))


def test_a_heartbeat_is_late_at_a_url() -> None:
    late = dataclasses.replace(TRAINING, alive=NOW - 200)
    assert (
        interpret_heartbeat(late, NOW, remote=True)[0] == "training"
        and interpret_heartbeat(late, NOW, remote=False)[0] == "gone"
    )


def test_a_run_without_a_heartbeat() -> None:
    assert interpret_heartbeat(None, NOW, remote=False)[0] == "unknown"


def test_the_status_of_a_trained_run(tiny_run: Path) -> None:
    now = read_status(tiny_run)
    assert (now.state, now.steps, now.beat.saved_step) == (
        "finished",
        now.beat.total_steps,
        now.steps,
    )
    assert now.beat.steps_per_second > 0 and set(now.beat.losses) >= {"loss/mel", "loss/kl"}
    assert now.holdout_best > 0 and now.best_step <= now.steps and not now.is_active
    assert json.loads(json.dumps(now.to_json()))["saved_step"] == now.steps


def test_no_run_has_no_status(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run"):
        read_status(tmp_path)
