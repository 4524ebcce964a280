"""A run's signs of life: `heartbeat.json`, from which others see where it is, and whether it still
goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import platform
import threading
import time
from pathlib import Path
from typing import Any

from rvc_jax.runs import checkpoint
from rvc_jax.runs.progress import Report, TrainProgress, TrainResult
from rvc_jax.storage.files import write_json

FILE = "heartbeat.json"
INTERVAL = 5.0
"""Seconds between two beats."""


@dataclasses.dataclass(frozen=True)
class HeartbeatRecord:
    """What a run tells of itself. Times are seconds since 1970; what is not known yet is None."""

    state: str
    """starting (until the first step is done), training, finished, interrupted, or failed."""
    why: str
    """Of an end before the last step, in words."""
    alive: float
    """When its process last gave a sign of life."""
    moved: float
    """When it last came a step further."""
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
    """The newest one, with the step it was told at."""
    saved_step: int | None = None
    """Of the newest checkpoint."""
    saved: float | None = None


def read(run: Path) -> HeartbeatRecord | None:
    """The last beat of a run; None if it never had one, or the file is damaged."""
    try:
        values = json.loads((run / FILE).read_text())
        names = {field.name for field in dataclasses.fields(HeartbeatRecord)}
        return HeartbeatRecord(
            **{name: value for name, value in values.items() if name in names}
        )
    except (OSError, ValueError, TypeError, AttributeError):
        return None


class HeartbeatWriter:
    """Beats in a thread for as long as its context lasts, whatever the training does meanwhile."""

    def __init__(self, run: Path, report: Report):
        """report: is passed all that the run tells."""
        self._run = run
        self._report = report
        now = time.time()
        self._beat = HeartbeatRecord("starting", "", now, now, platform.node(), os.getpid())
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
        self._write()

    def listen(self, progress: TrainProgress) -> None:
        """The listener of a run."""
        if progress.message is not None:
            self._change(message=f"step {progress.step}: {progress.message}")
        else:
            self._moved(progress)
        self._report(progress)

    def ended(self, result: TrainResult) -> None:
        """The run came to an end of its own, or was asked to."""
        why = "the budget is used up" if result.used_up else result.stopped
        state = "finished" if result.has_ended else "interrupted"
        self._change(
            state=state,
            why=why,
            step=result.steps,
            seconds_left=0.0 if state == "finished" else None,
        )

    def _moved(self, progress: TrainProgress) -> None:
        speed = 1 / progress.step_seconds if progress.step_seconds > 0 else None
        left = progress.seconds_left if math.isfinite(progress.seconds_left) else None
        self._change(
            state="training",
            moved=time.time(),
            step=progress.step,
            total_steps=progress.total_steps,
            epoch=progress.epoch,
            epochs=progress.epochs,
            steps_per_second=speed,
            seconds_left=left,
            losses=dict(progress.losses),
            holdout=progress.holdout,
            budget=progress.budget,
        )

    def _change(self, **values: Any) -> None:
        self._beat = dataclasses.replace(self._beat, **values)

    def _work(self) -> None:
        while not self._over.wait(INTERVAL):
            self._write()

    def _write(self) -> None:
        """A full disk is passed over: the next beat may find room."""
        with contextlib.suppress(OSError):
            newest = checkpoint.find_newest(self._run / "checkpoints")
            saved = (
                {"saved_step": int(newest.name), "saved": newest.stat().st_mtime}
                if newest
                else {}
            )
            write_json(
                self._run / FILE,
                dataclasses.asdict(dataclasses.replace(self._beat, alive=time.time(), **saved)),
            )
