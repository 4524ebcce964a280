"""Another machine continues a run at a URL where one was killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import micro
import pytest
from remote_runs import list_names
from same_runs import assert_same

from rvc_jax.cli.main import main
from rvc_jax.config import PRESETS
from rvc_jax.errors import UserError
from rvc_jax.runs import checkpoint, upload
from rvc_jax.runs.mirror import ALL_PARTS, fetch_run
from rvc_jax.storage import places
from rvc_jax.storage.environment import cache_dir

OPTIONS = ("--epochs", "4", "--save-every", "1", "--evaluate-every", "2", "--log-every", "1")


def start(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, micro.__file__, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finished_there(run: str) -> list[int]:
    found = [name.split("/") for name in list_names(run)]
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
    run_url: str,
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
    command = ["train", str(sample_dataset), "--run", run_url, "--steps", "2"]
    assert main(command) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "cannot be reached: nothing answers; not everything is at" in last
    assert (
        str(cache_dir() / "runs") in last
        and "the same command on this machine sends it" in last
    )
    monkeypatch.setattr(places, "put", put)
    assert main(command) == 0 and finished_there(run_url) == [2]
