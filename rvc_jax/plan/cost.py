"""From the time of a step to the time and the cost of a run."""

from __future__ import annotations

import dataclasses
import math

from rvc_jax.config import RATES, PrepareConfig, Rate
from rvc_jax.data.holdout import target_holdout_seconds
from rvc_jax.plan.chips import Topology


@dataclasses.dataclass(frozen=True)
class RunCost:
    """Time and cost of a whole run, compilation included."""

    steps_per_epoch: int
    steps: int
    hours: float
    units: float
    """Colab compute units."""
    dollars: float
    """Price of cloud machines."""


def count_windows(minutes: float) -> int:
    """Estimate the training windows that speech gives when it is prepared with default options.

    Args:
      minutes: length of the speech.
    """
    defaults = PrepareConfig()
    seconds = 60 * minutes
    held_out = target_holdout_seconds(seconds, defaults)
    step = defaults.chunk_len - defaults.overlap_len
    return max(math.ceil((seconds - held_out) / step), 1)


def estimate_run_cost(
    step_seconds: float,
    compile_seconds: float,
    windows: int,
    epochs: int,
    batch: int,
    topology: Topology,
    rate: Rate,
) -> RunCost:
    """Return the time and the cost of a run.

    Args:
      step_seconds, compile_seconds: as in `StepPlan`.
      windows: training windows.
      epochs: passes over them.
      batch: windows per step, of all chips together.
      topology: the slice.
      rate: price of one chip."""
    steps_per_epoch = math.ceil(windows / batch)
    steps = steps_per_epoch * epochs
    hours = (steps * step_seconds + compile_seconds) / 3600
    chip_hours = hours * topology.chips
    return RunCost(
        steps_per_epoch,
        steps,
        hours,
        chip_hours * rate.units_per_hour,
        chip_hours * rate.dollars_per_hour,
    )


def resolve_rate(
    topology: Topology, units_per_hour: float | None, dollars_per_hour: float | None
) -> Rate:
    """Return the rate of one chip: the table's, except for what the user has stated."""
    known = RATES[topology.chip.name]
    return Rate(
        known.units_per_hour if units_per_hour is None else units_per_hour,
        known.dollars_per_hour if dollars_per_hour is None else dollars_per_hour,
    )
