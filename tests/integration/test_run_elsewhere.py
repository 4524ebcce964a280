"""Runs at a URL: another machine goes on where one was killed, and what arrives half does no
harm."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import micro
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from same_runs import assert_same

from rvc_jax.cli.main import main
from rvc_jax.config import PRESETS
from rvc_jax.errors import UserError
from rvc_jax.runs import checkpoint, lock, upload
from rvc_jax.runs.lock import RunLock
from rvc_jax.runs.mirror import ALL_PARTS, Mirror, fetch_run, is_mirrored, working_folder
from rvc_jax.runs.upload import sync_run
from rvc_jax.storage import places
from rvc_jax.storage.environment import cache_dir

OPTIONS = ("--epochs", "4", "--save-every", "1", "--evaluate-every", "2", "--log-every", "1")


@pytest.fixture
def url() -> Iterator[str]:
    """A place in an emulated object store in this process."""
    memory = fsspec.filesystem("memory")
    yield "memory://bucket/voice"
    with contextlib.suppress(FileNotFoundError):
        memory.rm("/bucket", recursive=True)


@pytest.fixture
def other_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Call it to be on a machine that has never seen any run."""
    count = iter(range(100))

    def change() -> None:
        monkeypatch.setenv("RVC_JAX_HOME", str(tmp_path / f"home{next(count)}"))

    change()
    return change


def state(step: int) -> dict[str, np.ndarray]:
    return {"w": np.full((30, 40), step, np.float32)}


def save(run: Path, step: int, keep: int = 2) -> None:
    """A checkpoint, the voice and the history of a step, as a run would have them."""
    (run / "metrics").mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text("{}")
    with (run / "history.jsonl").open("a") as file:
        file.write(json.dumps({"step": step}) + "\n")
    (run / "metrics" / "events.1").write_bytes(bytes(step))
    for kept, number in (("best", 1), ("checkpoints", keep)):
        checkpoint.write(run / kept, step, state(step))
        for old in checkpoint.list_steps(run / kept)[:-number]:
            shutil.rmtree(run / kept / str(old))


def names(url: str) -> set[str]:
    return set(places.list_versions(url))


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_was_removed_here_goes_there_and_a_new_machine_has_the_newest(
    url: str, other_machine: Any
) -> None:
    with sync_run(url, print) as run:
        for step in (1, 2, 3):
            save(run, step)
    here = content(run)
    assert {name: places.read(f"{url}/{name}") for name in names(url) - {"owner.json"}} == here
    assert {name.split("/")[1] for name in here if "/" in name} == {"2", "3", "events.1"}
    other_machine()
    with sync_run(url, print) as run:
        brought = content(run)
        assert set(here) - set(brought) == {
            name
            for name in here
            if name.startswith("checkpoints/2/") and not name.endswith(checkpoint.HASHES)
        }
        assert brought == {name: here[name] for name in brought}
        assert checkpoint.is_remote_only(run / "checkpoints" / "2")
        save(run, 4)
    assert {name.split("/")[1] for name in names(url) if name.startswith("checkpoints/")} == {
        "3",
        "4",
    }
    assert (
        (run / "history.jsonl").read_text()
        == places.read(f"{url}/history.jsonl").decode()
        == "".join(f'{{"step": {step}}}\n' for step in (1, 2, 3, 4))
    )


