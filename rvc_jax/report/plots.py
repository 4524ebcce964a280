"""The charts of the pages, as inline SVG by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.mel_image import draw_log_mel
from rvc_jax.audio.spectrogram import log_mel, mel_filters, spectrogram
from rvc_jax.config import FRAMES_PER_SECOND, AudioConfig
from rvc_jax.metrics.holdout import METRIC_NAMES
from rvc_jax.report.svg import (
    BLUE,
    GRAY,
    GRID,
    INK,
    MUTED,
    ORANGE,
    PALE_BLUE,
    WIDTH,
    make_figure,
    to_svg,
)
from rvc_jax.runs.history import best_evaluation, best_mel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Tick = tuple[float, str]
"""A place on an axis and its label."""

_LEFT = 46
_RIGHT = 30
_TOP = 16
_BOTTOM = 31
"""Margins of histograms and spectra, in units of 1/72 inch."""

_PITCH_TICKS = (70, 100, 150, 200, 300, 400, 600)
_MEL_TICKS = (200, 500, 1000, 2000, 4000, 8000, 16000)
_LOSSES = {
    "loss/generator": "generator, total",
    "loss/discriminator": "discriminator",
    "loss/adversarial": "adversarial",
    "loss/feature_matching": "feature matching",
    "loss/kl": "KL",
}
_METRICS = {
    "mel": "log-mel error",
    "stft": "multi-resolution\nSTFT distance",
    "f0_median_cents": "pitch error, cents\n(median)",
    "f0_rmse_cents": "pitch error, cents\n(RMS)",
    "gross_pitch_errors": "gross pitch errors, %",
    "voicing_error": "voicing errors, %",
    "similarity": "speaker similarity\n(cosine)",
    "f0_cents": "pitch error, cents\n(RMS, all frames)",
}


class Curve(NamedTuple):
    """A named curve of a chart."""

    name: str
    y: Sequence[float]
    color: str


def plot_histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    ticks: Sequence[Tick],
    title: str,
    axis: str,
    highlighted: tuple[float, float] | None = None,
    height: float = 1.9,
) -> str:
    """Draw bars.

    Args:
      edges: of the bins [n + 1].
      counts: heights of the bars [n].
      ticks: of the horizontal axis; those beyond the edges are left out.
      title: what the chart shows, for readers who cannot see it.
      axis: label of the horizontal axis.
      highlighted: range of the axis; bars whose middle is outside are pale.
      height: inches.
    """
    figure, axes = _single_axes(height)
    low, high = edges[0], edges[-1]
    tallest = max([*counts, 1])
    middles = (np.array(edges[:-1]) + np.array(edges[1:])) / 2
    is_highlighted = np.ones(len(counts), bool)
    if highlighted is not None:
        is_highlighted = (middles >= highlighted[0]) & (middles <= highlighted[1])
    gap = (high - low) / (72 * WIDTH - _LEFT - _RIGHT)  # of one unit between neighbors
    widths = np.maximum(np.diff(edges) - gap, 0.5 * gap)
    is_filled = np.array(counts) > 0
    colors = np.where(is_highlighted, BLUE, PALE_BLUE)
    axes.bar(
        middles[is_filled],
        np.array(counts)[is_filled],
        width=widths[is_filled],
        color=colors[is_filled].tolist(),
        clip_on=False,
    )
    axes.set_xlim(low, high)
    axes.set_ylim(0, tallest)
    _set_ticks(axes, ticks)
    axes.set_yticks([tallest], [_shorten_count(tallest)])
    axes.axhline(tallest, color=GRID, linewidth=0.8, clip_on=False)
    axes.set_xlabel(axis)
    return to_svg(figure, title)


def plot_spectra(
    hz: Sequence[float],
    curves: Sequence[Curve],
    x_ticks: Sequence[Tick],
    y_ticks: Sequence[Tick],
    title: str,
    axis: str,
    mark: Tick | None = None,
    height: float = 2.4,
) -> str:
    """Draw curves, cut off at the lowest and the highest tick.

    Their names are above the axes, and the mark's label is at their top, where spectra leave room.

    Args:
      hz: places of the curves' values on the horizontal axis [n].
      curves: with values [n].
      x_ticks, y_ticks: of the axes.
      title: what the chart shows, for readers who cannot see it.
      axis: label of the horizontal axis.
      mark: a labelled vertical line.
      height: inches.
    """
    figure, axes = _single_axes(height)
    low, high = y_ticks[0][0], y_ticks[-1][0]
    for curve in curves:
        clipped = np.clip(curve.y, low, high)
        axes.plot(
            hz,
            clipped,
            color=curve.color,
            linewidth=1.3,
            label=curve.name,
            clip_on=False,
        )
    axes.set_xlim(hz[0], hz[-1])
    axes.set_ylim(low, high)
    _set_ticks(axes, x_ticks)
    axes.set_yticks([value for value, _ in y_ticks], [label for _, label in y_ticks])
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(axis)
    right = 1.0
    for curve in reversed(curves):
        axes.annotate(
            curve.name,
            (right, 1),
            (0, 5),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            color=curve.color,
            fontsize=8.5,
        )
        right -= (6.5 * len(curve.name) + 8) / (72 * WIDTH - _LEFT - _RIGHT)
    if mark is not None:
        _draw_mark(axes, mark, (hz[0], hz[-1]))
    return to_svg(figure, title)


def _draw_mark(axes: Axes, mark: Tick, limits: tuple[float, float]) -> None:
    place = min(max(mark[0], limits[0]), limits[1])
    is_right = place > sum(limits) / 2
    axes.axvline(place, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), clip_on=False)
    axes.annotate(
        mark[1],
        (place, 1),
        (-4 if is_right else 4, -10),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right" if is_right else "left",
        color=MUTED,
        fontsize=8.5,
    )


def plot_mel(wave: np.ndarray, audio: AudioConfig, seconds: float, title: str) -> str:
    """Draw the log-mel spectrogram of a waveform.

    Args:
      wave: [samples], at the rate of `audio`.
      audio: the spectrogram's settings.
      seconds: length of the time axis.
      title: what the picture shows, for readers who cannot see it.
    """
    figure = make_figure(1.8)
    axes = figure.subplots()
    mel = np.asarray(log_mel(spectrogram(jnp.asarray(wave[None]), audio), audio))[0]
    frames, mels = mel.shape
    # Without interpolation every value is one pixel of the embedded picture.
    axes.imshow(
        draw_log_mel(mel),
        aspect="auto",
        extent=(0, frames / FRAMES_PER_SECOND, 0, mels),
        interpolation="none",
    )
    axes.set_xlim(0, seconds)
    ticks = [hz for hz in _MEL_TICKS if hz <= 0.45 * audio.sample_rate]
    names = [f"{hz}" if hz < 1000 else f"{hz // 1000}k" for hz in ticks]
    axes.set_yticks([_find_mel_row(hz, audio) for hz in ticks], names)
    axes.set_ylabel("Hz")
    axes.set_xlabel("seconds")
    return to_svg(figure, title)


def _find_mel_row(hz: float, audio: AudioConfig) -> float:
    """Return where a frequency is among the mel filters, counted from the lowest."""
    filters = mel_filters(
        audio.sample_rate, audio.n_fft, audio.n_mels, audio.f_min, audio.f_max
    )
    centers = filters.argmax(axis=0) * audio.sample_rate / audio.n_fft
    return float(np.interp(hz, centers, np.arange(len(centers)) + 0.5))


def plot_pitch(curves: Sequence[tuple[str, np.ndarray]], title: str) -> str:
    """Draw pitch curves on a logarithmic scale.

    Args:
      curves: names and f0 [frames] in Hz at 100 frames per second, 0 = unvoiced.
      title: what the chart shows, for readers who cannot see it.
    """
    figure = make_figure(2.3)
    axes = figure.subplots()
    for (name, f0), color in zip(curves, (GRAY, BLUE), strict=False):
        voiced_only = np.where(f0 > 0, f0, np.nan)
        seconds = np.arange(len(f0)) / FRAMES_PER_SECOND
        axes.plot(seconds, voiced_only, color=color, linewidth=1.5, label=name)
    axes.set_yscale("log")
    axes.set_yticks(_PITCH_TICKS, [str(hz) for hz in _PITCH_TICKS])
    axes.minorticks_off()
    voiced = np.concatenate([f0[f0 > 0] for _, f0 in curves] or [np.zeros(0)])
    if len(voiced):
        axes.set_ylim(voiced.min() / 1.15, voiced.max() * 1.15)
    axes.set_xlim(0, max(len(f0) for _, f0 in curves) / FRAMES_PER_SECOND)
    axes.set_xlabel("seconds")
    axes.set_ylabel("Hz")
    axes.grid(axis="y", color=GRID)
    _add_legend(axes)
    return to_svg(figure, title)


def plot_learning_curve(
    history: Sequence[Mapping[str, Any]], mel_weight: float, title: str
) -> str | None:
    """Draw the mel error over the steps, on training windows and on the hold-out.

    Args:
      history: records of `history.jsonl`.
      mel_weight: factor that `loss/mel` has in the history.
      title: what the chart shows, for readers who cannot see it.

    Returns:
      The chart, or None if nothing was recorded.
    """
    train = _series(history, "loss/mel")
    holdout = _series(history, "holdout/mel")
    if not train and not holdout:
        return None
    figure = make_figure(2.5)
    axes = figure.subplots()
    if train:
        steps, values = zip(*train, strict=True)
        errors = np.array(values) / mel_weight
        axes.plot(steps, errors, color=GRAY, linewidth=1.3, marker=".", label="training")
    _plot_points(axes, holdout, BLUE, "hold-out")
    averaged = _series(history, "holdout_ema/mel")
    _plot_points(axes, averaged, ORANGE, "hold-out, averaged weights")
    best = best_evaluation(history)
    if best is not None:
        value = best_mel(best)
        axes.annotate(
            f"best {value:.3f}",
            (best["step"], value),
            (0, 8),
            textcoords="offset points",
            color=ORANGE if best.get("best/which") == "ema" else BLUE,
            ha="center",
            fontsize=8.5,
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step")
    axes.set_ylabel("log-mel error")
    axes.grid(axis="y", color=GRID)
    _add_legend(axes)
    return to_svg(figure, title)


def _plot_points(axes: Axes, points: list[tuple[int, float]], color: str, name: str) -> None:
    if points:
        steps, values = zip(*points, strict=True)
        axes.plot(
            steps, values, color=color, linewidth=1.6, marker="o", markersize=3, label=name
        )


def plot_metrics(history: Sequence[Mapping[str, Any]], title: str) -> str | None:
    """Draw every metric of the hold-out over the steps, in one small chart each.

    Returns:
      The chart, or None for a history that has the mel error alone.
    """
    curves = {
        name: (_series(history, f"holdout/{name}"), _series(history, f"holdout_ema/{name}"))
        for name in METRIC_NAMES
    }
    curves = {name: pair for name, pair in curves.items() if pair[0]}
    if set(curves) <= {"mel"}:
        return None
    best = best_evaluation(history)
    figure = make_figure(3.6)
    grid = figure.subplots(2, 4).ravel()
    for axes in grid[len(curves) :]:
        axes.set_axis_off()
    for axes, (name, (raw, averaged)) in zip(grid, curves.items(), strict=False):
        factor = 100 if _METRICS[name].endswith("%") else 1
        _plot_scaled(axes, raw, factor, BLUE, "raw weights")
        _plot_scaled(axes, averaged, factor, ORANGE, "averaged weights")
        if best is not None:
            axes.axvline(best["step"], color=GRAY, linewidth=0.8, linestyle=":")
        axes.set_title(_METRICS[name])
        axes.locator_params(nbins=4)
        axes.grid(axis="y", color=GRID)
    if any(averaged for _, averaged in curves.values()):
        grid[0].legend(frameon=False, fontsize=6, labelcolor=INK)
    return to_svg(figure, title)


def _plot_scaled(
    axes: Axes, points: list[tuple[int, float]], factor: float, color: str, name: str
) -> None:
    if points:
        steps, values = zip(*points, strict=True)
        scaled = factor * np.array(values)
        axes.plot(steps, scaled, color=color, linewidth=1.3, marker=".", label=name)


def plot_losses(history: Sequence[Mapping[str, Any]], title: str) -> str | None:
    """Draw every term of the losses over the steps, in one small chart each.

    Returns:
      The chart, or None if nothing was recorded.
    """
    series = {name: _series(history, key) for key, name in _LOSSES.items()}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return None
    figure = make_figure(1.7)
    row = figure.subplots(1, len(series), squeeze=False)[0]
    for axes, (name, points) in zip(row, series.items(), strict=True):
        axes.plot(*zip(*points, strict=True), color=ORANGE, linewidth=1.2)
        axes.set_title(name)
        axes.locator_params(nbins=4)
        axes.grid(axis="y", color=GRID)
    return to_svg(figure, title)


def _series(history: Sequence[Mapping[str, Any]], name: str) -> list[tuple[int, float]]:
    return [(record["step"], record[name]) for record in history if name in record]


def _single_axes(height: float) -> tuple[Figure, Axes]:
    """Return a figure with axes in fixed margins, so that charts below each other are in line."""
    figure = make_figure(height, layout=None)
    width = 72 * WIDTH
    tall = 72 * height
    axes = figure.add_axes(
        (
            _LEFT / width,
            _BOTTOM / tall,
            1 - (_LEFT + _RIGHT) / width,
            1 - (_TOP + _BOTTOM) / tall,
        )
    )
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", left=False)
    return figure, axes


def _set_ticks(axes: Axes, ticks: Sequence[Tick]) -> None:
    low, high = axes.get_xlim()
    inside = [(value, label) for value, label in ticks if low <= value <= high]
    axes.set_xticks([value for value, _ in inside], [label for _, label in inside])
    axes.set_xlim(low, high)


def _add_legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            frameon=False,
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=3,
            labelcolor=INK,
            fontsize=8,
        )


def _shorten_count(count: float) -> str:
    """Return a number in at most seven characters: more do not fit beside the axis."""
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count:g}"
