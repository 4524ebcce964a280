"""A run's signs of life: `heartbeat.json` says where it is, and whether its process still works."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import platform
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rvc_jax.errors import UserError
from rvc_jax.reporter import Reporter
from rvc_jax.runs import checkpoint
from rvc_jax.runs.progress import STAGE, TrainProgress, TrainResult
from rvc_jax.storage.files import write_json
from rvc_jax.storage.json_files import read_json

FILE = "heartbeat.json"
STATES = ("starting", "training", "finished", "interrupted", "failed")
_MAX_NUMBER = 1e15  # NaN is not below it

INTERVAL = 5.0
"""Seconds between two heartbeats."""


@dataclasses.dataclass(frozen=True)
class HeartbeatRecord:
    """What a run says about itself. Times are seconds since 1970; None is unknown."""

    state: str
    """starting (until the first step is done), training, finished, interrupted, or failed."""
    why: str
    """Why it ended before its last step; empty if it did not."""
    alive: float
    """When the process last wrote."""
    moved: float
    """When it last completed a step."""
    machine: str
    process: int
    step: int = 0
    total_steps: int = 0
    epoch: int = 0
    epochs: int = 0
    steps_per_second: float | None = None
    seconds_left: float | None = None
    losses: dict[str, float] = dataclasses.field(default_factory=dict)
    holdout: float | None = None
    budget: str = ""
    message: str = ""
    """The newest message."""
    saved_step: int | None = None
    """Step of the newest checkpoint."""
    saved: float | None = None
    """When it was saved."""
    idle: float | None = None
    """Seconds since the last completed step, by a clock that nobody sets."""


def read_heartbeat(run: Path) -> HeartbeatRecord | None:
    """Read the last heartbeat of a run; None if it has none, or the file is damaged."""
    try:
        record = read_json(run / FILE, HeartbeatRecord)
    except (FileNotFoundError, UserError):
        return None
    numbers = [*vars(record).values(), *record.losses.values()]
    numbers = [value for value in numbers if type(value) in (int, float)]
    is_sound = record.state in STATES and all(abs(value) < _MAX_NUMBER for value in numbers)
    return record if is_sound else None


class HeartbeatWriter:
    """Writes heartbeats from a thread while its context lasts, whatever the training does
    meanwhile.

    It is a `Reporter`: it notes what it receives, and passes it on.
    """

    def __init__(self, run: Path, reporter: Reporter):
        """Write nothing yet.

        Args:
            run: The run's folder.
            reporter: Receives everything that the run reports.
        """
        self._run = run
        self._reporter = reporter
        now = time.time()
        self._record = HeartbeatRecord("starting", "", now, now, platform.node(), os.getpid())
        self._moved = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="heartbeat", daemon=True)

    def __enter__(self) -> HeartbeatWriter:
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, *_: object
    ) -> None:
        self._over.set()
        self._thread.join()
        if error is not None:
            interrupted = isinstance(error, KeyboardInterrupt)
            self._change(
                state="interrupted" if interrupted else "failed",
                why=str(error) or type(error).__name__,
            )
        # Only after the thread has ended: this is the last word.
        self._write()

    def message(self, text: str) -> None:
        """Note a message, and pass it on."""
        self._change(message=text)
        self._reporter.message(text)

    def progress(
        self,
        stage: str,
        done: float,
        total: float | None,
        text: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Note how far the training is, and pass on all progress."""
        if stage == STAGE and facts is not None:
            self._note(TrainProgress(**facts))
        self._reporter.progress(stage, done, total, text, facts)

    def _note(self, progress: TrainProgress) -> None:
        is_timed = progress.step_seconds > 0  # false for NaN, too
        is_left_known = math.isfinite(progress.seconds_left)
        self._change(
            state="training",
            moved=self._note_step(),
            step=progress.step,
            total_steps=progress.total_steps,
            epoch=progress.epoch,
            epochs=progress.epochs,
            steps_per_second=1 / progress.step_seconds if is_timed else None,
            seconds_left=progress.seconds_left if is_left_known else None,
            losses=dict(progress.losses),
            holdout=progress.holdout,
            budget=progress.budget,
        )

    def _note_step(self) -> float:
        self._moved = time.monotonic()
        return time.time()

    def record_result(self, result: TrainResult) -> None:
        """Note how the run ended: by itself, or because it was asked to."""
        is_finished = result.has_ended
        self._change(
            state="finished" if is_finished else "interrupted",
            why="the budget is used up" if result.used_up else result.stopped,
            step=result.steps,
            seconds_left=0.0 if is_finished else None,
        )

    def _change(self, **values: Any) -> None:
        self._record = dataclasses.replace(self._record, **values)

    def _work(self) -> None:
        while not self._over.wait(INTERVAL):
            self._write()

    def _write(self) -> None:
        saved: dict[str, Any] = {}
        # A full disk is ignored: the next heartbeat may fit.
        with contextlib.suppress(OSError):
            newest = checkpoint.find_newest(self._run / "checkpoints")
            if newest is not None:
                saved = {"saved_step": int(newest.name), "saved": newest.stat().st_mtime}
            idle = time.monotonic() - self._moved
            record = dataclasses.replace(self._record, alive=time.time(), idle=idle, **saved)
            write_json(self._run / FILE, dataclasses.asdict(record))
