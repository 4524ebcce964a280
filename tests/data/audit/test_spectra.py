"""Bandwidth, and files that sound duller than the rest."""

from __future__ import annotations

import numpy as np
import pytest
from audits import RATE, advice_by_topic, audit_files

from rvc_jax.audio.filters import resample
from rvc_jax.data.audit.advice import recommend_preset


@pytest.mark.parametrize(("edge", "preset"), [(8000, "32k"), (16000, "32k"), (20000, "40k")])
def test_low_passed_speech_gets_a_lower_preset(speech, edge, preset):
    cut = {
        name: resample(resample(wave, RATE, 2 * edge), 2 * edge, RATE)
        for name, wave in speech.items()
    }
    found = audit_files(cut)
    assert found.bandwidth_hz == pytest.approx(edge, rel=0.06)
    assert recommend_preset(found) == preset
    advice = advice_by_topic(found)["sample rate and preset"]
    assert advice.verdict == "problem"
    band = f"{found.bandwidth_hz / 1000:.1f} kHz"
    text = f"This 48 kHz dataset holds next to nothing above {band}: train {preset}."
    assert advice.text == text


def test_one_dull_file_is_named(speech):
    dull, *_ = names = list(speech)
    files = speech | {dull: resample(resample(speech[dull], RATE, 8000), 8000, RATE)}
    found = audit_files({name: np.tile(files[name], 2) for name in names})
    assert [item.file for item in found.narrow_files] == [dull]
    assert found.narrow_files[0].bandwidth_hz == pytest.approx(4000, rel=0.05)
    assert found.bandwidth_hz > 17000
    assert "dull files" in advice_by_topic(found)
    assert {item.file for item in found.worst if "nothing above" in " ".join(item.reasons)} == {
        dull
    }


def test_one_noisy_file_does_not_hide_the_band_of_the_others(speech, clean):
    first, *_ = speech
    noise = np.random.RandomState(0).standard_normal(len(speech[first]))
    found = audit_files(
        speech | {first: (speech[first] + noise * speech[first].std() * 0.2).astype(np.float32)}
    )
    assert found.bandwidth_hz == pytest.approx(clean.bandwidth_hz, rel=0.02)
