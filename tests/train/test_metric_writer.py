"""What a run records of its steps, and when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from micro import MICRO

from rvc_jax.runs.history import History
from rvc_jax.train.metric_writer import DelayedMetrics, MetricWriter, colorize_mel


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history.jsonl")


def metrics(losses: list[float], skipped: list[float]) -> dict[str, np.ndarray]:
    return {"loss/mel": np.array(losses), "loss/kl": np.ones(4), "skipped": np.array(skipped)}


def test_metrics_are_recorded_a_dispatch_late_and_skips_are_counted(
    tmp_path: Path, history: History
) -> None:
    writer = MetricWriter(tmp_path, history, from_step=0)
    late = DelayedMetrics(writer, every=2, steps_per_epoch=4)
    late.add(3, 3, metrics([1.0, 2.0, 3.0, 9.0], [0.0, 0.0, 0.0, 0.0]))
    assert not history.lines
    late.add(6, 3, metrics([4.0, np.nan, np.inf, 9.0], [0.0, 1.0, 1.0, 0.0]))
    assert [(line["step"], line["loss/mel"]) for line in history.lines] == [(1, 1.0), (2, 2.0)]
    assert history.lines[1]["epoch"] == 0.5 and "skipped" not in history.lines[1]
    late.flush()
    assert [line["step"] for line in history.lines] == [1, 2, 4]
    assert (late.skipped, late.consecutive_skips, late.last_nonfinite) == (2, 2, "loss/mel")
    assert late.losses == {"loss/mel": 4.0, "loss/kl": 1.0}

    late.add(8, 2, metrics([5.0, 6.0, 9.0, 9.0], [0.0, 0.0, 0.0, 0.0]))
    late.forget()  # the run goes back
    late.flush()
    assert [line["step"] for line in history.lines] == [1, 2, 4]
    assert late.consecutive_skips == 0
    writer.close()


def test_nothing_waits_for_tensorboard_after_its_thread_has_died(
    tmp_path: Path, history: History
) -> None:
    writer = MetricWriter(tmp_path, history, from_step=0)
    writer._board.close()  # a full disk ends the thread as this does
    for step in range(1, 100):
        writer.write_scalars(step, {"loss/mel": 1.0, "best/which": "raw"})
        writer.write_speech(step, "voice", np.zeros(1600, np.float32), MICRO.audio)
    writer.close()
    assert len(history.lines) == 99


def test_a_picture_of_speech_has_low_frequencies_below() -> None:
    tone = np.sin(2 * np.pi * 200 * np.arange(16000) / 16000).astype(np.float32)
    picture = colorize_mel(tone, MICRO.audio)
    assert picture.dtype == np.uint8 and picture.shape[::2] == (MICRO.audio.n_mels, 3)
    brightness = picture.astype(float).sum(axis=(1, 2))
    assert brightness[-8:].max() > 2 * brightness[:8].max()
