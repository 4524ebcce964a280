"""The pictures of a report, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from rvc_jax.audio.spectrogram import log_mel, mel_filters, spectrogram
from rvc_jax.config import AudioConfig
from rvc_jax.metrics.holdout import METRIC_NAMES
from rvc_jax.runs.history import best_evaluation, best_mel

_INK = "#1f2933"
_BLUE = "#1f6feb"
_ORANGE = "#d9730d"
_GREY = "#9aa5b1"
_MEL_RANGE = (-11.5, 1.0)
_WIDTH = 9.2
_LOSSES = {
    "loss/generator": "generator, total",
    "loss/discriminator": "discriminator",
    "loss/adversarial": "adversarial",
    "loss/feature_matching": "feature matching",
    "loss/kl": "KL",
}
_MEASURES = {
    "mel": "log-mel error",
    "stft": "multi-resolution STFT distance",
    "f0_median_cents": "pitch error, cents (median)",
    "f0_rmse_cents": "pitch error, cents (RMS)",
    "gross_pitch_errors": "gross pitch errors, %",
    "voicing_error": "voicing errors, %",
    "similarity": "speaker similarity (cosine)",
    "f0_cents": "pitch error, cents (RMS, all frames)",
}


def plot_mel(wave: np.ndarray, audio: AudioConfig, seconds: float) -> bytes:
    """Log-mel of a waveform [samples] at the preset's rate, drawn on a time axis of `seconds`."""
    figure = _figure(_WIDTH, 2.1)
    axes = figure.subplots()
    mel = np.asarray(log_mel(spectrogram(wave[None], audio), audio))[0].T
    extent = (0, mel.shape[1] / 100, 0, mel.shape[0])
    axes.imshow(
        mel,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=_MEL_RANGE[0],
        vmax=_MEL_RANGE[1],
        extent=extent,
        interpolation="nearest",
    )
    axes.set_xlim(0, seconds)
    ticks = [
        hz for hz in (200, 500, 1000, 2000, 4000, 8000, 16000) if hz <= 0.45 * audio.sample_rate
    ]
    names = [f"{hz}" if hz < 1000 else f"{hz // 1000}k" for hz in ticks]
    axes.set_yticks([_mel_row(hz, audio) for hz in ticks], names)
    axes.set_ylabel("Hz")
    axes.set_xlabel("seconds")
    return _png(figure)


def plot_pitch(curves: Sequence[tuple[str, np.ndarray]]) -> bytes:
    """Pitch curves: pairs of a name and f0 [frames] in Hz at 100 frames a second, 0 = unvoiced."""
    figure = _figure(_WIDTH, 2.8)
    axes = figure.subplots()
    for (name, f0), colour in zip(curves, (_GREY, _BLUE), strict=False):
        axes.plot(
            np.arange(len(f0)) / 100,
            np.where(f0 > 0, f0, np.nan),
            color=colour,
            linewidth=1.8,
            label=name,
        )
    axes.set_yscale("log")
    axes.set_yticks(
        [70, 100, 150, 200, 300, 400, 600], ["70", "100", "150", "200", "300", "400", "600"]
    )
    axes.minorticks_off()
    voiced = np.concatenate([f0[f0 > 0] for _, f0 in curves] or [np.zeros(0)])
    if len(voiced):
        axes.set_ylim(voiced.min() / 1.15, voiced.max() * 1.15)
    axes.set_xlim(0, max(len(f0) for _, f0 in curves) / 100)
    axes.set_xlabel("seconds")
    axes.set_ylabel("Hz")
    axes.grid(axis="y", color="#e4e7eb")
    _legend(axes)
    return _png(figure)


