"""What a run's heartbeat and history say about it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from rvc_jax.errors import UserError
from rvc_jax.runs import heartbeat, status
from rvc_jax.runs.heartbeat import HeartbeatRecord
from rvc_jax.runs.status import LifeSign, Observer, interpret_heartbeat, read_status
from rvc_jax.storage.files import write_json
from rvc_jax.storage.locks import Holder, LockState
from rvc_jax.storage.processes import ProcessId, identify_this_process

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


OWN = identify_this_process()
FAR = dataclasses.replace(OWN, kernel="another", machine="far")


def sign(
    is_alive: bool | None, silence: float | None = None, process: ProcessId = OWN
) -> LifeSign:
    holder = Holder(process, "rvc-jax train", NOW, "token", 1, True)
    return LifeSign(LockState(holder, (1, 1, 1), "identity", is_alive), silence)


BEAT = dataclasses.replace(TRAINING, machine=OWN.machine, process=OWN.number, idle=5.0)
FAR_BEAT = dataclasses.replace(BEAT, machine="far")


@pytest.mark.parametrize(
    ("beat", "evidence", "state", "words"),
    [
        # The lock decides, whatever the clocks say.
        (dataclasses.replace(BEAT, alive=NOW + 1e6), sign(True), "training", ""),
        (dataclasses.replace(BEAT, alive=NOW - 1e6, moved=0.0), sign(True), "training", ""),
        (dataclasses.replace(BEAT, idle=700.0), sign(True), "stalled", "no step for 12 min"),
        (BEAT, sign(False), "gone", "has ended without a report"),
        (dataclasses.replace(BEAT, alive=NOW + 1e6), sign(False), "gone", "has ended"),
        # A training that has just begun has not written a heartbeat yet.
        (None, sign(True), "starting", ""),
        (
            dataclasses.replace(BEAT, state="interrupted", process=1),
            sign(True),
            "starting",
            "",
        ),
        (dataclasses.replace(BEAT, state="finished"), sign(True), "finished", ""),
        # Where the process can't be seen, only an observation shows what clocks can't.
        (FAR_BEAT, sign(None, process=FAR), "training", ""),
        (
            dataclasses.replace(FAR_BEAT, alive=NOW + 1e6),
            sign(None, process=FAR),
            "unknown",
            "from the future",
        ),
        (
            dataclasses.replace(FAR_BEAT, alive=NOW + 1e6),
            sign(None, 30.0, FAR),
            "training",
            "",
        ),
        (
            dataclasses.replace(FAR_BEAT, alive=NOW + 1e6),
            sign(None, 61.0, FAR),
            "gone",
            "no sign of life",
        ),
        (
            dataclasses.replace(FAR_BEAT, alive=NOW - 1e6),
            sign(None, 1.0, FAR),
            "training",
            "",
        ),
    ],
)
def test_the_lock_and_what_changes_decide(
    beat: HeartbeatRecord | None, evidence: LifeSign, state: str, words: str
) -> None:
    found, why, _ = interpret_heartbeat(beat, NOW, remote=False, sign=evidence)
    assert (found, bool(why)) == (state, bool(words)) and words in why


def test_a_heartbeat_from_the_future_ends_when_nothing_changes() -> None:
    beat = dataclasses.replace(TRAINING, alive=NOW + 1e6)
    assert interpret_heartbeat(beat, NOW, False, LifeSign(None, 10.0))[0] == "training"
    assert interpret_heartbeat(beat, NOW, False, LifeSign(None, 61.0))[0] == "gone"
    assert interpret_heartbeat(beat, NOW, True, LifeSign(None, 61.0))[0] == "training"
    assert interpret_heartbeat(beat, NOW, True, LifeSign(None, 301.0))[0] == "gone"


def test_an_observer_measures_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(status.time, "monotonic", lambda: now[0])
    observer = Observer()
    assert observer.measure_silence("a") == 0.0
    now[0] += 7
    assert observer.measure_silence("a") == 7.0
    assert observer.measure_silence("b") == 0.0


def test_a_dead_run_of_a_wrong_clock_is_observed(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "_OBSERVED_SECONDS", 1.0)
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.json", "history.jsonl"):
        shutil.copy(tiny_run / name, run)

    def beat(alive: float) -> None:
        write_json(
            run / heartbeat.FILE,
            dataclasses.asdict(dataclasses.replace(TRAINING, alive=alive, idle=1.0)),
        )

    beat(time.time() + 1e6)
    assert read_status(run).state == "gone"
    timer = threading.Timer(0.3, beat, [time.time() + 1e6 + 5])
    timer.start()
    assert read_status(run).state == "training"
    timer.join()


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
