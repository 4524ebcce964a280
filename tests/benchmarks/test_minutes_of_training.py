"""The parts of minutes_of_training.py that need no training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from rvc_jax.audio.writing import save
from tests.benchmarks.minutes_of_training import (
    Cell,
    Target,
    format_table,
    keep_some,
    read_cells,
    read_speech,
    write_atomically,
)

FIGURES = {
    "target": "june",
    "speech_minutes": 2.96,
    "training_minutes": 3.0,
    "steps": 412,
    "holdout_of_the_base": 0.731,
    "holdout": 0.55,
    "medians": {"word_error_rate": 0.125, "similarity": 0.8, "source_similarity": 0.56},
}


def test_cells_that_are_made_are_in_the_table(tmp_path: Path) -> None:
    made = Cell("june", 3, 3)
    (tmp_path / made.folder).mkdir(parents=True)
    write_atomically(tmp_path / made.file, FIGURES)
    assert json.loads((tmp_path / "june" / "3-of-speech" / "3-of-training.json").read_text())
    table = format_table(read_cells(tmp_path, [Cell("june", 1, 3), made]))
    assert table.splitlines()[2:] == [
        "| june | 3.0 min | 3 min | 412 | 0.12 | 0.80 (0.56) | 0.550 (0.731) |"
    ]


def test_less_speech_is_the_beginning_of_more(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / f"{number}.wav", np.full(800, 0.1 * number, np.float32), 16000)
    target = Target("callie", [])

    def levels(**options: bool) -> list[float]:
        waves = read_speech(target, None, tmp_path, 0, **options)
        return [round(float(wave.mean()), 1) for wave, _ in waves]

    assert levels() == levels() and sorted(levels()) == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert levels() != sorted(levels()) and levels(backwards=True) == levels()[::-1]


def test_some_sentences_of_every_speaker_are_kept(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.wav" for name in ("june-1", "june-2", "nist-1")]
    for path in paths:
        path.touch()
    keep_some(paths, 1)
    assert [path.exists() for path in paths] == [True, False, True]
