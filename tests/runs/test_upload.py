"""A run at a URL while it trains: what arrives there, and what a failure does."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from remote_runs import list_names, read_files, save
from reporting import KeepingReporter

from rvc_jax.errors import UserError
from rvc_jax.reporter import SILENT
from rvc_jax.runs import checkpoint, upload
from rvc_jax.runs.mirror import fetch_run
from rvc_jax.runs.upload import sync_run
from rvc_jax.storage import places


def test_what_was_removed_here_goes_there_and_a_new_machine_has_the_newest(
    run_url: str, other_machine: Any
) -> None:
    with sync_run(run_url, SILENT) as run:
        for step in (1, 2, 3):
            save(run, step)
    here = read_files(run)
    assert {
        name: places.read(f"{run_url}/{name}") for name in list_names(run_url) - {"owner.json"}
    } == here
    assert {name.split("/")[1] for name in here if "/" in name} == {"2", "3", "events.1"}
    other_machine()
    with sync_run(run_url, SILENT) as run:
        brought = read_files(run)
        assert set(here) - set(brought) == {
            name
            for name in here
            if name.startswith("checkpoints/2/") and not name.endswith(checkpoint.HASHES)
        }
        assert brought == {name: here[name] for name in brought}
        assert checkpoint.is_remote_only(run / "checkpoints" / "2")
        save(run, 4)
    assert {
        name.split("/")[1] for name in list_names(run_url) if name.startswith("checkpoints/")
    } == {
        "3",
        "4",
    }
    assert (
        (run / "history.jsonl").read_text()
        == places.read(f"{run_url}/history.jsonl").decode()
        == "".join(f'{{"step": {step}}}\n' for step in (1, 2, 3, 4))
    )


def test_the_working_folder_stands_where_it_was_the_last_to_train(
    run_url: str, other_machine: Any
) -> None:
    with sync_run(run_url, SILENT) as run:
        save(run, 1)
    save(run, 2)  # killed before it was sent
    with sync_run(run_url, SILENT) as run:
        assert checkpoint.list_steps(run / "checkpoints") == [1, 2]
    assert checkpoint.find_newest(fetch_run(run_url, "checkpoints") / "checkpoints").name == "2"


def test_what_never_arrived_is_set_aside_when_another_machine_went_on(
    run_url: str, other_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Path(os.environ["RVC_JAX_HOME"])
    reporter = KeepingReporter()
    with sync_run(run_url, SILENT) as run:
        save(run, 1)
    save(run, 5)
    other_machine()
    with sync_run(run_url, SILENT) as run:
        save(run, 2)
    monkeypatch.setenv("RVC_JAX_HOME", str(first))
    with sync_run(run_url, reporter) as run:
        assert checkpoint.find_newest(run / "checkpoints").name == "2"
        assert checkpoint.find_newest(run.with_name("run-before") / "checkpoints").name == "5"
    assert len(reporter.messages) == 1 and "up to step 5, is in" in reporter.messages[0]


def test_a_failing_upload_is_said_and_tried_again(
    run_url: str, other_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(upload, "RETRY_SECONDS", (0.05,))
    reporter = KeepingReporter()
    arrived = threading.Event()
    put = places.put
    failures = 2

    def fails(path: Path, place: str) -> None:
        nonlocal failures
        if place.endswith("config.json"):
            if failures > 0:
                failures -= 1
                raise UserError(f"{place} cannot be reached: nothing answers")
            arrived.set()
        put(path, place)

    monkeypatch.setattr(places, "put", fails)
    with sync_run(run_url, reporter) as run:
        save(run, 1)
        assert arrived.wait(20)
    assert len(reporter.messages) == 2 and all(
        "cannot be reached" in text and "next try is in" in text for text in reporter.messages
    )
    monkeypatch.setattr(upload, "_FINAL_RETRY_SECONDS", (0.01, 0.01))
    with (
        pytest.raises(
            UserError,
            match=r"cannot be reached.*; not everything is at .*same command on this machine",
        ),
        sync_run(run_url, reporter) as run,
    ):
        failures = 1000
        save(run, 2)
    failures = 0
    with sync_run(run_url, SILENT) as run:
        assert checkpoint.find_newest(run / "checkpoints").name == "2"
    assert "checkpoints/2/sha256.json" in list_names(run_url)


def test_an_end_by_an_error_sends_what_there_is_and_keeps_the_error(
    run_url: str, other_machine: Any
) -> None:
    with pytest.raises(UserError, match="disk full"), sync_run(run_url, SILENT) as run:
        save(run, 1)
        raise UserError("disk full")
    assert "checkpoints/1/sha256.json" in list_names(run_url)
    with pytest.raises(UserError, match="refused"), sync_run("memory://bucket/nothing", SILENT):
        raise UserError("refused")
    assert not list_names("memory://bucket/nothing")


def test_a_place_with_something_else_is_left_alone(run_url: str, other_machine: Any) -> None:
    places.write(f"{run_url}/thesis.txt", b"years of work")
    with (
        pytest.raises(UserError, match="is not empty and holds no run"),
        sync_run(run_url, SILENT),
    ):
        pass
    assert list_names(run_url) == {"thesis.txt"}
    with pytest.raises(UserError, match="there is no run of rvc-jax at memory://bucket/none"):
        fetch_run("memory://bucket/none", "best")
