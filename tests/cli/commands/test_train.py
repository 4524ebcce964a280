"""What `rvc-jax train` tells while it works, and does when it has ended."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from rvc_jax.cli import after_training
from rvc_jax.cli.display import Display
from rvc_jax.cli.main import main
from rvc_jax.errors import UserError
from rvc_jax.runs.progress import TrainProgress, report_training

PROGRESS = TrainProgress(
    120,
    450,
    14,
    50,
    0.5,
    165.0,
    {"loss/mel": 24.1, "loss/kl": 1.25},
    1.4712,
    budget="0.10 h spent, 1.90 h left",
)


def test_json_lines_are_objects_with_everything(capsys: pytest.CaptureFixture) -> None:
    with Display("json") as display:
        display.message("compiling")
        report_training(display, PROGRESS)
    message, line = map(json.loads, capsys.readouterr().err.splitlines())
    assert message == {"event": "message", "text": "compiling"}
    assert (line["event"], line["step"], line["total_steps"], line["holdout"]) == (
        "training",
        120,
        450,
        1.4712,
    )
    assert line["losses"]["loss/mel"] == 24.1 and line["budget"] == PROGRESS.budget


def test_a_line_has_what_a_person_looks_for(capsys: pytest.CaptureFixture) -> None:
    with Display("lines") as display:
        report_training(display, PROGRESS)
    line = capsys.readouterr().err
    for part in (
        "120/450",
        "14/50",
        "3 min left",
        "2.00 steps/s",
        "hold-out 1.471",
        "mel 24.10",
        "1.90 h left",
    ):
        assert part in line
    assert not math.isnan(PROGRESS.step_seconds)


def test_a_run_is_limited_by_steps_and_a_command_follows(
    sample_dataset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    mark = tmp_path / "mark"
    options = ["--steps", "2", "--progress", "json", "--at-end", f"echo done > {mark}; exit 3"]
    assert main(["train", str(sample_dataset), "--run", str(run), *options]) == 3
    assert mark.read_text() == "done\n" and (run / "report.html").exists()
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["2"]


def test_what_cannot_be_done_at_the_end_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(after_training.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="no command called shutdown"):
        after_training.check_action("shutdown")
    with pytest.raises(UserError, match="--at-end is empty"):
        after_training.check_action(" ")
    after_training.check_action("nothing")
    assert after_training.run_action("nothing") == 0


def test_processes_but_the_first_switch_off_machines_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = []
    monkeypatch.setattr(after_training, "run_action", lambda what: done.append(what) or 0)
    monkeypatch.setattr(after_training.platform, "node", lambda: "host-1")
    for what, first in (
        ("shutdown", "host-1"),
        ("exit", "host-0"),
        ("echo done", "host-0"),
        ("shutdown", "host-0"),
    ):
        assert after_training.run_action_on_other_machine(what, first) == 0
    assert done == ["shutdown"]
