"""Processes are told apart for good."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from rvc_jax.storage.processes import identify_this_process, parse_tag

PRINT_TAG = (
    "from rvc_jax.storage.processes import identify_this_process;"
    "print(identify_this_process().tag, flush=True); input()"
)


def wait_for(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_this_process_is_alive_and_its_number_alone_is_not_it() -> None:
    own = identify_this_process()
    assert own.number == os.getpid() and own.is_alive and not own.is_stopped
    assert parse_tag(own.tag) == own
    later = dataclasses.replace(own, started=own.started + 1)
    assert later.is_alive is False  # the number was given to another process since


@pytest.mark.parametrize("change", [{"kernel": "other"}, {"namespace": "pid:[1]"}])
def test_another_machine_or_container_cannot_be_seen(change: dict[str, str]) -> None:
    other = dataclasses.replace(identify_this_process(), **change)
    assert other.is_alive is None and parse_tag(other.tag) is None


@pytest.mark.parametrize("tag", ["", "a-b-c", "0123456789ab-1", "0123456789ab-x-1"])
def test_what_is_no_tag(tag: str) -> None:
    assert parse_tag(tag) is None


def test_a_stopped_process_lives_and_a_zombie_does_not() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", PRINT_TAG],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    found = parse_tag(child.stdout.readline().strip())
    assert found is not None and found.number == child.pid and found.is_alive
    child.send_signal(signal.SIGSTOP)
    assert wait_for(lambda: found.is_stopped) and found.is_alive
    child.kill()  # and is not waited for
    assert wait_for(lambda: found.is_alive is False)
    child.communicate()
    assert found.is_alive is False
