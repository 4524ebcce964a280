"""Checkpoints of a run that trains: written by a thread, retried while the disk is full, limited in
number."""

from __future__ import annotations

import contextlib
import errno
import itertools
import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rvc_jax.errors import UserError
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.runs import checkpoint
from rvc_jax.storage.files import disk_full
from rvc_jax.storage.retry import RETRY_SECONDS
from rvc_jax.train.disk_quota import DiskQuota
from rvc_jax.train.distributed import is_first

_FINAL_RETRY_SECONDS = 2.0
"""Seconds between tries while the run is ending: Ctrl-C must not take minutes."""
_QUEUE_SECONDS = 1.0
"""Seconds that the training waits for the checkpoint before the last to be begun."""


class CheckpointManager:
    """A folder of numbered checkpoints, of which the newest few are kept.

    At most one checkpoint is being written and one waits. The training thread calls `save`, `check`
    and `finish`; a thread of the manager writes.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        keep_every: int = 0,
        reporter: Reporter = SILENT,
        quota: DiskQuota | None = None,
    ):
        """Make the folder, and remove what a killed run left half written.

        Args:
            folder: Where the checkpoints are.
            keep: How many of the newest are kept.
            keep_every: Checkpoints at multiples of this step are permanent; 0: none are.
            reporter: Receives a message when the disk is full, or too slow.
            quota: Limit of the run folder's size.
        """
        self.folder = folder
        self._keep = keep
        self._keep_every = keep_every
        self._reporter = reporter
        self._quota = quota
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.clear_unfinished(folder)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._saving: Future[None] | None = None
        # Both threads access these two; `_lock` guards them.
        self._lock = threading.Lock()
        self._newest: tuple[int, dict[str, Any]] | None = None
        """The newest state that is not on disk yet: it is being written, or waits for its turn."""
        self._writing = -1
        """Step that is being written; -1 if none is."""
        self._is_waiting_for_space = False
        self._hurry = threading.Event()
        """Set while the run is ending: tries follow each other quickly."""
        self._has_warned_of_slow_disk = False

    def save(self, step: int, state: Any, replace: bool = False) -> None:
        """Start saving; the state's arrays may be donated as soon as this returns.

        The training does not wait for a slow disk: if the checkpoint before is still waiting after
        a second, this one takes its place, unless that one is permanent. Saving a step again does
        nothing. Every process has the whole state; the first one saves it.

        Args:
            step: Number of the checkpoint.
            state: Arrays in a dataclass or dictionary.
            replace: Save a step again, too.

        Raises:
            UserError: As `check`.
        """
        if not is_first():
            return
        self.check()
        with self._lock:
            is_pending = self._newest is not None and self._newest[0] == step
        if is_pending or (not replace and step in checkpoint.list_steps(self.folder)):
            return
        self._wait_for_place()
        newest = (step, _copy_to_host(state))
        with self._lock:
            replaced = self._waiting_step()
            is_idle = self._newest is None
            self._newest = newest
        if is_idle:
            self._saving = self._pool.submit(self._save_until_done)
        elif replaced and not self._is_waiting_for_space and not self._has_warned_of_slow_disk:
            self._has_warned_of_slow_disk = True
            self._say(
                step,
                f"{self.folder} takes longer for a checkpoint than there is between two: "
                f"that of step {replaced} is left out, and later ones may be",
            )

    def _wait_for_place(self) -> None:
        """Wait a moment for the waiting checkpoint to be begun; as long as it takes if
        permanent."""
        end = time.monotonic() + _QUEUE_SECONDS
        # A full disk is not waited for: the state in line is replaced by the newer one.
        while (waiting := self._waiting_step()) and not self._is_waiting_for_space:
            if time.monotonic() >= end and not self._is_permanent(waiting):
                return
            assert self._saving is not None  # something waits for what is being saved
            wait([self._saving], timeout=0.02)
            self.check()

    def check(self) -> None:
        """Raise UserError if saving was given up: the disk is full, or the quota too small."""
        if self._saving is not None and self._saving.done():
            self._saving.result()

    def finish(self) -> None:
        """Wait until everything is on disk. Raises UserError if it does not fit."""
        self._hurry.set()
        try:
            if self._saving is not None:
                self._saving.result()
        finally:
            self._hurry.clear()

    def restore(
        self, template: Any, field_defaults: checkpoint.FieldDefaults | None = None
    ) -> tuple[Any, list[str]] | None:
        """Load the newest intact checkpoint.

        Damaged checkpoints that are newer than an intact one are removed: the run saves their steps
        again.

        Args:
            template: Arrays or shapes of the state to load.
            field_defaults: See `checkpoint.read`.

        Returns:
            The state and a sentence about each damaged checkpoint; None if there is no checkpoint.

        Raises:
            UserError: Every checkpoint is damaged, or the newest intact one is of another network.
        """
        damages: dict[int, str] = {}
        for step in reversed(checkpoint.list_steps(self.folder)):
            damage = checkpoint.verify(self.folder / str(step))
            if damage is None:
                state = checkpoint.load(self.folder / str(step), template, field_defaults)
                # Only after loading: if that fails, everything is as it was.
                for damaged in damages:
                    shutil.rmtree(self.folder / str(damaged))
                return state, list(damages.values())
            damages[step] = damage
        if damages:
            newest_damage = next(iter(damages.values()))
            raise UserError(
                f"{newest_damage}; no intact checkpoint is left: train again into another run "
                "folder"
            )
        return None

    def close(self) -> None:
        """End the thread once it has written what it holds."""
        self._hurry.set()
        self._pool.shutdown(wait=True)

    def _save_until_done(self) -> None:
        """Write the newest state, again and again until there is no newer one."""
        while True:
            step = self._save_newest()
            with self._lock:
                if self._newest is not None and self._newest[0] == step:
                    self._newest = None
                    self._writing = -1
                    return

    def _save_newest(self) -> int:
        """Write the newest state, with tries while the disk is full; returns its step."""
        for attempt in itertools.count():
            # Taken anew for every try: a newer state may have come while the disk was full.
            with self._lock:
                assert self._newest is not None  # this thread alone clears it
                step, state = self._newest
                self._writing = step
            try:
                self._write(step, state)
            except Exception as error:
                if disk_full(error) is None or isinstance(error, UserError):
                    raise
                if attempt == len(RETRY_SECONDS):
                    raise UserError(
                        f"disk full: the checkpoint of step {step} does not fit in {self.folder}, "
                        f"after {len(RETRY_SECONDS)} more tries; the previous one stands. "
                        "Free some space and run the same command again"
                    ) from error
                self._wait_for_space(step, RETRY_SECONDS[attempt])
            else:
                # Only after the new one is whole: until then the old ones are all there is.
                self._remove_old(step)
                return step
        raise AssertionError("unreachable")

    def _write(self, step: int, state: dict[str, Any]) -> None:
        arrays = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        room = self._quota.reserve(step, arrays) if self._quota else contextlib.nullcontext()
        with room:
            _check_free_space(self.folder, arrays)
            checkpoint.write(self.folder, step, state)

    def _wait_for_space(self, step: int, seconds: float) -> None:
        if self._hurry.is_set():
            seconds = _FINAL_RETRY_SECONDS
        self._say(
            step,
            f"disk full: the checkpoint of step {step} does not fit in {self.folder}; the previous "
            f"one stands. The next try is in {seconds:.0f} s",
        )
        self._is_waiting_for_space = True
        if self._hurry.is_set():
            time.sleep(seconds)
        else:
            self._hurry.wait(seconds)  # the end of the run cuts a long wait short
        self._is_waiting_for_space = False

    def _waiting_step(self) -> int:
        """Return the step that waits until another one is written; 0 if none does."""
        newest = self._newest
        return newest[0] if newest is not None and newest[0] != self._writing else 0

    def _is_permanent(self, step: int) -> bool:
        return bool(self._keep_every) and step > 0 and step % self._keep_every == 0

    def _remove_old(self, saved: int) -> None:
        """Remove all checkpoints but the newest few and the permanent ones.

        Those newer than the one just saved are from before a rollback.
        """
        steps = checkpoint.list_steps(self.folder)
        newest = [step for step in steps if step <= saved][-self._keep :]
        for step in steps:
            is_undone = step > saved
            if step not in newest and (is_undone or not self._is_permanent(step)):
                shutil.rmtree(self.folder / str(step), ignore_errors=True)

    def _say(self, step: int, text: str) -> None:
        self._reporter.message(f"step {step}: {text}")


def _check_free_space(folder: Path, needed: int) -> None:
    """Raise OSError before a write that would not fit.

    A disk that is filled to its last byte stops other programs, too.
    """
    usage = shutil.disk_usage(folder)
    # Some mounted object stores report a size of 0.
    if usage.total and usage.free < 1.2 * needed:
        raise OSError(errno.ENOSPC, "No space left on device")


def _copy_to_host(state: Any) -> dict[str, Any]:
    """Copy the state's fields to NumPy arrays: those of the device will be donated."""
    # All transfers are started before the first is waited for.
    for leaf in jax.tree.leaves(state):
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()
    fields = {
        name: value for name, value in checkpoint.fields(state).items() if value is not None
    }
    return jax.tree.map(np.array, fields)
