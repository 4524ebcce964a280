"""Calls of programs, bounded in time. Signals and the time limit act at once, also while one hangs.

A handler only records its signal. Every wait watches the signals, the child process and the time
together, so a signal takes effect at known places.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from messages import say

# The length of a second of every wait and limit; shorter in tests.
SECOND = float(os.environ.get("RVC_JAX_SECOND", "1"))
STARTED = time.time()
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
LARGEST = 16 * 2**20  # bytes of an answer that are read
ENDING = 3  # seconds between SIGTERM and SIGKILL
HURRY = 20  # seconds that are left for cleaning up after another signal


class SignalError(Exception):
    """A signal came. Its `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class TimeLimitError(Exception):
    """The time limit (--at-most) has been reached."""


class CleaningError(Exception):
    """The time for cleaning up is over, or the user does not want to wait for it."""


@dataclass(frozen=True)
class Answer:
    """What a program printed, and its exit code: negative after a signal, None past its limit."""

    code: int | None
    out: str = ""
    err: str = ""

    @property
    def succeeded(self) -> bool:
        return self.code == 0


def now() -> float:
    """Seconds since 1970."""
    return STARTED + (time.time() - STARTED) / SECOND


class Caller:
    """Runs programs, one at a time, each in its own process group.

    Before `clean`, a signal raises SignalError and the deadline raises TimeLimitError. After it,
    only the end of the cleaning counts: another signal moves it to HURRY seconds from then, and one
    more ends it at once.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.signals: list[int] = []
        self._seen = 0  # signals that came before the cleaning
        self._cleaning = False
        self._hurries = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # wakes the wait
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for number in SIGNALS:
            # `nohup tpu ...` keeps running when the terminal closes.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda number, frame: self.signals.append(number))

    def clean(self, seconds: float) -> None:
        """Begins to clean up, for at most `seconds`; counts signals anew."""
        self._seen = len(self.signals)
        self._hurries = False
        self._cleaning = True
        self.deadline = now() + seconds

    def extend(self, seconds: float) -> None:
        """Leaves at least `seconds` for the cleaning, unless another signal came."""
        if self._cleaning and not self._hurries:
            self.deadline = max(self.deadline, now() + seconds)

    def ignore_signals(self) -> None:
        """From here on, signals change nothing."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def check(self) -> None:
        """Raises the exception that is due, if one is."""
        if not self._cleaning:
            if self.signals:
                raise SignalError(self.signals[0])
            if now() >= self.deadline:
                raise TimeLimitError
            return
        more = len(self.signals) - self._seen
        if more and not self._hurries:
            self._hurries = True
            say(f"{HURRY} s are left; one more signal (Ctrl-C) ends it now")
            self.deadline = min(self.deadline, now() + HURRY)
        if more > 1 or now() >= self.deadline:
            raise CleaningError

    def pause(self, seconds: float) -> None:
        """Waits."""
        self._wait(lambda: False, seconds)

    def run(
        self,
        command: Sequence[str],
        limit: float,
        *,
        shows: bool = False,
        grace: float = 0,
        environment: Mapping[str, str] | None = None,
    ) -> Answer:
        """Runs a program and returns its answer; the program is ended after `limit` seconds.

        shows: its output goes to the terminal instead of into the answer. grace: seconds that the
        program may go on after a signal or the deadline, for a request that is being sent.
        """
        self.check()
        with contextlib.ExitStack() as files:
            try:
                out = None if shows else files.enter_context(temporary_file())
                err = None if shows else files.enter_context(temporary_file())
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                )
            except OSError as error:
                return Answer(127, "", f"{command[0]} can't be started: {error.strerror}")
            ended = False
            try:
                self._wait(lambda: process.poll() is not None or too_long(out, err), limit)
                ended = process.poll() is not None
            except (SignalError, TimeLimitError):
                self._grace(process, grace)
                raise
            finally:
                end(process)
            return Answer(process.returncode if ended else None, read(out), read(err))

    def _grace(self, process: subprocess.Popen, seconds: float) -> None:
        """Waits for the program, until it has ended, the time is over, or another signal comes."""
        if seconds:
            say(f"the request is being sent; the end waits for it, {int(seconds)} s at most")
        count = len(self.signals)
        until = time.monotonic() + seconds * SECOND
        while time.monotonic() < until and len(self.signals) == count:
            if process.poll() is not None:
                return
            self._sleep(until - time.monotonic())

    def _wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Waits until `done()` or for `seconds`; returns whether it is done."""
        until = time.monotonic() + seconds * SECOND
        while not done():
            self.check()
            left = until - time.monotonic()
            if left <= 0:
                return False
            self._sleep(min(left, (self.deadline - now()) * SECOND))
        return True

    def _sleep(self, seconds: float) -> None:
        """Sleeps until a signal comes, a quarter of a second at most: a laptop may be asleep while
        time goes on, and a program may print without end."""
        select.select([self._reader], [], [], max(0, min(seconds, 0.25)))
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)


def temporary_file() -> IO[bytes]:
    """A file for a program's output: in memory where possible, because the disk may be full."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("answer"), "w+b")
    return tempfile.TemporaryFile()


def end(process: subprocess.Popen) -> None:
    """Ends the process and all that it started, which is gcloud's ssh."""
    if process.poll() is not None:
        return
    signal_group(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(ENDING * SECOND)
    signal_group(process, signal.SIGKILL)
    process.wait()


def signal_group(process: subprocess.Popen, number: int) -> None:
    """Sends the signal to the process group."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, number)


def too_long(*files: IO[bytes] | None) -> bool:
    """Whether a program has printed more than anybody reads."""
    return any(file is not None and os.fstat(file.fileno()).st_size > LARGEST for file in files)


def read(file: IO[bytes] | None) -> str:
    """The text of a file that a program has written."""
    if file is None:
        return ""
    file.seek(0)
    return file.read(LARGEST).decode(errors="replace")
