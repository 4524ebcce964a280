"""A run's signs of life: what is written, and how it is read."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from reporting import KeepingReporter

from rvc_jax.errors import UserError
from rvc_jax.reporter import SILENT
from rvc_jax.runs import heartbeat
from rvc_jax.runs.heartbeat import HeartbeatRecord, HeartbeatWriter, read_heartbeat
from rvc_jax.runs.progress import TrainProgress, TrainResult, report_training


def test_a_run_reports_how_it_is_doing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.02)
    reporter = KeepingReporter()
    with HeartbeatWriter(tmp_path, reporter) as writer:
        assert read_heartbeat(tmp_path).state == "starting"
        nan = math.nan
        report_training(writer, TrainProgress(1, 100, 0, 4, nan, nan, {}, None))
        unknown = until(tmp_path, lambda beat: beat.step == 1)
        assert unknown.steps_per_second is unknown.seconds_left is None
        writer.message("step 0: compiling")
        report_training(
            writer,
            TrainProgress(30, 100, 2, 4, 0.5, 35.0, {"loss/mel": 20.0}, 1.5, "1 h left"),
        )
        (tmp_path / "checkpoints" / "25").mkdir(parents=True)
        first = until(tmp_path, lambda beat: beat.saved_step == 25)
        # Alive, without progress.
        later = until(tmp_path, lambda beat: beat.alive > first.alive)
        assert later.moved == first.moved
    assert reporter.messages == ["step 0: compiling"]
    assert [step.done for step in reporter.steps] == [1, 30]
    assert (first.state, first.step, first.steps_per_second) == ("training", 30, 2.0)
    assert (first.losses, first.holdout, first.budget) == ({"loss/mel": 20.0}, 1.5, "1 h left")
    assert first.message == "step 0: compiling" and first.process == os.getpid()


def until(run: Path, is_so: Callable[[HeartbeatRecord], bool]) -> HeartbeatRecord:
    for _ in range(500):
        beat = read_heartbeat(run)
        if is_so(beat):
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
    with HeartbeatWriter(tmp_path, SILENT) as writer:
        writer.record_result(dataclasses.replace(result, **changes))
    beat = read_heartbeat(tmp_path)
    assert (beat.state, beat.why, beat.step) == (state, why, 60)


@pytest.mark.parametrize(
    ("error", "state", "why"),
    [
        (UserError("disk full"), "failed", "disk full"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
    ],
)
def test_an_error_is_noted(tmp_path: Path, error: BaseException, state: str, why: str) -> None:
    with pytest.raises(type(error)), HeartbeatWriter(tmp_path, SILENT):
        raise error
    beat = read_heartbeat(tmp_path)
    assert (beat.state, beat.why) == (state, why)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"state": 1}', "\ud800"])
def test_a_damaged_file_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / heartbeat.FILE).write_bytes(text.encode("utf-8", "surrogatepass"))
    assert read_heartbeat(tmp_path) is None
