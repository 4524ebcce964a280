"""Names, text and ranking of the metrics of a hold-out."""

from __future__ import annotations

import pytest

from rvc_jax.metrics.holdout import METRIC_NAMES, format_metric, format_metrics, ranking_score

METRICS = {
    "mel": 0.9,
    "stft": 1.5,
    "f0_median_cents": 20.0,
    "f0_rmse_cents": 30.0,
    "gross_pitch_errors": 0.05,
    "voicing_error": 0.1,
    "similarity": 0.8,
}
NAN = float("nan")


def test_scores_are_as_documented_and_infinite_without_a_metric() -> None:
    expected = {
        "mel": 0.9,
        "stft": 1.5,
        "similarity": 0.2,
        "score": 0.9 + 1.5 + 0.2 + 0.05 + 0.1,
    }
    assert {by: ranking_score(METRICS, by) for by in expected} == pytest.approx(expected)
    without = dict(METRICS)
    del without["similarity"]
    del without["f0_median_cents"]
    infinite = [by for by in expected if ranking_score(without, by) == float("inf")]
    assert infinite == ["similarity", "score"]
    assert ranking_score({}, "stft") == float("inf")
    for by, name in (("mel", "mel"), ("similarity", "similarity"), ("score", "stft")):
        assert ranking_score(METRICS | {name: NAN}, by) == float("inf")


def test_evaluations_of_older_runs_have_the_score_they_had() -> None:
    older = {"mel": 0.9, "stft": 1.5, "f0_cents": 50.0, "voicing_error": 0.1, "similarity": 0.8}
    assert ranking_score(older, "score") == pytest.approx(3.0)
    assert format_metrics(older) == (
        "log-mel error 0.900, STFT distance 1.500, voicing errors 10.0 %, "
        "speaker similarity 0.800, pitch error 50 cents (RMS with gross errors)"
    )


def test_every_metric_has_a_text() -> None:
    assert set(METRIC_NAMES) == {*METRICS, "f0_cents"}
    assert len({format_metric(name, 1.0) for name in METRIC_NAMES}) == len(METRIC_NAMES)
    assert format_metrics(METRICS) == (
        "log-mel error 0.900, STFT distance 1.500, pitch error 20 cents, gross pitch errors 5.0 %, "
        "voicing errors 10.0 %, speaker similarity 0.800"
    )
    assert format_metrics({"voicing_error": 0.1}) == "voicing errors 10.0 %"