def plot_learning_curve(history: Sequence[dict[str, Any]], mel_weight: float) -> bytes | None:
    """Mel error over the steps, on the training windows and on the hold-out; None if nothing was
    recorded."""
    train = _series(history, "loss/mel")
    holdout = _series(history, "holdout/mel")
    best = best_evaluation(history)
    if not train and not holdout:
        return None
    figure = _figure(_WIDTH, 3.0)
    axes = figure.subplots()
    if train:
        steps, values = zip(*train, strict=True)
        axes.plot(
            steps,
            np.array(values) / mel_weight,
            color=_GREY,
            linewidth=1.5,
            marker=".",
            label="training",
        )
    if holdout:
        axes.plot(
            *zip(*holdout, strict=True),
            color=_BLUE,
            linewidth=2,
            marker="o",
            markersize=4,
            label="hold-out",
        )
    if averaged := _series(history, "holdout_ema/mel"):
        label = "hold-out, averaged weights"
        axes.plot(
            *zip(*averaged, strict=True),
            color=_ORANGE,
            linewidth=2,
            marker="o",
            markersize=4,
            label=label,
        )
    if best is not None:
        value = best_mel(best)
        colour = _ORANGE if best.get("best/which") == "ema" else _BLUE
        axes.annotate(
            f"best {value:.3f}",
            (best["step"], value),
            (0, 9),
            textcoords="offset points",
            color=colour,
            ha="center",
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step")
    axes.set_ylabel("log-mel error")
    axes.grid(axis="y", color="#e4e7eb")
    _legend(axes)
    return _png(figure)


def plot_metrics(history: Sequence[dict[str, Any]]) -> bytes | None:
    """The hold-out by every measure, one small picture each; None in histories that have the mel
    error alone."""
    curves = {
        name: (_series(history, f"holdout/{name}"), _series(history, f"holdout_ema/{name}"))
        for name in METRIC_NAMES
    }
    curves = {name: pair for name, pair in curves.items() if pair[0]}
    if set(curves) <= {"mel"}:
        return None
    figure = _figure(_WIDTH, 4.2)
    best = best_evaluation(history)
    grid = figure.subplots(2, 4).ravel()
    for axes in grid[len(curves) :]:
        axes.set_axis_off()
    for axes, (name, pair) in zip(grid, curves.items(), strict=False):
        for points, colour, label in zip(
            pair, (_BLUE, _ORANGE), ("raw weights", "averaged weights"), strict=True
        ):
            if points:
                steps, values = zip(*points, strict=True)
                scaled = np.array(values) * (100 if _MEASURES[name].endswith("%") else 1)
                axes.plot(steps, scaled, color=colour, linewidth=1.6, marker=".", label=label)
        axes.axvline(best["step"], color=_GREY, linewidth=1, linestyle=":")
        axes.set_title(_MEASURES[name], fontsize=9)
        axes.locator_params(nbins=4)
        axes.grid(axis="y", color="#e4e7eb")
    if any(pair[1] for pair in curves.values()):
        grid[0].legend(frameon=False, fontsize=7, labelcolor=_INK)
    return _png(figure)


def plot_losses(history: Sequence[dict[str, Any]]) -> bytes | None:
    """The terms of the losses over the steps, one small picture each; None if nothing was
    recorded."""
    series = {title: _series(history, name) for name, title in _LOSSES.items()}
    series = {title: points for title, points in series.items() if points}
    if not series:
        return None
    figure = _figure(_WIDTH, 1.9)
    for axes, (title, points) in zip(
        figure.subplots(1, len(series), squeeze=False)[0], series.items(), strict=True
    ):
        axes.plot(*zip(*points, strict=True), color=_ORANGE, linewidth=1.4)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.locator_params(nbins=4)
        axes.grid(axis="y", color="#e4e7eb")
    return _png(figure)


def _series(history: Sequence[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    return [(record["step"], record[name]) for record in history if name in record]


def _mel_row(hz: float, audio: AudioConfig) -> float:
    """Where a frequency is among the mel filters."""
    filters = mel_filters(
        audio.sample_rate, audio.n_fft, audio.n_mels, audio.f_min, audio.f_max
    )
    centers = filters.argmax(axis=0) * audio.sample_rate / audio.n_fft
    return float(np.interp(hz, centers, np.arange(len(centers)) + 0.5))


def _figure(width: float, height: float):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _legend(axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            frameon=False,
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=2,
            labelcolor=_INK,
            fontsize=9,
        )


def _png(figure) -> bytes:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        for text in (axes.xaxis.label, axes.yaxis.label):
            text.set_size(9)
        axes.tick_params(labelsize=8, colors=_INK)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
