"""`rvc-jax status` and `rvc-jax watch`."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from rvc_jax.cli.main import main
from rvc_jax.runs import heartbeat
from rvc_jax.storage.files import write_json


def test_status_is_a_table_or_json(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tiny_run)]) == 0
    table = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert (
        table["state"].strip() == "finished"
        and "the best, at step" in table["hold-out log-mel error"]
    )
    assert main(["status", str(tiny_run), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (
        values["state"] == "finished"
        and values["step"] == values["steps"] == values["total_steps"]
    )


def test_watching_ends_with_the_run(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.json", "history.jsonl", heartbeat.FILE):
        shutil.copy(tiny_run / name, run)
    ended = heartbeat.read_heartbeat(run)
    tell(run, ended, state="training", step=1)

    def go_on() -> None:
        time.sleep(0.3)
        tell(run, ended, state="interrupted", why="asked to")

    thread = threading.Thread(target=go_on)
    thread.start()
    assert main(["watch", str(run), "--every", "0.05"]) == 1
    thread.join()
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("training, step") and last.startswith("interrupted (asked to)")
    tell(run, ended)
    assert main(["watch", str(run)]) == 0


def tell(run: Path, beat: heartbeat.HeartbeatRecord, **changes: object) -> None:
    now = dataclasses.replace(beat, **{"alive": time.time(), "moved": time.time()} | changes)
    write_json(run / heartbeat.FILE, dataclasses.asdict(now))


def test_a_time_that_is_none(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(tiny_run), "--every", "0"]) == 2
    assert "--every 0" in capsys.readouterr().err
