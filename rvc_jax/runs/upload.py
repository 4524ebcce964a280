"""A run at a URL while it trains: brought here at the start, and sent there by a thread whenever
something is saved."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rvc_jax.errors import UserError
from rvc_jax.runs import checkpoint
from rvc_jax.runs.lock import RunLock
from rvc_jax.runs.mirror import Mirror, working_folder
from rvc_jax.storage.places import Location, is_remote

_POLL_SECONDS = 1.0
"""Seconds between looks for a new checkpoint, which is sent at once."""
_UPLOAD_SECONDS = 60.0
"""Seconds after which history, curves and a sign of life are sent without one."""
_WAITS = (10.0, 30.0, 60.0, 120.0, 240.0)
"""Seconds before the tries that follow a failed one; the last ones over and over."""
_FINAL_RETRY_SECONDS = (2.0, 10.0, 30.0)
"""The same at the end of the run."""

Say = Callable[[str], None]


@contextlib.contextmanager
def sync_run(run: Location, say: Say) -> Iterator[Path]:
    """The local folder of a run, for as long as it trains; one at a URL is there when the context
    ends.

    say: is told of what goes wrong meanwhile.

    Raises:
      UserError: if the URL cannot be reached, is somebody else's or is being trained already; at
        the end, if not everything could be sent.
    """
    if not is_remote(run):
        yield Path(run)
        return
    folder = working_folder(str(run))
    mirror = Mirror(str(run), folder)
    ownership = RunLock(str(run).rstrip("/"), folder)
    _begin(mirror, ownership, say)
    uploads = Uploader(mirror, ownership, say)
    ended = False
    try:
        yield mirror.run
        ended = True
    finally:
        uploads.finish(_FINAL_RETRY_SECONDS if ended else ())


def _begin(mirror: Mirror, ownership: RunLock, say: Say) -> None:
    """Makes the working folder the run's newest state: it is that already if it was the last to
    train."""
    was_last = ownership.check()
    foreign = mirror.look() - {"owner.json"}
    if foreign and mirror.is_empty:
        raise UserError(
            f"{mirror.url} is not empty and holds no run of rvc-jax: name another place with --run"
        )
    newest = checkpoint.find_newest(mirror.run / "checkpoints")
    if (
        was_last
        and (mirror.run / "config.json").exists()
        and _newest_step(mirror.run) >= mirror.newest_remote_step()
    ):
        if newest is not None and checkpoint.verify(newest) is not None:
            mirror.pull_newest("checkpoints")
    else:
        _move_aside(mirror, say)
        mirror.bring()
    ownership.claim()


def _move_aside(mirror: Mirror, say: Say) -> None:
    """What was trained here and never arrived at the URL, while another machine went on there, is
    not thrown away."""
    newest = _newest_step(mirror.run)
    if newest > mirror.newest_remote_step():
        aside = mirror.run.with_name("run-before")
        shutil.rmtree(aside, ignore_errors=True)
        mirror.run.rename(aside)
        say(
            f"the run goes on from what is at {mirror.url}; this machine's own, up to step {newest}, is in {aside}"
        )


def _newest_step(run: Path) -> int:
    return max(checkpoint.list_steps(run / "checkpoints"), default=-1)


class Uploader:
    """Sends a working folder to its URL again and again, in a thread."""

    def __init__(self, mirror: Mirror, ownership: RunLock, say: Say):
        self._mirror = mirror
        self._ownership = ownership
        self._say = say
        self._over = threading.Event()
        self._told_missed = False
        self._thread = threading.Thread(target=self._work, name="upload", daemon=True)
        self._thread.start()

    def finish(self, waits: tuple[float, ...]) -> None:
        """Sends the rest. waits: seconds before more tries; none makes one try, and tells of its
        failure in words.

        Raises UserError if not everything could be sent.
        """
        self._over.set()
        self._thread.join()
        for wait in (*waits, None):
            try:
                self._send(is_last=True)
                self._ownership.release(keep=not self._mirror.is_empty)
                return
            except Exception as error:
                failure = f"{error}; not everything is at {self._mirror.url}. All of it is in {self._mirror.run}"
                if wait is None and waits:
                    raise UserError(
                        f"{failure}, and the same command on this machine sends it"
                    ) from error
                self._say(
                    failure if wait is None else f"{error}; the next try is in {wait:.0f} s"
                )
                time.sleep(wait or 0)

    def _work(self) -> None:
        failures = 0
        sent = None
        due = time.monotonic() + _UPLOAD_SECONDS
        while not self._over.wait(_POLL_SECONDS):
            saved = self._saved()
            now = time.monotonic()
            if now < due and (failures or saved == sent):
                continue
            try:
                self._send()
            except Exception as error:  # a network fails in many ways, and the training goes on
                wait = _WAITS[min(failures, len(_WAITS) - 1)]
                self._say(
                    f"{error}; the run stands in {self._mirror.run}, the next try is in {wait:.0f} s"
                )
                failures = failures + 1
                due = time.monotonic() + wait
            else:
                failures = 0
                sent = saved
                due = time.monotonic() + _UPLOAD_SECONDS

    def _send(self, is_last: bool = False) -> None:
        self._ownership.beat(now=is_last)
        missed = self._mirror.send()
        if missed and not self._told_missed:
            self._told_missed = True
            self._say(
                "checkpoints are removed before they have arrived at the run's URL: a larger --save-every or "
                "--keep-checkpoints gives them time"
            )

    def _saved(self) -> tuple[list[int], list[int]]:
        run = self._mirror.run
        return checkpoint.list_steps(run / "checkpoints"), checkpoint.list_steps(run / "best")
