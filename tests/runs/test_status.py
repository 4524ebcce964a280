"""A run's signs of life, and what is read from them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from pathlib import Path

import pytest

from rvc_jax.errors import UserError
from rvc_jax.runs import heartbeat
from rvc_jax.runs.heartbeat import HeartbeatRecord, HeartbeatWriter
from rvc_jax.runs.progress import TrainProgress, TrainResult
from rvc_jax.runs.status import _state, as_plain, status

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
        ({"moved": NOW - 700}, "stalled", "no step for 12 min, though process 7 of host lives"),
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
def test_what_a_beat_means(changes: dict, state: str, words: str) -> None:
    found, why, advice = _state(dataclasses.replace(TRAINING, **changes), NOW, remote=False)
    assert found == state and why.startswith(words) and bool(why) == bool(words)
    assert bool(advice) == (state in ("gone", "stalled", "interrupted", "failed"))


def test_a_beat_takes_its_time_to_a_url() -> None:
    late = dataclasses.replace(TRAINING, alive=NOW - 200)
    assert (
        _state(late, NOW, remote=True)[0] == "training"
        and _state(late, NOW, remote=False)[0] == "gone"
    )


def test_a_run_that_never_told_anything() -> None:
    assert _state(None, NOW, remote=False)[0] == "unknown"


def test_a_run_tells_how_it_is_doing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.02)
    told = []
    with HeartbeatWriter(tmp_path, told.append) as beating:
        assert heartbeat.read(tmp_path).state == "starting"
        nan = math.nan
        beating.listen(TrainProgress(0, 100, 0, 4, nan, nan, {}, None, "compiling"))
        beating.listen(
            TrainProgress(30, 100, 2, 4, 0.5, 35.0, {"loss/mel": 20.0}, 1.5, budget="1 h left")
        )
        (tmp_path / "checkpoints" / "25").mkdir(parents=True)
        first = until(tmp_path, lambda beat: beat.saved_step == 25)
        assert (
            until(tmp_path, lambda beat: beat.alive > first.alive).moved == first.moved
        )  # it lives, and stands still
    assert len(told) == 2
    assert (first.state, first.step, first.steps_per_second, first.budget) == (
        "training",
        30,
        2.0,
        "1 h left",
    )
    assert first.message == "step 0: compiling" and first.process == os.getpid()


def until(run: Path, is_so) -> HeartbeatRecord:
    for _ in range(500):
        if is_so(beat := heartbeat.read(run)):
            return beat
        time.sleep(0.01)
    raise AssertionError("it never came")


@pytest.mark.parametrize(
    ("changes", "state", "why"),
    [
        ({}, "finished", ""),
        ({"interrupted": True}, "interrupted", ""),
        ({"interrupted": True, "used_up": True}, "finished", "the budget is used up"),
        ({"stopped": "no better voice"}, "finished", "no better voice"),
    ],
)
def test_how_it_ended(tmp_path: Path, changes: dict, state: str, why: str) -> None:
    result = TrainResult(tmp_path, 60, 2, 0, 1.0, None, None, False)
    with HeartbeatWriter(tmp_path, lambda progress: None) as beating:
        beating.ended(dataclasses.replace(result, **changes))
    beat = heartbeat.read(tmp_path)
    assert (beat.state, beat.why, beat.step) == (state, why, 60)


@pytest.mark.parametrize(
    ("error", "state", "why"),
    [
        (UserError("disk full"), "failed", "disk full"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
    ],
)
def test_an_error_is_told(tmp_path: Path, error: BaseException, state: str, why: str) -> None:
    with pytest.raises(type(error)), HeartbeatWriter(tmp_path, lambda progress: None):
        raise error
    assert (heartbeat.read(tmp_path).state, heartbeat.read(tmp_path).why) == (state, why)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"state": 1}', "\ud800"])
def test_a_damaged_file_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / heartbeat.FILE).write_bytes(text.encode("utf-8", "surrogatepass"))
    assert heartbeat.read(tmp_path) is None


def test_the_status_of_a_trained_run(tiny_run: Path) -> None:
    now = status(tiny_run)
    assert (now.state, now.steps, now.beat.saved_step) == (
        "finished",
        now.beat.total_steps,
        now.steps,
    )
    assert now.beat.steps_per_second > 0 and set(now.beat.losses) >= {"loss/mel", "loss/kl"}
    assert now.holdout_best > 0 and now.best_step <= now.steps and not now.is_active
    assert json.loads(json.dumps(as_plain(now)))["saved_step"] == now.steps


def test_no_run_has_no_status(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run"):
        status(tmp_path)
