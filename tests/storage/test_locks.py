"""One process at a time, whatever has happened to the one before."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
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

import pytest
from reporting import KeepingReporter

from rvc_jax.errors import UserError
from rvc_jax.storage import locks
from rvc_jax.storage.files import LOCK_NAME
from rvc_jax.storage.locks import Lock, LockedError, lock_beside, lock_folder, read_lock
from rvc_jax.storage.processes import identify_this_process

HOLD = """
import sys, time
from pathlib import Path
from rvc_jax.storage.locks import Lock, LockedError
start = float(sys.argv[2])
time.sleep(max(0.0, start - time.time()))
try:
    with Lock(Path(sys.argv[1]), "it"):
        print("won", flush=True)
        input()
except LockedError:
    print("refused", flush=True)
"""
REFUSAL = r"the run r is in use by process \d+ of .+ \(.+\) since \d{4}-.+: end it first"


def hold(file: Path, start: float = 0.0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file), str(start)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@contextlib.contextmanager
def held(file: Path) -> Iterator[subprocess.Popen[str]]:
    process = hold(file)
    try:
        assert line(process) == "won"
        yield process
    finally:
        process.kill()
        process.communicate()


def lock(folder: Path, **options: Any) -> Lock:
    return lock_folder(folder, "the run r", "end it first", **options)


def leave_foreign(file: Path, **process: Any) -> None:
    """Leave a lock as a process of another machine would."""
    with Lock(file, "it"):
        values = json.loads(file.read_text())
    values["process"] |= {"machine": "far", "kernel": "another"} | process
    file.write_text(json.dumps(values))


def test_a_second_one_is_refused_with_who_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with lock(folder) as first:
        assert not first.is_lost
        with pytest.raises(LockedError, match=REFUSAL), lock(folder):
            pass
        assert (folder / LOCK_NAME).exists()
        first.check()
    assert not (tmp_path / "new").exists()  # made for the lock, and left empty
    with lock(folder):
        (folder / "file").touch()
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_every_path_leads_to_the_same_lock(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    link = tmp_path / "link"
    link.symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    ways = [folder, link, Path("run"), Path("link/../run"), Path("./run")]
    for one in ways:
        for other in ways:
            with lock(one), pytest.raises(LockedError), lock(other):
                pass
            with lock_beside(one, "it", ""), pytest.raises(LockedError):
                lock_beside(other, "it", "").acquire()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "run"]


@pytest.mark.parametrize("is_stale", [False, True])
def test_of_twenty_at_once_exactly_one_wins(tmp_path: Path, is_stale: bool) -> None:
    file = tmp_path / LOCK_NAME
    if is_stale:
        with held(file) as process:
            process.kill()
            process.wait()
        assert file.exists()
    start = time.time() + 4.0
    processes = [hold(file, start) for _ in range(20)]
    results = [line(process) for process in processes]
    assert sorted(results) == ["refused"] * 19 + ["won"]
    for process in processes:
        process.communicate("\n")
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    with held(tmp_path / LOCK_NAME) as process:
        with pytest.raises(LockedError):
            lock(tmp_path).acquire()
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(LockedError):  # stopped is not dead
            lock(tmp_path).acquire()
        process.kill()
        process.wait()
        began = time.monotonic()
        with lock(tmp_path):
            assert time.monotonic() - began < 1.0


def test_the_locks_that_killed_processes_left_are_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".a.wav.lock"
    with held(left) as process, held(tmp_path / ".b.wav.lock"):
        process.kill()
        process.wait()
        (tmp_path / ".other.lock").write_text("another program's")
        with lock_beside(tmp_path / "c.wav", "it", ""):
            names = sorted(path.name for path in tmp_path.iterdir())
            assert names == [".b.wav.lock", ".c.wav.lock", ".other.lock"]


def test_a_number_that_another_process_has_now(tmp_path: Path) -> None:
    file = tmp_path / LOCK_NAME
    with Lock(file, "it"):
        values = json.loads(file.read_text())
    values["process"]["started"] -= 1000
    file.write_text(json.dumps(values))
    with lock(tmp_path):
        pass


def test_a_copy_of_a_folder_in_use_is_free(tmp_path: Path) -> None:
    with held(tmp_path / "run" / LOCK_NAME):
        shutil.copytree(tmp_path / "run", tmp_path / "copy")
        with lock(tmp_path / "copy"):
            pass
        with pytest.raises(LockedError):
            lock(tmp_path / "run").acquire()


def test_a_dead_holder_of_another_machine_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "SILENCE_SECONDS", 1.0)
    file = tmp_path / LOCK_NAME
    leave_foreign(file)
    os.utime(file, (4e9, 4e9))  # its clock is of no importance
    reporter = KeepingReporter()
    began = time.monotonic()
    with lock(tmp_path, reporter=reporter):
        assert time.monotonic() - began > 0.9
    (message,) = reporter.messages
    assert "the run r may be in use by process" in message and "of far" in message


def test_a_living_holder_of_another_machine_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "SILENCE_SECONDS", 20.0)
    file = tmp_path / LOCK_NAME
    leave_foreign(file)
    timer = threading.Timer(0.7, os.utime, [file])
    timer.start()
    with pytest.raises(LockedError, match="of far"):
        lock(tmp_path).acquire()
    timer.join()


def test_a_holder_in_another_container_is_known_at_once(tmp_path: Path) -> None:
    file = tmp_path / LOCK_NAME
    with held(file) as process:
        # Its process number means nothing here, but the machine's own locks do. In place, because
        # those belong to the file, not to its name.
        values = json.loads(file.read_text())
        values["process"]["namespace"] = "pid:[1]"
        with file.open("r+") as opened:
            opened.write(json.dumps(values))
            opened.truncate()
        began = time.monotonic()
        with pytest.raises(LockedError):
            lock(tmp_path).acquire()
        process.kill()
        process.wait()
        with lock(tmp_path):
            assert time.monotonic() - began < 2.0


def test_a_lock_is_renewed_and_a_lost_one_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "RENEW_SECONDS", 0.05)
    with lock(tmp_path) as mine:
        file = tmp_path / LOCK_NAME
        os.utime(file, (0, 0))
        time.sleep(0.5)
        assert file.stat().st_mtime > 0
        values = json.loads(file.read_text()) | {"token": "another's"}
        file.unlink()
        file.write_text(json.dumps(values))
        assert mine.is_lost
        with pytest.raises(LockedError, match="in use by"):
            mine.check()
    assert json.loads(file.read_text())["token"] == "another's"  # not ours to remove


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 5000, b'{"format": "rvc_jax lock"}', b"[" * 4000]
)
def test_what_is_no_lock_counts_as_one_until_it_was_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(locks, "SILENCE_SECONDS", 0.6)
    (tmp_path / LOCK_NAME).write_bytes(content)
    with lock(tmp_path):
        assert read_lock(tmp_path / LOCK_NAME).holder.process == identify_this_process()


@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_something_else_in_its_place_is_one_line(tmp_path: Path, kind: str) -> None:
    file = tmp_path / LOCK_NAME
    make = {
        "folder": file.mkdir,
        "link": lambda: file.symlink_to("/nowhere"),
        "pipe": lambda: os.mkfifo(file),
    }
    make[kind]()
    with pytest.raises(UserError, match=r"\.lock"):
        lock(tmp_path).acquire()


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_disk_that_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Any, flags: int, *rest: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(number, os.strerror(number), str(path))
        return real(path, flags, *rest)

    real = os.open
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError) as caught:
        lock(tmp_path / "a" / "b").acquire()
    assert str(caught.value) == f"{tmp_path}/a/b cannot be written: {os.strerror(number)}"
    assert not list(tmp_path.iterdir())


def test_a_disk_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with lock(tmp_path), pytest.raises(LockedError):
        lock(tmp_path).acquire()
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="cannot be written"):
            lock(folder).acquire()


def test_long_names_have_locks_too(tmp_path: Path) -> None:
    with lock_beside(tmp_path / ("ü" * 125), "it", ""), pytest.raises(LockedError):
        lock_beside(tmp_path / ("ü" * 125), "it", "").acquire()


def test_a_holder_is_described_without_what_could_move_the_cursor() -> None:
    process = dataclasses.replace(identify_this_process(), machine="a\x1b[2J")
    holder = locks.Holder(process, "b\nc", 0.0, "", 0, True)
    assert holder.describe().isprintable()
