"""How long a run will take on this runtime, by the table of compiled plans or a short
measurement."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import rvc_jax
from rvc_jax.config import PRESETS

MEASURED_STEPS = {"cpu": 4, "gpu": 96, "tpu": 96}
"""Steps of a measurement. The first dispatch compiles, and is not counted."""


def count_steps(windows: int, epochs: int, preset: str, devices: int) -> int:
    """Return the steps of a run with the preset's own batch."""
    return math.ceil(windows / (PRESETS[preset].train.batch_per_chip * devices)) * epochs


def find_plan(chip: str, devices: int, preset: str) -> dict[str, Any] | None:
    """Return the TPU compiler's plan for a chip and a preset; None if the table has none."""
    batch = PRESETS[preset].train.batch_per_chip
    shapes = {1: "1x1", 4: "2x2", 8: "2x4"}
    return _table().get(f"{chip}:{shapes.get(devices)} {preset} {batch}")


def _table() -> dict[str, Any]:
    package = Path(rvc_jax.__file__).parent
    for file in (
        package / "plan" / "plan.json",
        package.parent / "docs" / "plan.json",
    ):  # a wheel, a checkout
        with contextlib.suppress(FileNotFoundError):
            return json.loads(file.read_text())
    return {}
