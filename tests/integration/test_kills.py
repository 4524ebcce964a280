"""Killed at any moment and continued, a run ends with the very parameters of one that was left
alone.

The thirty kills take a while: `python -m pytest tests/integration/test_kills.py -m heavy -s`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from same_runs import assert_same
from training_process import finish, start

OPTIONS = ("--epochs", "6", "--save-every", "1", "--evaluate-every", "3", "--log-every", "1")
"""An epoch is two steps on the sample, so that a kill often meets a save."""


def wait_for(process: subprocess.Popen, condition: object, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while process.poll() is None and not condition() and time.monotonic() < end:
        time.sleep(0.002)


def kill(process: subprocess.Popen) -> bool:
    """Whether it was still running."""
    running = process.poll() is None
    process.kill()
    process.communicate()
    return running


def begun(run: Path, before: set[str] = frozenset()) -> set[str]:
    """Checkpoints being written now, without those that a kill has left."""
    return {
        path.name for path in (run / "checkpoints").glob("*") if not path.name.isdigit()
    } - before


@pytest.fixture(scope="module")
def whole(sample_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    finish(sample_dataset, run, OPTIONS)
    return run


def test_killed_during_a_save_then_asked_to_end_then_continued(
    whole: Path, sample_dataset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start(sample_dataset, run, OPTIONS)
    wait_for(process, lambda: begun(run))
    assert kill(process)
    process = start(sample_dataset, run, OPTIONS)
    wait_for(
        process,
        lambda: [path for path in (run / "checkpoints").glob("*") if path.name.isdigit()],
    )
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 0 and "the same command continues" in output
    assert "finished" in finish(sample_dataset, run, OPTIONS)
    assert_same(whole, run)


@pytest.mark.heavy
def test_thirty_kills(whole: Path, sample_dataset: Path, tmp_path: Path) -> None:
    """Kills at random moments, in runs one after the other until there were enough; a third of them
    at a save."""
    count = int(os.environ.get("RVC_JAX_TEST_KILLS", "30"))
    dice = random.Random(7)
    began = time.monotonic()
    kills = runs = at_a_save = 0
    while kills < count:
        run = tmp_path / f"run{runs}"
        runs = runs + 1
        for _ in range(5):
            left = begun(run)
            process = start(sample_dataset, run, OPTIONS)
            launched = time.monotonic()
            if dice.random() < 0.4:
                wait_for(process, lambda run=run, left=left: begun(run, left))
                time.sleep(dice.uniform(0.0, 0.1))
            else:
                delay = dice.uniform(0.5, 35.0)
                wait_for(process, lambda end=launched + delay: time.monotonic() > end)
            saving = bool(begun(run, left))
            if not kill(process):
                break
            kills = kills + 1
            at_a_save = at_a_save + saving
            print(
                f"kill {kills} after {time.monotonic() - launched:.1f} s, during a save: {saving}",
                flush=True,
            )
        finish(sample_dataset, run, OPTIONS)
        assert_same(whole, run)
    print(
        f"{kills} kills in {runs} runs, {at_a_save} during a save: {time.monotonic() - began:.0f} s"
    )
