"""A voice as data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from made_runs import make_run

from rvc_jax.runs import checkpoint
from rvc_jax.voices.model import VoiceModel, format_clock


def test_format_clock() -> None:
    assert [format_clock(minutes) for minutes in (0, 20.3, 61.5, 600)] == [
        "00:00:00",
        "00:20:18",
        "01:01:30",
        "10:00:00",
    ]


def test_the_best_voice_of_a_run_is_not_the_checkpoint_of_its_step(tmp_path: Path) -> None:
    """The best voice may be the average; the checkpoint of that step has the raw weights."""
    run = make_run(tmp_path / "run")
    best = VoiceModel.from_run(run)
    other = checkpoint.read(
        run.checkpoints / "20",
        {
            "generator": {
                name: np.zeros(shape, np.float32)
                for name, shape in run.load_generator()[0].shapes.items()
            }
        },
    )["generator"]
    checkpoint.write(run.checkpoints, 10, {"generator": other})
    found = VoiceModel.from_run(run)
    assert found.facts["step"] == best.facts["step"] == 10
    for name, array in best.weights.items():
        np.testing.assert_array_equal(found.weights[name], array)
    named = VoiceModel.from_run(run, step=10)
    assert any(
        not np.array_equal(named.weights[name], best.weights[name]) for name in best.weights
    )
