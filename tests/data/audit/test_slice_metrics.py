"""Faults of slices: real speech, spoiled in one way at a time."""

from __future__ import annotations

import json

import numpy as np
import pytest
from audits import RATE, advice_by_topic, audit_files, describe_dataset, make_records

from rvc_jax.cli.display import to_plain
from rvc_jax.data.audit.audit import measure


@pytest.mark.parametrize(("ratio", "verdict"), [(25, "notice"), (10, "problem")])
def test_noise_is_measured(speech, ratio, verdict):
    noise = np.random.RandomState(0)
    noisy = {
        name: (
            wave + noise.standard_normal(len(wave)) * wave.std() * 10 ** (-ratio / 20)
        ).astype(np.float32)
        for name, wave in speech.items()
    }
    found = audit_files(noisy)
    assert found.signal_to_noise_spread.median == pytest.approx(ratio, abs=2)
    assert advice_by_topic(found)["noise"].verdict == verdict
    assert (found.noisy_slices > 10) == (ratio < 20)
    assert "the signal-to-noise ratio is" in found.worst[0].reasons[0]


def test_clipped_files_are_found(speech):
    loud = list(speech)[:4]
    clipped = {
        name: np.clip(wave, *np.quantile(wave, [0.02, 0.98]))
        for name, wave in speech.items()
        if name in loud
    }
    found = audit_files(speech | clipped)
    of_them = sum(split["source"] in loud for _, split in make_records(speech, "48k"))
    assert found.clipped_slices == of_them
    assert advice_by_topic(found)["clipping"].verdict == "problem"
    assert {item.file for item in found.worst if "clipped" in item.reasons[0]} <= set(loud)


def test_a_constant_offset_is_found(speech):
    info = describe_dataset("48k", 1, 1.0, 10, ("voice",))
    made = list(make_records(speech, "48k"))
    made[0][1]["wave"] = made[0][1]["wave"] + np.float32(0.05)
    found = measure(info, made, "test")
    assert found.dc_offset == pytest.approx(0.05, abs=1e-3)
    assert "offset" in advice_by_topic(found)


def test_padded_silence_is_counted(speech):
    padded = {
        name: np.concatenate(
            [
                np.pad(wave[at : at + RATE], (0, 2 * RATE))
                for at in range(0, len(wave) - RATE, RATE)
            ]
        )
        for name, wave in speech.items()
    }
    found = audit_files(padded)
    assert found.silence_share == pytest.approx(2 / 3, abs=0.06)
    assert found.speech_share < 0.5
    assert {"silence", "other than speech"} <= set(advice_by_topic(found))


def test_music_is_found(speech):
    time = np.arange(9 * RATE) / RATE
    tones = sum(
        np.sin(2 * np.pi * hz * k * time) / k for hz in (131, 196, 330) for k in range(1, 6)
    )
    found = audit_files(
        speech | {"music.wav": (0.1 * tones * np.exp(-2 * (time % 1))).astype(np.float32)}
    )
    assert found.music_slices == 3
    worst = {item.file for item in found.worst[:3]}
    assert worst == {"music.wav"}
    assert "music" in advice_by_topic(found)


@pytest.mark.parametrize("samples", [480, 4800, 48000 * 3])
def test_silent_slices_are_measured(samples):
    record = {
        "wave": np.zeros(samples, np.float32),
        "f0": np.zeros(samples // 480),
        "speaker": 0,
    }
    found = measure(
        describe_dataset("48k", 1, 0.0, 1, ("nobody",)),
        [("train", record | {"source": "zeros.wav", "start": 0.0})],
        "test",
    )
    assert (found.bandwidth_hz, found.spectrum, found.speech_share) == (0.0, None, 0.0)
    assert found.worst[0].severity > 1
    assert advice_by_topic(found)["sample rate and preset"].verdict == "problem"
    json.dumps(to_plain(found), allow_nan=False)
