"""When to stop: what the history of the hold-out says of the training, as pure functions of it.

A history is a run's `history.jsonl`, oldest line first. A line of an evaluation has `holdout/NAME`
for the raw weights and, where they are averaged as well, `holdout_ema/NAME`; `best/which` ("raw" or
"ema") if its voice was kept as the best so far.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rvc_jax.config import BestBy, TrainConfig
from rvc_jax.metrics.holdout import ranking_score

Line = Mapping[str, Any]
PREFIXES = {"raw": "holdout", "ema": "holdout_ema"}
SCORE_NAMES: dict[BestBy, str] = {
    "mel": "log-mel error",
    "stft": "STFT distance",
    "similarity": "distance to the speaker",
    "score": "score",
}

_MIN_RISING_EVALUATIONS = 4
"""Evaluations after the lowest one, at least, before anything is called overfitting."""
_MIN_RISE = 0.01
_CLEAR_RISE = 2.2
_CLEAR_FALL = 1.6
_MIN_POINTS = 6
_NEGLIGIBLE_GAIN = 0.01
_POWERS = (0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
_OFFSETS = (0.0, 0.05, 0.2, 0.6)
_DECAYS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.9, 1.4, 2.0)
_MODEL_UNCERTAINTY = 0.25
"""Share of the change from now on that no course is trusted with: none follows such a curve
exactly."""
_CONFIDENCE = 1.645
"""Standard deviations on both sides that hold 90 % of a normal distribution."""


class Point(NamedTuple):
    step: int
    value: float


class Forecast(NamedTuple):
    """An error at a step to come: the likeliest, and a range that should hold it nine times out of
    ten."""

    step: float
    value: float
    low: float
    high: float


def evaluation_metrics(line: Line, which: str = "raw") -> dict[str, float]:
    """The measures of an evaluation's raw or averaged weights, by name; nothing in other lines."""
    prefix = f"{PREFIXES[which]}/"
    return {
        name.removeprefix(prefix): value
        for name, value in line.items()
        if name.startswith(prefix)
    }


def evaluations(history: Sequence[Line]) -> list[Line]:
    return [line for line in history if "holdout/mel" in line]


def better_voice(line: Line, by: BestBy) -> tuple[str, float]:
    """Which of an evaluation's voices is the better one, and its score."""
    scores = {
        which: ranking_score(figures, by)
        for which in PREFIXES
        if (figures := evaluation_metrics(line, which))
    }
    which = min(scores, key=scores.__getitem__)
    return which, scores[which]


def best_evaluation(history: Sequence[Line]) -> Line | None:
    """The evaluation whose voice is kept as the best one; in histories that don't tell, that of the
    least mel error."""
    lines = evaluations(history)
    told = [line for line in lines if "best/which" in line]
    return told[-1] if told else min(lines, key=lambda line: line["holdout/mel"], default=None)


def best_mel(line: Line) -> float:
    """Log-mel error of the voice that was kept of such an evaluation."""
    return evaluation_metrics(line, line.get("best/which", "raw"))["mel"]


def holdout_curve(history: Sequence[Line], by: BestBy) -> list[Point]:
    """Score of the better voice of every evaluation that has one."""
    points = [Point(line["step"], better_voice(line, by)[1]) for line in evaluations(history)]
    return [point for point in points if math.isfinite(point.value)]


def training_curve(history: Sequence[Line]) -> list[Point]:
    return [Point(line["step"], line["loss/mel"]) for line in history if "loss/mel" in line]


def early_stop_reason(history: Sequence[Line], recipe: TrainConfig) -> str:
    """Why the run should end now, if its patience has run out; else empty."""
    lowest = Point(0, math.inf)
    waited = 0
    for point in holdout_curve(history, recipe.best_by):
        if point.value < lowest.value * (1 - recipe.least_improvement):
            lowest = point
            waited = 0
        else:
            waited += 1
    if not 0 < recipe.patience <= waited:
        return ""
    name = SCORE_NAMES[recipe.best_by]
    return f"stopped: {waited} evaluations have brought no better {name} than that of step {lowest.step}"


