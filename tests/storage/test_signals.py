"""Requests to end are exceptions, so that whatever was begun is cleaned up."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys

import pytest

from rvc_jax.storage.signals import InterruptedBySignal, signals_as_exceptions

WAIT = """
import signal, sys, time
from rvc_jax.storage.signals import InterruptedBySignal, signals_as_exceptions
from rvc_jax.storage.scratch import temporary_folder
from pathlib import Path
try:
    with signals_as_exceptions(), temporary_folder(Path(sys.argv[1])):
        print("ready", flush=True)
        time.sleep(float(sys.argv[2]))
except InterruptedBySignal as error:
    print("cleaned", flush=True)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_block_is_left_and_cleaned_up(tmp_path, number: signal.Signals, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT, str(tmp_path), "60"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(number)
    assert process.communicate(timeout=30)[0] == "cleaned\n" and process.returncode == code
    assert not list(tmp_path.iterdir())


def test_a_closed_terminal_ends_it_and_output_goes_nowhere(tmp_path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", WAIT, str(tmp_path), "60"])
    assert b"ready" in os.read(terminal, 100)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 129  # the last line raised no error
    assert not list(tmp_path.iterdir())


def test_what_is_ignored_stays_ignored(tmp_path) -> None:
    process = subprocess.Popen(
        ["nohup", sys.executable, "-c", WAIT, str(tmp_path), "0.5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=30)[0] == "" and process.returncode == 0


def test_handlers_are_put_back() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(InterruptedBySignal), signals_as_exceptions():
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
