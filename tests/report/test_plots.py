"""The charts: values where they belong, and labels that can be read."""

from __future__ import annotations

import numpy as np
import pytest
from svg_charts import labels, paths

from rvc_jax.config import PRESETS
from rvc_jax.report.plots import (
    Curve,
    plot_histogram,
    plot_learning_curve,
    plot_losses,
    plot_mel,
    plot_metrics,
    plot_pitch,
    plot_spectra,
)
from rvc_jax.report.svg import BLUE, PALE_BLUE

LEVELS = [(-100.0, "-100"), (0.0, "0")]


@pytest.mark.parametrize("mark", [500.0, 4000.0, 7900.0, 8000.0])
def test_names_and_the_mark_are_not_on_the_curves(mark: float) -> None:
    hz = np.arange(0, 8001, 100)
    # Speech up to the mark, then nothing.
    falls = np.where(hz < 300, -3.0, np.where(hz < mark, -30.0, -200.0)).tolist()
    pauses = [level - 30 for level in falls]
    svg = plot_spectra(
        hz.tolist(),
        [Curve("speech", falls, "#000001"), Curve("pauses", pauses, "#000002")],
        [(0, "0")],
        LEVELS,
        "t",
        "kHz; dB",
        (mark, "8.0 kHz"),
    )
    (speech,) = paths(svg, "stroke: #000001")
    (silence,) = paths(svg, "stroke: #000002")
    inside = [each for each in labels(svg) if each.text in ("speech", "pauses", "8.0 kHz")]
    assert len(inside) == 3
    assert len({(each.left, each.baseline) for each in inside}) == 3
    for label in inside:
        for x, y in (*speech, *silence):
            is_beside = label.left <= x <= label.right
            assert not (is_beside and label.baseline - 7 <= y <= label.baseline + 2), label


def test_large_counts_stay_beside_the_axis() -> None:
    svg = plot_histogram([0, 1, 2], [1_412_000, 3], [(0, "0"), (2, "2")], "t", "x")
    assert ">1.4 M<" in svg and all(label.left >= 0 for label in labels(svg))


def test_bars_have_the_heights_of_their_values() -> None:
    svg = plot_histogram(
        [0, 1, 2, 3], [4, 0, 2], [(0, "0"), (3, "3")], "t", "x", highlighted=(0, 1.2)
    )
    (dark,) = paths(svg, f"fill: {BLUE}")
    (pale,) = paths(svg, f"fill: {PALE_BLUE}")
    tall, short = (max(y for _, y in bar) - min(y for _, y in bar) for bar in (dark, pale))
    assert tall == pytest.approx(2 * short, rel=1e-4) and tall > 50
    assert max(y for _, y in dark) == max(y for _, y in pale)
    assert min(x for x, _ in pale) > max(x for x, _ in dark)


def test_curves_have_the_heights_of_their_values() -> None:
    svg = plot_spectra(
        [0, 1, 2], [Curve("a", [-20, 0, -200], "#000001")], [(0, "0")], LEVELS, "t", "x"
    )
    (points,) = paths(svg, "stroke: #000001")
    first, top, bottom = (y for _, y in points)
    assert top < first < bottom
    # What is below the axis is drawn on it.
    assert (first - top) / (bottom - top) == pytest.approx(0.2, rel=1e-4)


def test_both_kinds_of_weights_are_drawn() -> None:
    names = [
        f"{kind}/{name}" for kind in ("holdout", "holdout_ema") for name in ("mel", "stft")
    ]
    lines = [{"step": 9 * i, **dict.fromkeys(names, 1 / (i + 1))} for i in range(4)]
    lines[2]["best/which"] = "ema"
    raw = [
        {
            name: value
            for name, value in line.items()
            if "ema" not in name and name != "best/which"
        }
        for line in lines
    ]
    for both, alone in (
        (plot_learning_curve(lines, 45.0, "t"), plot_learning_curve(raw, 45.0, "t")),
        (plot_metrics(lines, "t"), plot_metrics(raw, "t")),
    ):
        assert both is not None and alone is not None and both != alone
        assert ">averaged weights<" in both or ">hold-out, averaged weights<" in both
        assert "averaged" not in alone
    assert plot_metrics([{"step": 0, "holdout/mel": 1.0}], "t") is None


def test_nothing_recorded_draws_nothing() -> None:
    assert plot_learning_curve([], 45.0, "t") is None
    assert plot_losses([{"step": 0, "holdout/mel": 1.0}], "t") is None
    assert plot_metrics([], "t") is None


def test_losses_have_one_chart_each() -> None:
    svg = plot_losses(
        [{"step": i, "loss/kl": 1.0, "loss/generator": 2.0} for i in range(3)], "t"
    )
    assert svg is not None and ">KL<" in svg and ">generator, total<" in svg


def test_pitch_is_drawn_where_it_is_voiced() -> None:
    f0 = np.where(np.arange(200) < 100, 200.0, 0.0)
    svg = plot_pitch([("recording", f0), ("converted", np.zeros(200))], "t")
    assert ">recording<" in svg and ">200<" in svg


def test_a_spectrogram_is_a_picture_with_axes() -> None:
    audio = PRESETS["nano"].audio
    wave = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    svg = plot_mel(wave, audio, 2.0, "Log-mel spectrogram: <me>")
    assert 'aria-label="Log-mel spectrogram: &lt;me&gt;"' in svg
    assert "data:image/png;base64," in svg and ">1k<" in svg and ">seconds<" in svg
