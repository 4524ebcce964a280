"""Metrics on their way from the device to the run's record, without anything waiting for them."""

from __future__ import annotations

import math

import jax

from rvc_jax.train.metric_writer import MetricWriter
from rvc_jax.train.step import Metrics


class DelayedMetrics:
    """Records metrics one dispatch after they were made: by then they are ready, and nothing waits
    for the device."""

    def __init__(self, recorder: MetricWriter, every: int, steps_per_epoch: int):
        self.losses: dict[str, float] = {}
        self.skipped = self.consecutive_skips = 0
        self.last_nonfinite = ""
        self._recorder = recorder
        self._every = every
        self._steps_per_epoch = steps_per_epoch
        self._pending: tuple[int, int, Metrics] | None = None

    def add(self, step: int, count: int, metrics: Metrics) -> None:
        """Takes the metrics of the last `count` steps up to `step`, and waits for those of the
        dispatch before."""
        self.flush()
        self._pending = (step, count, metrics)

    def flush(self) -> None:
        if self._pending is None:
            return
        (last, count, metrics) = self._pending
        self._pending = None
        metrics = jax.device_get(metrics)
        for i in range(count):
            self._record(
                last - count + 1 + i,
                {name: float(values[i]) for name, values in metrics.items()},
            )

    def forget(self) -> None:
        """What is not recorded yet belongs to steps that are taken back."""
        self._pending = None
        self.consecutive_skips = 0

    def _record(self, step: int, values: dict[str, float]) -> None:
        if values.pop("skipped"):
            self.skipped += 1
            self.consecutive_skips += 1
            self.last_nonfinite = ", ".join(
                name for name, value in values.items() if not math.isfinite(value)
            )
            return
        self.consecutive_skips = 0
        if step == 1 or step % self._every == 0:
            self.losses = values
            self._recorder.scalars(step, {"epoch": step / self._steps_per_epoch} | values)
