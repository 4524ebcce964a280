"""Sound that is in a dataset twice."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from audits import RATE, advice_by_topic, audit_files


def through_mp3(wave: np.ndarray) -> np.ndarray:
    """Return a wave after MP3 coding."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, RATE, format="MP3")
    buffer.seek(0)
    return soundfile.read(buffer, dtype="float32")[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda wave: wave,
        lambda wave: 0.1 * wave,
        through_mp3,
        lambda wave: wave[RATE // 3 :],
    ],
    ids=["another name", "another gain", "another coding", "cut elsewhere"],
)
def test_a_copied_file_is_found(speech, change):
    first = list(speech)[2]
    found = audit_files(speech | {"zz-copy.wav": change(speech[first])})
    assert [(item.first, item.second) for item in found.repeated] == [(first, "zz-copy.wav")]
    length = len(speech[first]) / RATE
    assert 0.7 * length < found.repeated_seconds < 1.05 * length
    assert "repetition" in advice_by_topic(found)
    assert {item.file for item in found.worst if "also in" in " ".join(item.reasons)} == {
        "zz-copy.wav"
    }


def test_a_holdout_within_the_training_is_reported(speech):
    first = next(iter(speech))
    found = audit_files(speech | {"copy.wav": speech[first]}, held_out=("copy.wav",))
    assert found.holdout_in_train_seconds == pytest.approx(len(speech[first]) / RATE, rel=0.1)
    assert "hold-out" in advice_by_topic(found)