def test_a_half_sent_checkpoint_is_nobodys_newest(
    url: str, other_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror(url, working_folder(url))
    save(mirror.run, 1)
    mirror.look()
    mirror.send()
    save(mirror.run, 2)
    put = places.put

    def fails(path: Path, place: str) -> None:
        if path.name == "_METADATA" and "/checkpoints/" in place:
            raise UserError("the network is gone")
        put(path, place)

    with monkeypatch.context() as patch, pytest.raises(UserError, match="network"):
        patch.setattr(places, "put", fails)
        mirror.send()
    assert any(name.startswith("checkpoints/2/") for name in names(url))
    other_machine()
    run = fetch_run(url, *ALL_PARTS)
    assert (
        checkpoint.list_steps(run / "checkpoints") == [1]
        and checkpoint.verify(run / "checkpoints" / "1") is None
    )
    assert mirror.send() == 0  # the first machine is there again, and sends the rest
    assert checkpoint.find_newest(fetch_run(url, *ALL_PARTS) / "checkpoints").name == "2"


def test_a_damaged_one_at_the_url_is_passed_over(url: str, other_machine: Any) -> None:
    with sync_run(url, print) as run:
        save(run, 1)
        save(run, 2)
    (damaged,) = [
        name for name in names(url) if name.startswith("checkpoints/2/default/_METADATA")
    ]
    places.write(f"{url}/{damaged}", b"{}")
    other_machine()
    run = fetch_run(url, *ALL_PARTS)
    assert [checkpoint.verify(run / "checkpoints" / step) is None for step in ("1", "2")] == [
        True,
        False,
    ]


def test_what_goes_while_it_is_read_is_looked_for_again(
    url: str, other_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sync_run(url, print) as run:
        save(run, 1)
    other_machine()
    get = places.get

    def late(place: str, path: Path) -> None:
        if "/best/1/" in place and names(url) & {"best/1/sha256.json"}:
            save(run, 2)
            mirror = Mirror(url, run.parent)
            mirror.look()
            mirror.send()
        get(place, path)

    monkeypatch.setattr(places, "get", late)
    assert (
        checkpoint.read(checkpoint.find_newest(fetch_run(url, "best") / "best"), state(0))["w"][
            0, 0
        ]
        == 2
    )


def test_the_working_folder_stands_where_it_was_the_last_to_train(
    url: str, other_machine: Any
) -> None:
    with sync_run(url, print) as run:
        save(run, 1)
    save(run, 2)  # killed before it was sent
    with sync_run(url, print) as run:
        assert checkpoint.list_steps(run / "checkpoints") == [1, 2]
    assert checkpoint.find_newest(fetch_run(url, "checkpoints") / "checkpoints").name == "2"


def test_what_never_arrived_is_set_aside_when_another_machine_went_on(
    url: str, other_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Path(os.environ["RVC_JAX_HOME"])
    said = []
    with sync_run(url, print) as run:
        save(run, 1)
    save(run, 5)
    other_machine()
    with sync_run(url, print) as run:
        save(run, 2)
    monkeypatch.setenv("RVC_JAX_HOME", str(first))
    with sync_run(url, said.append) as run:
        assert checkpoint.find_newest(run / "checkpoints").name == "2"
        assert checkpoint.find_newest(run.with_name("run-before") / "checkpoints").name == "5"
    assert len(said) == 1 and "up to step 5, is in" in said[0]


def test_two_machines_at_once_are_refused_and_a_second_claim_is_noticed(
    url: str, other_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_FINAL_RETRY_SECONDS", (0.01,))
    said: list[str] = []
    with pytest.raises(UserError, match="too, since this run began; not everything is at"):  # noqa: SIM117
        with sync_run(url, said.append) as run:
            save(run, 1)
            other_machine()
            refusal = r"is being trained by process \d+ of .* if it is gone, wait \d+ s"
            with pytest.raises(UserError, match=refusal), sync_run(url, print):
                pass
            monkeypatch.setattr(lock, "_EXPIRY_SECONDS", 0.0)
            RunLock(url, working_folder(url)).claim()
    assert json.loads(places.read(f"{url}/owner.json"))["time"] > 0  # the other's


def test_a_failing_upload_is_said_and_tried_again(
    url: str, other_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(upload, "_WAITS", (0.05,))
    said = []
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
    with sync_run(url, said.append) as run:
        save(run, 1)
        assert arrived.wait(20)
    assert len(said) == 2 and all(
        "cannot be reached" in text and "next try is in" in text for text in said
    )
    monkeypatch.setattr(upload, "_FINAL_RETRY_SECONDS", (0.01, 0.01))
    with (
        pytest.raises(
            UserError,
            match=r"cannot be reached.*; not everything is at .*same command on this machine",
        ),
        sync_run(url, said.append) as run,
    ):
        failures = 1000
        save(run, 2)
    failures = 0
    with sync_run(url, print) as run:
        assert checkpoint.find_newest(run / "checkpoints").name == "2"
    assert "checkpoints/2/sha256.json" in names(url)


def test_an_end_by_an_error_sends_what_there_is_and_keeps_the_error(
    url: str, other_machine: Any
) -> None:
    with pytest.raises(UserError, match="disk full"), sync_run(url, print) as run:
        save(run, 1)
        raise UserError("disk full")
    assert "checkpoints/1/sha256.json" in names(url)
    with pytest.raises(UserError, match="refused"), sync_run("memory://bucket/nothing", print):
        raise UserError("refused")
    assert not names("memory://bucket/nothing")


def test_a_place_with_something_else_is_left_alone(url: str, other_machine: Any) -> None:
    places.write(f"{url}/thesis.txt", b"years of work")
    with pytest.raises(UserError, match="is not empty and holds no run"), sync_run(url, print):
        pass
    assert names(url) == {"thesis.txt"}
    with pytest.raises(UserError, match="there is no run of rvc-jax at memory://bucket/none"):
        fetch_run("memory://bucket/none", "best")


PARTS = st.sampled_from(
    [
        "",
        ".",
        "..",
        "...",
        "checkpoints",
        "best",
        "metrics",
        "config.json",
        "7",
        "07",
        "²",
        "default",
        "a\\b",
        "c:",
        "\0",
        "..\\x",
        "sha256.json",
        "\n",
    ]
) | st.text(max_size=8)


@given(st.lists(PARTS, min_size=1, max_size=5).map("/".join))
@settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    root = Path("/nowhere/run")
    if is_mirrored(name):
        path = Path(os.path.normpath(root / name))
        assert path.relative_to(root).as_posix() == name and len(path.parts) > len(root.parts)
        assert (
            path.parts[len(root.parts)] in ALL_PARTS and "\\" not in name and "\0" not in name
        )


@given(st.lists(st.lists(PARTS, min_size=1, max_size=4).map("/".join), max_size=6))
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_hostile_listing_writes_nothing_outside(tmp_path: Path, hostile: list[str]) -> None:
    entries = {
        name: places.RemoteFile(1, "1")
        for name in (*hostile, "metrics/events", "checkpoints/../../evil", "/evil")
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "list_versions", lambda place: entries)
        asked: list[Path] = []
        patch.setattr(places, "get", lambda place, path: asked.append(path))
        Mirror("memory://b", tmp_path / "w").bring()
    assert tmp_path / "w" / "run" / "metrics" / "events" in asked
    for path in asked:
        assert (
            Path(os.path.normpath(path)).is_relative_to(tmp_path / "w" / "run")
            and ".." not in path.parts
        )


def start(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, micro.__file__, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finished_there(run: str) -> list[int]:
    found = [name.split("/") for name in names(run)]
    return [
        int(part[1])
        for part in found
        if part[0] == "checkpoints" and part[-1] == checkpoint.HASHES
    ]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training in this process is as quick as in the one that `start` gives."""
    monkeypatch.setitem(PRESETS, "nano", micro.MICRO)


@pytest.mark.usefixtures("quick")
def test_killed_and_continued_by_another_machine_from_s3(
    s3: Any,
    sample_dataset: Path,
    other_machine: Any,
    other_clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    """Then the voice is used from there."""
    left_alone = tmp_path / "whole"
    assert main(["train", str(sample_dataset), "--run", str(left_alone), *OPTIONS]) == 0
    s3.mkdir("voices")
    run = "s3://voices/callie"
    command = ("train", str(sample_dataset), "--run", run, *OPTIONS)
    process = start(*command)
    end = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < end and not finished_there(run):
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()[0]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed_at = max(finished_there(run))
    assert 0 < killed_at < 8
    other_machine()
    assert main(list(command)) == 2 and "if it is gone, wait" in capsys.readouterr().err
    owner = json.loads(places.read(f"{run}/owner.json"))
    places.write(
        f"{run}/owner.json", json.dumps(owner | {"time": owner["time"] - 400}).encode()
    )
    assert main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["run"], result["resumed_from"], result["steps"]) == (run, killed_at, 8)

    other_machine()  # whose training does not matter any more
    assert_same(left_alone, fetch_run(run, *ALL_PARTS))
    assert len(finished_there(run)) == 2 and f"{run}/report.html" in {
        f"s3://{name}" for name in s3.find("voices")
    }

    other_machine()
    out = tmp_path / "out.wav"
    assert (
        main(["convert", run, str(other_clip), str(out), "--voice", "latest"]) == 0
        and out.stat().st_size > 1000
    )
    assert main(["evaluate", run, "--json"]) == 0
    capsys.readouterr()
    assert main(["info", run, "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["kind"], info["path"], info["steps"]) == ("run", run, 8)
    assert info["bytes"] == sum(entry.bytes for entry in places.list_versions(run).values())
    s3.rm_file("voices/callie/report.html")
    assert main(["report", run]) == 0 and f"{run}/report.html" in capsys.readouterr().out
    assert b"<html" in places.read(f"{run}/report.html")


@pytest.mark.usefixtures("quick")
def test_a_service_that_is_gone_at_the_end_is_exit_code_2(
    url: str,
    sample_dataset: Path,
    other_machine: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(upload, "_FINAL_RETRY_SECONDS", (0.01,))
    put = places.put

    def fails(path: Path, place: str) -> None:
        if "/checkpoints/" in place:
            raise UserError(f"{place} cannot be reached: nothing answers")
        put(path, place)

    monkeypatch.setattr(places, "put", fails)
    command = ["train", str(sample_dataset), "--run", url, "--steps", "2"]
    assert main(command) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "cannot be reached: nothing answers; not everything is at" in last
    assert (
        str(cache_dir() / "runs") in last
        and "the same command on this machine sends it" in last
    )
    monkeypatch.setattr(places, "put", put)
    assert main(command) == 0 and finished_there(url) == [2]
