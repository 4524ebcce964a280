"""The training step: what is drawn, how it spreads over devices, that it learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from rvc_jax.config import TrainConfig
from rvc_jax.train.state import learning_rate
from rvc_jax.train.step import _segment_starts

HERE = Path(__file__).parent


def steps_on(devices: int) -> list[dict[str, float]]:
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    folders = (str(HERE.parent), str(HERE.parent / "benchmarks"), os.environ.get("PYTHONPATH", ""))
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(filter(None, folders))}
    command = [sys.executable, str(HERE / "mesh_losses.py")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_eight_devices_give_the_losses_of_one() -> None:
    one, eight = steps_on(1), steps_on(8)
    assert [line["devices"] for line in eight] == [8, 8, 8]
    for alone, spread in zip(one, eight, strict=True):
        for name in alone:
            if name.startswith("loss/"):
                assert spread[name] == pytest.approx(alone[name], rel=1e-4), name
    assert one[2]["loss/mel"] < one[0]["loss/mel"]


def test_segments_start_anywhere_in_a_window_and_nowhere_else() -> None:
    lengths = np.array([32, 33, 40, 336, 20], np.int32)
    draw = jax.vmap(lambda key: _segment_starts(key, lengths, 32))
    starts = np.asarray(draw(jax.random.split(jax.random.key(0), 20_000)))
    assert starts.min(axis=0).tolist() == [0, 0, 0, 0, 0]
    assert starts.max(axis=0).tolist() == [0, 1, 8, 304, 0]
    counts = np.bincount(starts[:, 2], minlength=9)
    assert np.all(np.abs(counts / 20_000 - 1 / 9) < 0.01)


def test_learning_rate_decays_once_per_epoch() -> None:
    schedule = learning_rate(TrainConfig(), steps_per_epoch=10)
    assert schedule(9) == 1e-4
    assert schedule(10) == pytest.approx(0.999875e-4)
    assert schedule(10 * 200) == pytest.approx(9.753e-5, rel=1e-4)  # rvc.md 2.2
