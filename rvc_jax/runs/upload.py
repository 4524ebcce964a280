"""A run at a URL while it trains: fetched at the start, and sent there whenever something is
saved."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from rvc_jax.errors import UserError
from rvc_jax.reporter import Reporter
from rvc_jax.runs import checkpoint
from rvc_jax.runs.lock import RunLock, lock_run
from rvc_jax.runs.mirror import Mirror, working_folder
from rvc_jax.storage.places import Location, is_remote
from rvc_jax.storage.retry import RETRY_SECONDS

_POLL_SECONDS = 1.0
"""Seconds between looks for a new checkpoint, which is sent at once."""
_UPLOAD_SECONDS = 60.0
"""Seconds after which history, curves and heartbeat are sent without a new checkpoint."""
_FINAL_RETRY_SECONDS = (2.0, 10.0, 30.0)
"""Seconds before the tries that follow a failed one at the end of the run."""


@contextlib.contextmanager
def sync_run(run: Location, reporter: Reporter) -> Iterator[Path]:
    """Return the local folder of a run, and keep a run at a URL in step with it while it trains.

    Everything is at the URL when the context ends.

    Args:
        run: Folder or URL of the run.
        reporter: Receives a message about everything that fails meanwhile.

    Raises:
        UserError: The URL can't be reached, holds something else, or is being trained already; at
            the end, not everything could be sent.
    """
    if not is_remote(run):
        yield Path(run)
        return
    folder = working_folder(str(run))
    with lock_run(folder, reporter, str(run)):
        mirror = Mirror(str(run), folder)
        lock = RunLock(str(run).rstrip("/"), folder)
        _begin(mirror, lock, reporter)
        uploader = Uploader(mirror, lock, reporter)
        has_ended = False
        try:
            yield mirror.run
            has_ended = True
        finally:
            # After an error there is one try: the error matters more than the upload.
            uploader.finish(_FINAL_RETRY_SECONDS if has_ended else ())


def _begin(mirror: Mirror, lock: RunLock, reporter: Reporter) -> None:
    """Make the working folder the run's newest state, and claim the run.

    The folder has the newest state already if it was the last one to train.
    """
    was_last = lock.check()
    foreign = mirror.list_remote() - {"owner.json"}
    if foreign and mirror.is_empty:
        raise UserError(
            f"{mirror.url} is not empty and holds no run of rvc-jax: name another place with --run"
        )
    is_run = (mirror.run / "config.json").exists()
    if was_last and is_run and _newest_step(mirror.run) >= mirror.newest_remote_step():
        newest = checkpoint.find_newest(mirror.run / "checkpoints")
        if newest is not None and checkpoint.verify(newest) is not None:
            mirror.pull_newest("checkpoints")
    else:
        _move_aside(mirror, reporter)
        mirror.pull()
    # Only now, because a claim says that the newest state is here.
    lock.claim()


def _move_aside(mirror: Mirror, reporter: Reporter) -> None:
    """Keep what this machine trained and never sent, if another machine continued the run."""
    newest = _newest_step(mirror.run)
    if newest > mirror.newest_remote_step():
        aside = mirror.run.with_name("run-before")
        shutil.rmtree(aside, ignore_errors=True)
        mirror.run.rename(aside)
        reporter.message(
            f"the run goes on from what is at {mirror.url}; this machine's own, up to step "
            f"{newest}, is in {aside}"
        )


def _newest_step(run: Path) -> int:
    return max(checkpoint.list_steps(run / "checkpoints"), default=-1)


class Uploader:
    """Sends a working folder to its URL from a thread, again and again."""

    def __init__(self, mirror: Mirror, lock: RunLock, reporter: Reporter):
        """Start the thread.

        Args:
            mirror: Sends the files. It is this object's alone until `finish` has returned.
            lock: The claim on the URL, renewed with every upload.
            reporter: Receives a message about every failure.
        """
        self._mirror = mirror
        self._lock = lock
        self._reporter = reporter
        self._over = threading.Event()
        self._has_warned_of_missed = False
        self._thread = threading.Thread(target=self._work, name="upload", daemon=True)
        self._thread.start()

    def finish(self, waits: tuple[float, ...]) -> None:
        """End the thread, and send the rest.

        Args:
            waits: Seconds before more tries. Without any there is one try, whose failure is
                reported.

        Raises:
            UserError: With `waits`: not everything could be sent.
        """
        self._over.set()
        # A mirror is not for two threads at once.
        self._thread.join()
        for seconds in (*waits, None):
            try:
                self._send(is_last=True)
                self._lock.release(keep=not self._mirror.is_empty)
                return
            except Exception as error:  # a network fails in many ways
                if seconds is not None:
                    self._reporter.message(f"{error}; the next try is in {seconds:.0f} s")
                    time.sleep(seconds)
                    continue
                failure = (
                    f"{error}; not everything is at {self._mirror.url}. All of it is in "
                    f"{self._mirror.run}"
                )
                if waits:
                    raise UserError(
                        f"{failure}, and the same command on this machine sends it"
                    ) from error
                self._reporter.message(failure)

    def _work(self) -> None:
        failures = 0
        sent: tuple[list[int], list[int]] | None = None
        due = time.monotonic() + _UPLOAD_SECONDS
        while not self._over.wait(_POLL_SECONDS):
            saved = self._list_saved()
            has_news = saved != sent and not failures
            if not has_news and time.monotonic() < due:
                continue
            try:
                self._send()
            except Exception as error:  # a network fails in many ways, and the training goes on
                seconds = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
                self._reporter.message(
                    f"{error}; the run stands in {self._mirror.run}, the next try is in "
                    f"{seconds:.0f} s"
                )
                failures += 1
                due = time.monotonic() + seconds
            else:
                failures = 0
                sent = saved
                due = time.monotonic() + _UPLOAD_SECONDS

    def _send(self, is_last: bool = False) -> None:
        # First, because a claim that was lost to another machine raises: nothing is overwritten.
        self._lock.renew(now=is_last)
        missed = self._mirror.push()
        if missed and not self._has_warned_of_missed:
            self._has_warned_of_missed = True
            self._reporter.message(
                "checkpoints are removed before they have arrived at the run's URL: a larger "
                "--save-every or --keep-checkpoints gives them time"
            )

    def _list_saved(self) -> tuple[list[int], list[int]]:
        """Return the steps of all checkpoints and best voices that are here."""
        run = self._mirror.run
        return checkpoint.list_steps(run / "checkpoints"), checkpoint.list_steps(run / "best")
