"""What the course of a run's hold-out says: when to stop, whether it overfits, what more would
bring.

Pure functions of a run's history (`runs.history`), oldest line first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rvc_jax.config import BestBy, TrainConfig
from rvc_jax.runs.history import (
    DATASET,
    Line,
    best_evaluation,
    choose_better_voice,
    infer_steps_per_epoch,
    select_evaluations,
)

SCORE_NAMES: dict[BestBy, str] = {
    "mel": "log-mel error",
    "stft": "STFT distance",
    "similarity": "distance to the speaker",
    "score": "score",
}

_MIN_RISING_EVALUATIONS = 4
"""Fewest evaluations after the lowest one before anything is called overfitting."""
_MIN_RISE = 0.01
"""Smallest rise that counts as overfitting, as a share of the lowest score."""
_CLEAR_RISE = 2.2
"""Mann-Kendall statistic above which values rise."""
_CLEAR_FALL = 1.6
"""Mann-Kendall statistic below whose negative values fall."""
_MIN_POINTS = 6
"""Fewest evaluations that a forecast is made from."""
_NEGLIGIBLE_GAIN = 0.01
"""Share of the present error below which a gain is called negligible."""
_POWERS = (0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Exponents c of the curves (step + o)^-c."""
_OFFSETS = (0.0, 0.05, 0.2, 0.6)
"""Offsets o of these curves, in units of the last step."""
_DECAYS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.9, 1.4, 2.0)
"""Time constants t of the curves exp(-step / t), in units of the last step."""
_MODEL_UNCERTAINTY = 0.25
"""Share of the forecast change by which the range is widened: no run follows such a curve
exactly."""
_CONFIDENCE = 1.645
"""Standard deviations on either side that hold 90 % of a normal distribution."""

_Shape = Callable[[np.ndarray], np.ndarray]


class Point(NamedTuple):
    """A value at a step."""

    step: int
    value: float


class Forecast(NamedTuple):
    """An error at a later step: the likeliest value, and a range that holds it nine times out of
    ten."""

    step: float
    value: float
    low: float
    high: float


def extract_holdout_curve(history: Sequence[Line], by: BestBy) -> list[Point]:
    """Return the better voice's score at every evaluation that has one; lower is better."""
    points = [
        Point(line["step"], choose_better_voice(line, by)[1])
        for line in select_evaluations(history)
    ]
    return [point for point in points if math.isfinite(point.value)]


def extract_training_curve(history: Sequence[Line]) -> list[Point]:
    """Return the recorded mel losses of training."""
    return [Point(line["step"], line["loss/mel"]) for line in history if "loss/mel" in line]


def find_stop_reason(history: Sequence[Line], recipe: TrainConfig) -> str:
    """Return why the run should end now, if its patience has run out; else an empty string."""
    lowest = Point(0, math.inf)
    waited = 0
    for point in extract_holdout_curve(history, recipe.best_by):
        if point.value < lowest.value * (1 - recipe.least_improvement):
            lowest = point
            waited = 0
        else:
            waited += 1
    if not 0 < recipe.patience <= waited:
        return ""
    name = SCORE_NAMES[recipe.best_by]
    return (
        f"stopped: {waited} evaluations have brought no better {name} "
        f"than that of step {lowest.step}"
    )


def detect_overfitting(history: Sequence[Line], by: BestBy) -> str:
    """Return a warning if the hold-out's score rises while the training error falls; else "".

    The lowest place is that of the running mean of three evaluations. Since then the score must
    have risen clearly (Mann-Kendall trend test), by more than its noise and by 1 %, while the mel
    loss of training fell.
    """
    points = extract_holdout_curve(history, by)[1:]  # the first is the untrained voice
    values = np.array([point.value for point in points])
    if len(values) < _MIN_RISING_EVALUATIONS + 2:
        return ""
    means = np.convolve(values, np.ones(3) / 3, "valid")
    lowest = int(means.argmin()) + 1
    rising = len(values) - 1 - lowest
    training = np.array(
        [
            value
            for step, value in extract_training_curve(history)
            if step >= points[lowest].step
        ]
    )
    if rising < _MIN_RISING_EVALUATIONS or len(training) < _MIN_RISING_EVALUATIONS:
        return ""
    rise = means[-1] - means[lowest - 1]
    noise = _estimate_noise(values[-2 * (rising + 4) :])
    if rise < max(_MIN_RISE * means[lowest - 1], 4 * noise):
        return ""
    if _mann_kendall(values[lowest:]) < _CLEAR_RISE or _mann_kendall(training) > -_CLEAR_FALL:
        return ""
    best = best_evaluation(history)
    assert best is not None  # there are at least six evaluations
    return (
        f"the hold-out's {SCORE_NAMES[by]} has been rising for {rising} evaluations while the "
        f"training error falls (overfitting): the voice of step {best['step']} is kept; more "
        "epochs will not help, more speech would"
    )