def overfitting_warning(history: Sequence[Line], by: BestBy) -> str:
    """A warning if the hold-out's score rises while the training error falls; else empty.

    Its lowest place is looked for in means of three; since then it must have risen clearly (Mann
    and Kendall's test of a trend), by more than its noise and by 1 %, while the training's log-mel
    error fell.
    """
    points = holdout_curve(history, by)[1:]  # the first is the untrained voice
    values = np.array([point.value for point in points])
    if len(values) < _MIN_RISING_EVALUATIONS + 2:
        return ""
    means = np.convolve(values, np.ones(3) / 3, "valid")
    lowest = int(means.argmin()) + 1
    rising = len(values) - 1 - lowest
    training = np.array(
        [value for step, value in training_curve(history) if step >= points[lowest].step]
    )
    if rising < _MIN_RISING_EVALUATIONS or len(training) < _MIN_RISING_EVALUATIONS:
        return ""
    rise = means[-1] - means[lowest - 1]
    if rise < max(
        _MIN_RISE * means[lowest - 1], 4 * _estimate_noise(values[-2 * (rising + 4) :])
    ):
        return ""
    if _mann_kendall(values[lowest:]) < _CLEAR_RISE or _mann_kendall(training) > -_CLEAR_FALL:
        return ""
    best = best_evaluation(history)
    return (
        f"the hold-out's {SCORE_NAMES[by]} has been rising for {rising} evaluations while the training error falls "
        f"(overfitting): the voice of step {best['step']} is kept; more epochs will not help, more speech would"
    )


def forecast(points: Sequence[Point], steps: Sequence[float]) -> list[Forecast] | None:
    """What a falling error will be at later steps; None if there are too few points, or they don't
    clearly fall.

    Saturating curves a + b * (step + o)^-c and a + b * exp(-step / t) are fitted over grids of c, o
    and t, and every one speaks with the likelihood that it gives to the points. The range has the
    points' scatter, the uncertainty of a and b, the disagreement of the curves, and a quarter of
    the change from now on.
    """
    points = [point for point in points if point.step > 0]
    points = [point for point in points if point.step >= points[-1].step / 8]
    if len(points) < _MIN_POINTS:
        return None
    at, values = (np.array(column, float) for column in zip(*points, strict=True))
    if _mann_kendall(values) > -_CLEAR_FALL:
        return None
    unit = at[-1]
    asked = np.array(steps, float) / unit
    fits = [
        fit for shape in _shapes() if (fit := _fit(shape, at / unit, values, asked)) is not None
    ]
    if not fits:
        return None
    squares = np.array([fit.squares for fit in fits])
    variance = max(squares.min() / (len(values) - 3), (1e-4 * values.mean()) ** 2)
    best = fits[int(squares.argmin())]
    if best.fall < 2 * math.sqrt(variance):
        return None
    weights = np.exp(-(squares - squares.min()) / (2 * variance))
    weights /= weights.sum()
    means = np.array([fit.values for fit in fits])
    spreads = variance * (1 + np.array([fit.leverages for fit in fits]))
    value = weights @ means
    doubt = _MODEL_UNCERTAINTY * (value - weights @ np.array([fit.now for fit in fits]))
    deviation = np.sqrt(weights @ (spreads + np.square(means - value)) + np.square(doubt))
    return [
        Forecast(
            step, float(v), max(float(v - _CONFIDENCE * d), 0.0), float(v + _CONFIDENCE * d)
        )
        for step, v, d in zip(steps, value, deviation, strict=True)
    ]


