"""Early stopping, overfitting and projections on courses that are known."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from rvc_jax.config import TrainConfig
from rvc_jax.runs.history import best_evaluation
from rvc_jax.runs.learning_curve import (
    Point,
    describe_forecast,
    detect_overfitting,
    extract_holdout_curve,
    find_stop_reason,
    forecast,
    infer_total_steps,
    summary,
)

STEPS = 90
LOGS = 4
"""Between evaluations, and lines of losses meanwhile; an epoch has 9 steps."""


def history(holdout: np.ndarray, training: np.ndarray) -> list[dict[str, Any]]:
    """Lines of a run with these evaluations, the first of which is before the first step."""
    lines = []
    best = math.inf
    for i, value in enumerate(holdout):
        for j in range(LOGS if i else 0):
            step = round(STEPS * (i - 1 + (j + 1) / LOGS))
            lines.append(
                {"step": step, "epoch": step / 9, "loss/mel": 45 * training[(i - 1) * LOGS + j]}
            )
        lines.append({"step": STEPS * i, "holdout/mel": float(value)})
        if value < best:
            best = value
            lines[-1]["best/which"] = "raw"
    return lines


def until_every_evaluation(lines: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [lines[: i + 1] for i, line in enumerate(lines) if "holdout/mel" in line]


def course(kind: str, noise: float, seed: int, count: int = 60) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    x = np.arange(count)
    k = np.arange(count * LOGS)
    holdout = {
        "plateau": 0.8 + np.exp(-x / 4),
        "falling": 0.7 + (x + 1) ** -0.5,
        "overfitting": 0.8 + np.exp(-x / 4) + 0.01 * np.maximum(x - 20, 0),
    }[kind]
    training = 0.6 + 0.8 * np.exp(-k / 60) - 0.0005 * k + random.normal(0, 0.03, len(k))
    return history(holdout + random.normal(0, noise, count), training)


@pytest.mark.parametrize("noise", [0.003, 0.01, 0.03])
def test_rising_hold_outs_are_warned_of_in_time(noise: float) -> None:
    for seed in range(5):
        warned = [
            bool(detect_overfitting(lines, "mel"))
            for lines in until_every_evaluation(course("overfitting", noise, seed))
        ]
        assert not any(warned[:22]) and all(warned[-10:])
    text = detect_overfitting(course("overfitting", 0.003, 0), "mel")
    best = best_evaluation(course("overfitting", 0.003, 0))["step"]
    assert (
        re.search("rising for (39|40|41) evaluations", text)
        and f"the voice of step {best} is kept; more epochs will not help" in text
    )


@pytest.mark.parametrize("kind", ["plateau", "falling"])
def test_noise_is_not_called_overfitting(kind: str) -> None:
    """75 runs of 60 looks each that don't overfit: in two of them at most there is a false
    alarm."""
    alarms = 0
    for noise in (0.003, 0.01, 0.03):
        for seed in range(25):
            alarms += any(
                detect_overfitting(lines, "mel")
                for lines in until_every_evaluation(course(kind, noise, seed))
            )
    assert alarms <= 2


def test_a_rising_hold_out_beside_a_rising_training_error_is_not_overfitting() -> None:
    lines = course("overfitting", 0.003, 0)
    for line in lines:
        if "loss/mel" in line:
            line["loss/mel"] = 40 + 0.01 * line["step"]
    assert detect_overfitting(lines, "mel") == ""
    assert detect_overfitting([line for line in lines if "loss/mel" not in line], "mel") == ""


def test_patience_runs_out_after_so_many_evaluations_without_a_better_voice() -> None:
    values = np.array([2.0, 1.0, 0.9, 0.95, 0.8995, 0.91, 0.5])
    lines = until_every_evaluation(history(values, np.ones(99)))
    recipe = TrainConfig(patience=3, least_improvement=0.002)
    stopped = [find_stop_reason(line, recipe) for line in lines]
    assert stopped[:5] == [""] * 5 and stopped[6] == ""
    assert (
        stopped[5]
        == "stopped: 3 evaluations have brought no better log-mel error than that of step 180"
    )
    assert not any(
        find_stop_reason(line, TrainConfig(patience=3, least_improvement=0.0)) for line in lines
    )
    assert not any(find_stop_reason(line, TrainConfig(patience=0)) for line in lines)


CURVES = {
    "power": lambda s, a, b, c: a + b * (s / 90) ** -c,
    "exponential": lambda s, a, b, c: a + b * np.exp(-s / (900 * c)),
    "rational": lambda s, a, b, c: a + b / (1 + s / (900 * c)),
}


def test_projections_hold_in_nine_cases_out_of_ten() -> None:
    random = np.random.default_rng(1)
    inside = []
    misses = []
    for i in range(150):
        curve = list(CURVES.values())[i % 3]
        noise = (0.002, 0.01)[i % 2]
        a = random.uniform(0.3, 1)
        b = random.uniform(0.2, 1)
        c = random.uniform(0.3, 1.5)
        steps = STEPS * np.arange(1, random.integers(8, 40) + 1)
        values = curve(steps, a, b, c) + random.normal(0, noise, len(steps))
        points = [Point(0, 2.0), *map(Point, steps, values)]
        end = steps[-1]
        projected = forecast(points, (2 * end, 4 * end))
        assert projected is not None
        for one in projected:
            truth = curve(one.step, a, b, c) + random.normal(0, noise)
            inside.append(one.low <= truth <= one.high)
            misses.append(abs(one.value - truth) / truth)
            assert 0 <= one.low < one.value < one.high
    assert np.mean(inside) > 0.85 and np.median(misses) < 0.03


def test_nothing_is_projected_from_little_or_from_what_does_not_fall() -> None:
    random = np.random.default_rng(2)
    falling = [Point(90 * i, 0.8 + 1 / (i + 1)) for i in range(20)]
    assert forecast(falling[:5], [9000]) is None and forecast(falling, [9000]) is not None
    for _ in range(20):
        flat = [
            Point(90 * i, value) for i, value in enumerate(0.8 + random.normal(0, 0.02, 30))
        ]
        assert forecast(flat, [9000]) is None or forecast(flat, [9000])[0].low < 0.8
    assert forecast([Point(90 * i, 0.8 + 0.01 * i) for i in range(30)], [9000]) is None
    assert forecast([], [9000]) is None


def test_the_outlook_in_words() -> None:
    recipe = TrainConfig(epochs=1000)
    running = course("falling", 0.003, 0)
    assert infer_total_steps(running, recipe) == 9000
    assert summary(running, recipe) == [describe_forecast(running, recipe)]
    text = describe_forecast(running, recipe)
    assert (
        "now about 0.82" in text
        and "(epoch 1000)" in text
        and "twice the epochs (2000)" in text
    )
    assert "end of the run" not in describe_forecast(running, TrainConfig(epochs=590))
    assert "next to no gain" in describe_forecast(
        course("plateau", 0.0001, 0, 40), TrainConfig(epochs=400)
    )
    ill = course("overfitting", 0.003, 0)
    assert summary(ill, TrainConfig(patience=10)) == [
        find_stop_reason(ill, TrainConfig(patience=10)),
        detect_overfitting(ill, "mel"),
    ]
    assert summary([], recipe) == [] and summary(running[:3], recipe) == []


def test_only_evaluations_with_a_score_are_on_the_curve() -> None:
    assert extract_holdout_curve(
        [{"step": 9, "holdout/mel": 0.9}, {"step": 18, "loss/mel": 3.0}], "mel"
    ) == [Point(9, 0.9)]
    line = {"step": 9, "holdout/mel": 0.9, "holdout_ema/mel": 0.8}
    assert extract_holdout_curve([line], "mel") == [Point(9, 0.8)]
    assert extract_holdout_curve([line], "similarity") == []