def forecast(points: Sequence[Point], steps: Sequence[float]) -> list[Forecast] | None:
    """Extrapolate a falling error to later steps.

    Saturating curves a + b * (step + o)^-c and a + b * exp(-step / t) are fitted by least squares
    over grids of c, o and t, and averaged with the likelihood of the points as weight. The range
    covers the scatter of the points, the uncertainty of a and b, the disagreement of the curves,
    and a quarter of the forecast change.

    Args:
        points: The error so far; points before an eighth of the last step are left out.
        steps: Where to forecast it.

    Returns:
        A forecast per step; None if there are too few points, or they don't clearly fall.
    """
    points = [point for point in points if point.step > 0]
    points = [point for point in points if point.step >= points[-1].step / 8]
    if len(points) < _MIN_POINTS:
        return None
    at = np.array([point.step for point in points], float)
    values = np.array([point.value for point in points], float)
    if _mann_kendall(values) > -_CLEAR_FALL:
        return None
    unit = at[-1]
    asked = np.array(steps, float) / unit
    attempts = [_fit(shape, at / unit, values, asked) for shape in _shapes()]
    fits = [fit for fit in attempts if fit is not None]
    if not fits:
        return None
    squares = np.array([fit.squares for fit in fits])
    # Three parameters are fitted; no measurement is more exact than 1e-4.
    variance = max(squares.min() / (len(values) - 3), (1e-4 * values.mean()) ** 2)
    best = fits[int(squares.argmin())]
    if best.fall < 2 * math.sqrt(variance):
        return None  # the fall is lost in the scatter

    weights = np.exp(-(squares - squares.min()) / (2 * variance))
    weights /= weights.sum()
    means = np.array([fit.values for fit in fits])
    spreads = variance * (1 + np.array([fit.leverages for fit in fits]))
    value = weights @ means
    doubt = _MODEL_UNCERTAINTY * (value - weights @ np.array([fit.now for fit in fits]))
    deviation = np.sqrt(weights @ (spreads + np.square(means - value)) + np.square(doubt))
    forecasts = []
    for step, likeliest, spread in zip(steps, value, deviation, strict=True):
        low = max(float(likeliest - _CONFIDENCE * spread), 0.0)
        high = float(likeliest + _CONFIDENCE * spread)
        forecasts.append(Forecast(step, float(likeliest), low, high))
    return forecasts


def describe_forecast(history: Sequence[Line], recipe: TrainConfig) -> str:
    """Describe what the rest of the run and twice its epochs would probably bring; "" if
    unknown."""
    points = extract_holdout_curve(history, recipe.best_by)
    per_epoch = infer_steps_per_epoch(history)
    total = infer_total_steps(history, recipe)
    if not points or per_epoch is None or total is None:
        return ""
    now = points[-1].step
    end = max(total, now)
    # The curve of a dataset begins where the training on it began.
    begin = history[0]["step"] if DATASET in history[0] else 0
    curve = [Point(point.step - begin, point.value) for point in points]
    forecasts = forecast(curve, [step - begin for step in (now, end, 2 * end)])
    if forecasts is None:
        return ""
    here, at_end, twice = forecasts
    name = SCORE_NAMES[recipe.best_by]
    epochs = math.ceil(total / per_epoch)
    parts = [f"the hold-out's {name} is now about {here.value:.3g}"]
    if now < end:
        parts.append(
            f"at the end of the run (epoch {epochs}) it will probably be {_format_range(at_end)}"
        )
    more = f"with twice the epochs ({2 * epochs}) {_format_range(twice)}"
    if here.value - twice.value < _NEGLIGIBLE_GAIN * here.value:
        more += ", which is next to no gain"
    return "; ".join([*parts, more])


def infer_total_steps(history: Sequence[Line], recipe: TrainConfig) -> int | None:
    """Return the steps of the whole run.

    None if only the clock ends it, or while the history doesn't say how many an epoch has.
    """
    per_epoch = infer_steps_per_epoch(history)
    return None if per_epoch is None else recipe.total_steps(per_epoch)


def summary(history: Sequence[Line], recipe: TrainConfig) -> list[str]:
    """Summarize a run's course in sentences: why it stopped, whether it overfits, what more
    brings."""
    stop_reason = find_stop_reason(history, recipe)
    warning = detect_overfitting(history, recipe.best_by)
    # A run that overfits has no error that falls: a forecast would contradict the warning.
    outlook = "" if warning else describe_forecast(history, recipe)
    return [sentence for sentence in (stop_reason, warning, outlook) if sentence]


class _Fit(NamedTuple):
    """A curve a + b * shape fitted to points."""

    squares: float
    """Sum of the squared residuals."""
    fall: float
    """Fitted value at the first point minus that at the last."""
    now: float
    """Fitted value at the last point."""
    values: np.ndarray
    """Fitted values at the steps of the forecast."""
    leverages: np.ndarray
    """Variances of these values, in units of the points' variance."""


def _shapes() -> list[_Shape]:
    """Return the shapes to fit: functions of the step, in units of the last one, that fall to 0."""
    powers: list[_Shape] = [
        lambda x, c=c, o=o: (x + o) ** -c for c in _POWERS for o in _OFFSETS
    ]
    exponentials: list[_Shape] = [lambda x, t=t: np.exp(-x / t) for t in _DECAYS]
    return powers + exponentials


def _fit(shape: _Shape, at: np.ndarray, values: np.ndarray, asked: np.ndarray) -> _Fit | None:
    """Fit a, b >= 0 of a + b * shape by least squares; None if the curve does not fall."""
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
    """Return the Mann-Kendall statistic: standard deviations from no trend, above 0 for a rise."""
    n = len(values)
    signs = np.sign(values[None] - values[:, None])[np.triu_indices(n, 1)]
    total = float(np.sum(signs))
    corrected = math.copysign(max(abs(total) - 1, 0), total)  # for continuity
    return corrected / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)


def _estimate_noise(values: np.ndarray) -> float:
    """Estimate the standard deviation around a smooth curve from second differences."""
    return float(np.sqrt(np.mean(np.square(np.diff(values, 2))) / 6))


def _format_range(forecasted: Forecast) -> str:
    return f"{forecasted.value:.3g} ({forecasted.low:.3g} to {forecasted.high:.3g})"
