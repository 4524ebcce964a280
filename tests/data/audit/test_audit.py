"""Audits of whole datasets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from audits import RATE, advice_by_topic, describe_dataset
from reporting import KeepingReporter

from rvc_jax.cli.display import to_plain
from rvc_jax.data.audit.audit import WORST, audit, measure, read_waves
from rvc_jax.data.dataset import iterate, read_info
from rvc_jax.errors import UserError


def test_a_clean_dataset_is_called_clean(clean):
    assert clean.signal_to_noise_spread.median > 50 and clean.noisy_slices == 0
    assert clean.clipped_slices == clean.music_slices == 0 and clean.dc_offset < 1e-3
    assert clean.repeated == () and clean.repeated_seconds == 0
    assert clean.bandwidth_hz > 20000  # half of the files were cut near 17 kHz, as coders do
    assert clean.speech_share > 0.85 and clean.silence_share < 0.2
    assert advice_by_topic(clean)["cleaning"].text == "Nothing needs cleaning."
    assert len(clean.worst) == WORST
    assert all(
        item.severity < 1 and item.reasons[0].startswith("no fault") for item in clean.worst
    )


def test_durations_and_counts(speech, clean):
    assert sum(clean.durations.counts) == clean.slices == clean.train_slices
    whole = sum(len(wave) // (3 * RATE) for wave in speech.values())
    assert clean.durations.counts[clean.durations.edges.index(3.0)] == whole
    assert clean.slice_minutes <= clean.source_minutes


def test_pitch_by_notes():
    """A scale from A2 to A4: the span leaves out 5 % at either end."""
    rate = 32000
    f0 = np.repeat(110 * 2 ** (np.arange(25) / 12), 12)
    record = {
        "wave": np.zeros(300 * rate // 100, np.float32),
        "speaker": 1,
        "source": "a",
        "start": 0.0,
    }
    info = describe_dataset("32k", 1, 1.0, 1, ("first", "second"))
    found = measure(
        info,
        [("train", record | {"f0": f0}), ("train", record | {"f0": 0 * f0, "start": 3.0})],
        "test",
    )
    silent, voice = found.voices
    assert silent.pitch_hz.low is None and sum(silent.pitch.counts) == 0
    assert voice.pitch_hz.low == pytest.approx(116.5, rel=0.005)
    assert voice.pitch_hz.median == pytest.approx(220, rel=0.005)
    assert voice.pitch_hz.high == pytest.approx(415.3, rel=0.005)
    assert sorted(set(voice.pitch.counts)) == [0, 12] and sum(voice.pitch.counts) == 300
    assert found.voiced_share == 0.5
    assert (
        advice_by_topic(found)["pitch span of second"].text
        == "The voice covers A#2 to G#4 (117 to 415 Hz)."
    )
    assert advice_by_topic(found)["pitch span of first"].verdict == "problem"


def test_a_prepared_dataset(sample_dataset: Path):
    reporter = KeepingReporter()
    found = audit(sample_dataset, reporter)
    info = read_info(sample_dataset)
    total = info.train_slices + info.holdout_slices
    progress = [(step.done, step.total) for step in reporter.steps]
    assert progress == [(number + 1, total) for number in range(total)]
    assert found.slices == total and found.files == info.files
    assert found.voices[0].pitch_hz.median == pytest.approx(info.median_f0, rel=0.01)
    assert 7000 < found.bandwidth_hz <= 8000
    json.dumps(to_plain(found), allow_nan=False)
    assert to_plain(audit(sample_dataset)) == to_plain(found)


def test_reading_the_worst_slices(sample_dataset: Path):
    worst = audit(sample_dataset).worst
    waves = read_waves(sample_dataset, worst)
    stored = {
        (record["source"], record["start"]): record["wave"]
        for split in ("train", "holdout")
        for record in iterate(sample_dataset, split)
    }
    for item, wave in zip(worst, waves, strict=True):
        np.testing.assert_array_equal(wave, stored[item.file, item.start])
        assert len(wave) == item.seconds * 16000


def test_other_folders_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="is not a dataset"):
        audit(tmp_path)
