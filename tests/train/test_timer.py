"""Seconds per step."""

from __future__ import annotations

import math

import pytest

from rvc_jax.train import timer
from rvc_jax.train.timer import StepTimer


def test_the_first_dispatch_and_pauses_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(timer.time, "perf_counter", lambda: now)
    steps = StepTimer()
    assert math.isnan(steps.step_seconds) and steps.step_seconds_or_zero == 0
    now = 90.0
    steps.tick(4)  # compiled before it ran
    assert math.isnan(steps.step_seconds)
    now = 92.0
    steps.tick(4)
    with steps.paused():
        now = 152.0
    assert steps.last_pause == 60
    now = 155.0
    steps.tick(6)
    assert steps.step_seconds == steps.step_seconds_or_zero == pytest.approx(0.5)
