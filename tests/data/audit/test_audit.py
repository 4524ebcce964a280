"""Audits of datasets whose faults are known: real speech, spoilt in one way at a time."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from reporting import KeepingReporter

from rvc_jax.audio.filters import high_pass, resample
from rvc_jax.audio.reading import find_audio, load
from rvc_jax.cli.display import to_plain
from rvc_jax.config import PRESETS, PrepareConfig, to_dict
from rvc_jax.data.audit.advice import Advice, advise, name_note, recommend_preset
from rvc_jax.data.audit.audit import WORST, Audit, audit, measure, read_waves
from rvc_jax.data.dataset import DatasetInfo, Drop, iterate, read_info
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.errors import UserError

RATE = 48000
Files = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def speech() -> Files:
    """Ten recordings of the bundled voice, 48 kHz."""
    return {
        path.name: load(path, RATE) for path in find_audio(find_bundled_sample("voice"))[:10]
    }


def describe(
    preset: str, files: int, minutes: float, slices: int, speakers: tuple[str, ...]
) -> DatasetInfo:
    return DatasetInfo(
        preset=preset,
        sample_rate=PRESETS[preset].audio.sample_rate,
        content_encoder="whisper-tiny",
        content_channels=384,
        content_fingerprint="",
        f0_method="swift",
        speakers=speakers,
        speaker_minutes=(minutes / len(speakers),) * len(speakers),
        speaker_median_f0=(200.0,) * len(speakers),
        files=files,
        source_minutes=minutes,
        speech_minutes=minutes,
        train_slices=slices,
        holdout_slices=0,
        holdout_seconds=0.0,
        dropped=(),
        notes=(),
        config=to_dict(PrepareConfig(preset=preset)),
        fingerprint="",
        median_f0=200.0,
    )


def records(
    files: Files, preset: str, held_out: tuple[str, ...] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Slices of 3 s as preparation makes them: high-passed, and each brought to the same peak."""
    rate = PRESETS[preset].audio.sample_rate
    for name, original in files.items():
        wave = high_pass(resample(original, RATE, rate), rate)
        for start in range(0, max(len(wave) - rate, 1), 3 * rate):
            part = wave[start : start + 3 * rate]
            part = part[: len(part) // (rate // 100) * (rate // 100)]
            melody = 200 * 2 ** (0.4 * np.sin(np.arange(len(part) * 100 // rate) / 20))
            record = {"wave": 0.9 * part / max(np.abs(part).max(), 1e-9), "f0": melody}
            split = "holdout" if name in held_out else "train"
            yield split, record | {"speaker": 0, "source": name, "start": start / rate}


def audited(files: Files, preset: str = "48k", held_out: tuple[str, ...] = ()) -> Audit:
    made = list(records(files, preset, held_out))
    minutes = sum(map(len, files.values())) / RATE / 60
    return measure(describe(preset, len(files), minutes, len(made), ("voice",)), made, "test")


def topics(audit: Audit) -> dict[str, Advice]:
    return {advice.topic: advice for advice in advise(audit)}


@pytest.fixture(scope="module")
def clean(speech) -> Audit:
    return audited(speech)


def test_a_clean_dataset_is_called_clean(clean):
    assert clean.signal_to_noise_spread.median > 50 and clean.noisy_slices == 0
    assert clean.clipped_slices == clean.music_slices == 0 and clean.dc_offset < 1e-3
    assert clean.repeated == () and clean.repeated_seconds == 0
    assert clean.bandwidth_hz > 20000  # half of the files were cut near 17 kHz, as coders do
    assert clean.speech_share > 0.85 and clean.silence_share < 0.2
    assert topics(clean)["cleaning"].text == "Nothing needs cleaning."
    assert len(clean.worst) == WORST
    assert all(
        item.severity < 1 and item.reasons[0].startswith("no fault") for item in clean.worst
    )


def test_durations_and_counts(speech, clean):
    assert sum(clean.durations.counts) == clean.slices == clean.train_slices
    whole = sum(len(wave) // (3 * RATE) for wave in speech.values())
    assert clean.durations.counts[clean.durations.edges.index(3.0)] == whole
    assert clean.slice_minutes <= clean.source_minutes


@pytest.mark.parametrize(("edge", "preset"), [(8000, "32k"), (16000, "32k"), (20000, "40k")])
def test_a_low_passed_dataset_is_told_its_preset(speech, edge, preset):
    cut = {
        name: resample(resample(wave, RATE, 2 * edge), 2 * edge, RATE)
        for name, wave in speech.items()
    }
    found = audited(cut)
    assert found.bandwidth_hz == pytest.approx(edge, rel=0.06)
    assert recommend_preset(found) == preset
    advice = topics(found)["sample rate and preset"]
    assert advice.verdict == "problem"
    assert (
        advice.text
        == f"This 48 kHz dataset holds next to nothing above {found.bandwidth_hz / 1000:.1f} kHz: train {preset}."
    )


def test_a_preset_that_the_speech_fills_is_right(speech):
    found = audited(speech, "32k")
    advice = topics(found)["sample rate and preset"]
    assert (advice.verdict, recommend_preset(found)) == ("good", "32k")
    assert "may hold more" in advice.reason
    of_v1 = dataclasses.replace(found, preset="48k-v1", sample_rate=48000)
    assert recommend_preset(of_v1) == "32k-v1"
    assert recommend_preset(dataclasses.replace(found, preset="nano")) is None


def test_one_dull_file_is_named(speech):
    dull, *_ = names = list(speech)
    files = speech | {dull: resample(resample(speech[dull], RATE, 8000), 8000, RATE)}
    found = audited({name: np.tile(files[name], 2) for name in names})
    assert [item.file for item in found.narrow_files] == [dull]
    assert found.narrow_files[0].bandwidth_hz == pytest.approx(4000, rel=0.05)
    assert found.bandwidth_hz > 17000
    assert "dull files" in topics(found)
    assert {item.file for item in found.worst if "nothing above" in " ".join(item.reasons)} == {
        dull
    }


def test_one_noisy_file_does_not_hide_the_band_of_the_others(speech, clean):
    first, *_ = speech
    noise = np.random.RandomState(0).standard_normal(len(speech[first]))
    found = audited(
        speech | {first: (speech[first] + noise * speech[first].std() * 0.2).astype(np.float32)}
    )
    assert found.bandwidth_hz == pytest.approx(clean.bandwidth_hz, rel=0.02)


@pytest.mark.parametrize(("ratio", "verdict"), [(25, "notice"), (10, "problem")])
def test_noise_is_measured(speech, ratio, verdict):
    noise = np.random.RandomState(0)
    noisy = {
        name: (
            wave + noise.standard_normal(len(wave)) * wave.std() * 10 ** (-ratio / 20)
        ).astype(np.float32)
        for name, wave in speech.items()
    }
    found = audited(noisy)
    assert found.signal_to_noise_spread.median == pytest.approx(ratio, abs=2)
    assert topics(found)["noise"].verdict == verdict
    assert (found.noisy_slices > 10) == (ratio < 20)
    assert "the signal-to-noise ratio is" in found.worst[0].reasons[0]


def test_clipped_files_are_found(speech):
    loud = list(speech)[:4]
    clipped = {
        name: np.clip(wave, *np.quantile(wave, [0.02, 0.98]))
        for name, wave in speech.items()
        if name in loud
    }
    found = audited(speech | clipped)
    of_them = sum(split["source"] in loud for _, split in records(speech, "48k"))
    assert found.clipped_slices == of_them
    assert topics(found)["clipping"].verdict == "problem"
    assert {item.file for item in found.worst if "clipped" in item.reasons[0]} <= set(loud)


def test_a_constant_offset_is_found(speech):
    info = describe("48k", 1, 1.0, 10, ("voice",))
    made = list(records(speech, "48k"))
    made[0][1]["wave"] = made[0][1]["wave"] + np.float32(0.05)
    found = measure(info, made, "test")
    assert found.dc_offset == pytest.approx(0.05, abs=1e-3)
    assert "offset" in topics(found)


def coded(wave: np.ndarray) -> np.ndarray:
    """Through MP3 and back."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, RATE, format="MP3")
    buffer.seek(0)
    return soundfile.read(buffer, dtype="float32")[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda wave: wave,
        lambda wave: 0.1 * wave,
        lambda wave: coded(wave),
        lambda wave: wave[RATE // 3 :],
    ],
    ids=["another name", "another gain", "another coding", "cut elsewhere"],
)
def test_a_copied_file_is_found(speech, change):
    first = list(speech)[2]
    found = audited(speech | {"zz-copy.wav": change(speech[first])})
    assert [(item.first, item.second) for item in found.repeated] == [(first, "zz-copy.wav")]
    length = len(speech[first]) / RATE
    assert 0.7 * length < found.repeated_seconds < 1.05 * length
    assert "repetition" in topics(found)
    assert {item.file for item in found.worst if "also in" in " ".join(item.reasons)} == {
        "zz-copy.wav"
    }


def test_a_holdout_that_the_training_hears_is_told(speech):
    first = list(speech)[0]
    found = audited(speech | {"copy.wav": speech[first]}, held_out=("copy.wav",))
    assert found.holdout_in_train_seconds == pytest.approx(len(speech[first]) / RATE, rel=0.1)
    assert "hold-out" in topics(found)


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
    found = audited(padded)
    assert found.silence_share == pytest.approx(2 / 3, abs=0.06)
    assert found.speech_share < 0.5
    assert {"silence", "other than speech"} <= set(topics(found))


def test_music_is_found(speech):
    time = np.arange(9 * RATE) / RATE
    tones = sum(
        np.sin(2 * np.pi * hz * k * time) / k for hz in (131, 196, 330) for k in range(1, 6)
    )
    found = audited(
        speech | {"music.wav": (0.1 * tones * np.exp(-2 * (time % 1))).astype(np.float32)}
    )
    assert found.music_slices == 3
    worst = {item.file for item in found.worst[:3]}
    assert worst == {"music.wav"}
    assert "music" in topics(found)


def test_pitch_is_told_in_notes():
    """A scale from A2 to A4: the span leaves out 5 % at either end."""
    rate = 32000
    f0 = np.repeat(110 * 2 ** (np.arange(25) / 12), 12)
    record = {
        "wave": np.zeros(300 * rate // 100, np.float32),
        "speaker": 1,
        "source": "a",
        "start": 0.0,
    }
    info = describe("32k", 1, 1.0, 1, ("first", "second"))
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
        topics(found)["pitch span of second"].text
        == "The voice covers A#2 to G#4 (117 to 415 Hz)."
    )
    assert topics(found)["pitch span of first"].verdict == "problem"


@pytest.mark.parametrize(
    ("hz", "name"), [(440, "A4"), (261.63, "C4"), (27.5, "A0"), (466, "A#4"), (1046.5, "C6")]
)
def test_names_of_notes(hz, name):
    assert name_note(hz) == name


@pytest.mark.parametrize(
    ("minutes", "verdict"),
    [(2, "problem"), (7, "notice"), (20, "good"), (45, "good"), (200, "good")],
)
def test_how_much_speech_is_enough(clean, minutes, verdict):
    voices = (dataclasses.replace(clean.voices[0], minutes=minutes),)
    advice = topics(dataclasses.replace(clean, voices=voices))["amount of speech"]
    assert advice.verdict == verdict
    assert ("more than a voice needs" in advice.text) == (minutes > 60)


def test_many_speakers_share_one_line(clean):
    voices = tuple(
        dataclasses.replace(clean.voices[0], name=f"s{i}", minutes=3.0 * i) for i in range(6)
    )
    advice = topics(dataclasses.replace(clean, voices=voices))
    assert advice["amount of speech"].text == "4 of 6 speakers have less than 10 minutes."
    assert not any(topic.startswith("pitch span") for topic in advice)


@pytest.mark.parametrize(
    ("slices", "epochs"), [(440, "180 to 450"), (80, "500 to 1000"), (50000, "20 to 50")]
)
def test_epochs_follow_from_steps(clean, slices, epochs):
    """20 minutes are 440 slices, 55 steps an epoch."""
    advice = topics(dataclasses.replace(clean, train_slices=slices))["epochs"]
    assert advice.text == f"Train {epochs} epochs."
    assert (
        topics(dataclasses.replace(clean, preset="nano"))["epochs"].text
        == "Train the preset's own 50 epochs."
    )


def test_what_was_dropped_is_counted_by_reason(speech):
    made = list(records(speech, "48k"))
    info = describe("48k", 1, 1.0, len(made), ("voice",))
    dropped = (
        Drop("a", 1.0, "clipped"),
        Drop("b", None, "not audio"),
        Drop("c", 2.0, "clipped"),
    )
    found = measure(dataclasses.replace(info, dropped=dropped), made[:3], "test")
    assert found.dropped == {"clipped": 2, "not audio": 1}
    assert topics(found)["dropped"].reason == "clipped (2), not audio (1)"


@pytest.mark.parametrize("samples", [480, 4800, 48000 * 3])
def test_slices_of_nothing_are_measured_too(samples):
    record = {
        "wave": np.zeros(samples, np.float32),
        "f0": np.zeros(samples // 480),
        "speaker": 0,
    }
    found = measure(
        describe("48k", 1, 0.0, 1, ("nobody",)),
        [("train", record | {"source": "zeros.wav", "start": 0.0})],
        "test",
    )
    assert (found.bandwidth_hz, found.spectrum, found.speech_share) == (0.0, None, 0.0)
    assert found.worst[0].severity > 1
    assert topics(found)["sample rate and preset"].verdict == "problem"
    json.dumps(to_plain(found), allow_nan=False)


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


def test_the_sound_of_slices_is_found_again(sample_dataset: Path):
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


def test_what_is_no_dataset_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="is not a dataset"):
        audit(tmp_path)
