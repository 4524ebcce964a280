"""Saving while the training goes on: in a thread, again and again while the disk is full, and only
so many kept."""

from __future__ import annotations

import contextlib
import errno
import itertools
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rvc_jax.errors import UserError
from rvc_jax.runs import checkpoint
from rvc_jax.train.disk_quota import DiskQuota
from rvc_jax.train.distributed import is_first

_WAITS = (10.0, 30.0, 60.0, 120.0, 240.0)
"""Seconds before the tries that follow a full disk."""
_FINAL_RETRY_SECONDS = 2.0
"""The same when the run is to end: who asked it to may not wait long."""
_QUEUE_SECONDS = 1.0
"""Seconds that the training waits for a place in the line."""

Say = Callable[[int, str], None]


def _silent(step: int, text: str) -> None:
    pass


class CheckpointManager:
    """A folder of numbered checkpoints, the newest few of which are kept."""

    def __init__(
        self,
        folder: Path,
        keep: int,
        keep_every: int = 0,
        say: Say = _silent,
        space: DiskQuota | None = None,
    ):
        """keep_every: steps whose multiples are kept for good; 0 is none. say: is told (step,
        sentence) of trouble.

        space: the room that there is for the run.
        """
        self.folder = folder
        self._keep = keep
        self._keep_every = keep_every
        self._say = say
        self._space = space
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.clear_unfinished(folder)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._saving: Future[None] | None = None
        self._wanted: tuple[int, dict[str, Any]] | None = None
        """The newest state that is not on disk yet; it is being written, or waits until another one
        is."""
        self._begun = -1
        self._lock = threading.Lock()
        self._waits = False
        self._hurry = threading.Event()
        self._told = False

    def save(self, step: int, state: Any) -> None:
        """Starts saving; the arrays may be donated as soon as this returns. Saving a step again
        does nothing.

        Every process has the whole state; the first one saves it. The training does not wait for a
        slow disk: what has not been begun a second after the next one comes gives it its place,
        unless it is to be kept for good. Raises UserError as `check` does.
        """
        if not is_first():
            return
        self.check()
        if step in checkpoint.list_steps(self.folder) or (
            self._wanted is not None and self._wanted[0] == step
        ):
            return
        end = time.monotonic() + _QUEUE_SECONDS
        while (
            self._in_line()
            and not self._waits
            and (time.monotonic() < end or self._is_permanent(self._in_line()))
        ):
            wait([self._saving], timeout=0.02)
            self.check()
        newest = (step, _copy_to_host(state))
        with self._lock:
            left_out = self._in_line()
            is_idle = self._wanted is None
            self._wanted = newest
        if is_idle:
            self._saving = self._pool.submit(self._save_wanted)
        elif left_out and not (self._waits or self._told):
            self._told = True
            text = f"{self.folder} takes longer for a checkpoint than there is between two"
            self._say(
                step, f"{text}: that of step {left_out} is left out, and later ones may be"
            )

    def check(self) -> None:
        """Raises UserError if saving was given up."""
        if self._saving is not None and self._saving.done():
            self._saving.result()

    def finish(self) -> None:
        """Waits until everything is on disk. Raises UserError if it does not fit."""
        self._hurry.set()
        try:
            if self._saving is not None:
                self._saving.result()
        finally:
            self._hurry.clear()

    def restore(
        self, template: Any, field_defaults: checkpoint.FieldDefaults | None = None
    ) -> tuple[Any, list[str]] | None:
        """The newest intact checkpoint in the form of `template`, and a sentence for each damaged
        one passed over.

        Damaged ones that an intact one stands in for are removed: their steps will be saved again.
        None if there is no checkpoint at all. field_defaults: see `checkpoint.read`.

        Raises:
          UserError: if there are checkpoints and every one is damaged, or the newest intact one is
              of another form.
        """
        damages: dict[int, str] = {}
        for step in reversed(checkpoint.list_steps(self.folder)):
            damage = checkpoint.verify(self.folder / str(step))
            if damage is None:
                state = checkpoint.load(self.folder / str(step), template, field_defaults)
                for damaged in damages:
                    shutil.rmtree(self.folder / str(damaged))
                return state, list(damages.values())
            damages[step] = damage
        if damages:
            newest_damage = next(iter(damages.values()))
            raise UserError(
                f"{newest_damage}; no intact checkpoint is left: train again into another run folder"
            )
        return None

    def close(self) -> None:
        """Ends the thread, once it has written what it was given."""
        self._hurry.set()
        self._pool.shutdown(wait=True)

    def _save_wanted(self) -> None:
        while True:
            step = self._save_newest()
            with self._lock:
                if self._wanted[0] == step:
                    self._wanted = None
                    self._begun = -1
                    return

    def _save_newest(self) -> int:
        """The step that is on disk now."""
        for attempt in itertools.count():
            with self._lock:
                step, state = self._wanted
                self._begun = step
            try:
                arrays = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
                with (
                    self._space.reserve(step, arrays)
                    if self._space
                    else contextlib.nullcontext()
                ):
                    self._check_space(arrays)
                    checkpoint.write(self.folder, step, state)
            except Exception as error:
                if not _is_disk_full(error):
                    raise
                if attempt == len(_WAITS):
                    raise UserError(
                        f"disk full: the checkpoint of step {step} does not fit in {self.folder}, after "
                        f"{len(_WAITS)} more tries; the previous one stands. "
                        "Free some space and run the same command again"
                    ) from error
                self._wait(step, attempt)
            else:
                self._remove_old(step)
                return step

    def _in_line(self) -> int:
        """The step of what waits until another one is written; 0 if nothing does."""
        wanted = self._wanted
        return wanted[0] if wanted is not None and wanted[0] != self._begun else 0

    def _is_permanent(self, step: int) -> bool:
        return bool(self._keep_every) and step > 0 and step % self._keep_every == 0

    def _wait(self, step: int, attempt: int) -> None:
        seconds = _FINAL_RETRY_SECONDS if self._hurry.is_set() else _WAITS[attempt]
        text = f"disk full: the checkpoint of step {step} does not fit in {self.folder}; the previous one stands"
        self._say(step, f"{text}. The next try is in {seconds:.0f} s")
        self._waits = True
        if self._hurry.is_set():
            threading.Event().wait(seconds)
        else:
            self._hurry.wait(seconds)
        self._waits = False

    def _check_space(self, needed: int) -> None:
        """A disk that is filled to its last byte stops others, too: what won't fit is not begun."""
        usage = shutil.disk_usage(self.folder)
        if (
            usage.total and usage.free < 1.2 * needed
        ):  # some mounted clouds tell of no size at all
            raise OSError(errno.ENOSPC, "No space left on device")

    def _remove_old(self, saved: int) -> None:
        """What is newer than the one just saved is of a time that was taken back."""
        steps = checkpoint.list_steps(self.folder)
        kept = [step for step in steps if step <= saved][-self._keep :]
        for step in steps:
            if step not in kept and (step > saved or not self._is_permanent(step)):
                shutil.rmtree(self.folder / str(step), ignore_errors=True)


def _copy_to_host(state: Any) -> dict[str, Any]:
    """A copy of the state's fields as NumPy arrays, whatever becomes of the device's."""
    for leaf in jax.tree.leaves(state):
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()
    there = {
        name: value for name, value in checkpoint.fields(state).items() if value is not None
    }
    return jax.tree.map(np.array, there)


def _is_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if getattr(error, "errno", None) in (
            errno.ENOSPC,
            errno.EDQUOT,
        ) or "No space left" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
