"""The metrics of a voice on its hold-out: names, text, and the score that voices are ranked by."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rvc_jax.config import BestBy

METRIC_NAMES = (
    "mel",
    "stft",
    "f0_median_cents",
    "f0_rmse_cents",
    "gross_pitch_errors",
    "voicing_error",
    "similarity",
    "f0_cents",
)
"""Log-mel error, STFT distance (`metrics.stft`), pitch errors (`metrics.pitch`), cosine similarity
of speaker embeddings. Lower is better for all but `similarity`.

`f0_cents` is found in runs of versions before 0.2 alone: the root mean square pitch error with
gross errors included."""


def ranking_score(metrics: Mapping[str, float], by: BestBy) -> float:
    """Compute what voices are ranked by, lower is better: `TrainConfig.best_by` has the terms.

    Infinite without the metrics that it needs, or where one is NaN.
    """

    def get(name: str, default: float = math.inf) -> float:
        return metrics.get(name, default)

    if by == "similarity":
        value = 1 - get("similarity", -math.inf)
    elif by == "score":
        # Evaluations of versions before 0.2 have f0_cents, and no share of gross errors.
        cents = get("f0_median_cents", get("f0_cents"))
        errors = get("gross_pitch_errors", 0.0) + get("voicing_error")
        value = get("mel") + get("stft") + cents / 100 + errors
    else:
        value = get(by)
    return math.inf if math.isnan(value) else value


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Format the metrics of a voice as one line, without `f0_rmse_cents`."""
    names = [name for name in METRIC_NAMES if name in metrics and name != "f0_rmse_cents"]
    return ", ".join(format_metric(name, metrics[name]) for name in names)


def format_metric(name: str, value: float) -> str:
    """Format one of `METRIC_NAMES` with its name and unit."""
    return {
        "mel": f"log-mel error {value:.3f}",
        "stft": f"STFT distance {value:.3f}",
        "f0_median_cents": f"pitch error {value:.0f} cents",
        "f0_rmse_cents": f"pitch error {value:.0f} cents (RMS)",
        "gross_pitch_errors": f"gross pitch errors {100 * value:.1f} %",
        "voicing_error": f"voicing errors {100 * value:.1f} %",
        "similarity": f"speaker similarity {value:.3f}",
        "f0_cents": f"pitch error {value:.0f} cents (RMS with gross errors)",
    }[name]