def describe_forecast(history: Sequence[Line], recipe: TrainConfig) -> str:
    """What the rest of the run and twice its epochs would probably bring, in words; empty if it
    can't be told."""
    points = holdout_curve(history, recipe.best_by)
    total = total_steps(history, recipe)
    if not points or total is None:
        return ""
    now = points[-1].step
    end = max(total, points[-1].step)
    projected = forecast(points, (now, end, 2 * end))
    if projected is None:
        return ""
    here, at_end, twice = projected
    name = SCORE_NAMES[recipe.best_by]
    epochs = recipe.epochs
    parts = [f"the hold-out's {name} is now about {here.value:.3g}"]
    if now < end:
        parts.append(
            f"at the end of the run (epoch {epochs}) it will probably be {_format_range(at_end)}"
        )
    more = f"with twice the epochs ({2 * epochs}) {_format_range(twice)}"
    if here.value - twice.value < _NEGLIGIBLE_GAIN * here.value:
        more += ", which is next to no gain"
    return "; ".join([*parts, more])


def total_steps(history: Sequence[Line], recipe: TrainConfig) -> int | None:
    """Steps of the whole run; None while the history has no line that tells how many an epoch
    has."""
    told = [line for line in history if line.get("epoch", 0) > 0]
    return recipe.total_steps(round(told[-1]["step"] / told[-1]["epoch"])) if told else None


def summary(history: Sequence[Line], recipe: TrainConfig) -> list[str]:
    """Everything there is to say of a run's course, as sentences."""
    warning = overfitting_warning(history, recipe.best_by)
    said = (
        early_stop_reason(history, recipe),
        warning,
        "" if warning else describe_forecast(history, recipe),
    )
    return [sentence for sentence in said if sentence]


class _Fit(NamedTuple):
    squares: float
    fall: float
    """From the first point to the last."""
    now: float
    """At the last point."""
    values: np.ndarray
    """Where it was asked."""
    leverages: np.ndarray
    """Variance of these, in units of that of the points."""


def _shapes() -> list[Any]:
    """Functions of the step, in units of the last one, that fall to 0."""
    powers = [lambda x, c=c, o=o: (x + o) ** -c for c in _POWERS for o in _OFFSETS]
    return powers + [lambda x, t=t: np.exp(-x / t) for t in _DECAYS]


def _fit(shape: Any, at: np.ndarray, values: np.ndarray, asked: np.ndarray) -> _Fit | None:
    """The best a, b >= 0 of a + b * shape; None if it does not fall."""
    design = np.stack([np.ones_like(at), shape(at)], axis=1)
    coefficients = np.linalg.lstsq(design, values, rcond=None)[0]
    if coefficients[0] < 0:  # an error has no floor below 0
        coefficients = np.array([0.0, design[:, 1] @ values / (design[:, 1] @ design[:, 1])])
    if coefficients[1] <= 0:
        return None
    fitted = design @ coefficients
    wanted = np.stack([np.ones_like(asked), shape(asked)], axis=1)
    leverages = np.einsum("ij,jk,ik->i", wanted, np.linalg.pinv(design.T @ design), wanted)
    squares = float(np.sum((values - fitted) ** 2))
    now = float(fitted[-1])
    return _Fit(squares, float(fitted[0]) - now, now, wanted @ coefficients, leverages)


def _mann_kendall(values: np.ndarray) -> float:
    """Mann and Kendall's statistic: standard deviations from no trend; above 0 for rising
    values."""
    n = len(values)
    total = float(np.sum(np.sign(values[None] - values[:, None])[np.triu_indices(n, 1)]))
    return math.copysign(max(abs(total) - 1, 0), total) / math.sqrt(
        n * (n - 1) * (2 * n + 5) / 18
    )


def _estimate_noise(values: np.ndarray) -> float:
    """Standard deviation around a smooth course, from second differences."""
    return float(np.sqrt(np.mean(np.square(np.diff(values, 2))) / 6))


def _format_range(projected: Forecast) -> str:
    return f"{projected.value:.3g} ({projected.low:.3g} to {projected.high:.3g})"
