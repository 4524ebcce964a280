"""The voice among channels and tracks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_recordings import make

from rvc_jax.audio.reading import AudioError, decode, find_audio, load
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.features.voice_source import open_voice

RATE = 16000
SECONDS = 4


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    path = find_bundled_sample("voice") / "zrtp-enroll_confirmed.flac"
    return load(path, RATE)[: SECONDS * RATE]


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SECONDS * RATE).astype(np.float32) * 0.05


def chords() -> np.ndarray:
    time = np.arange(SECONDS * RATE) / RATE
    tones = [
        np.sin(2 * np.pi * hz * time) * (np.sin(12 * time + hz) > 0) for hz in (220, 277, 330)
    ]
    return np.float32(0.1 * sum(tones))


def read(path: Path, *channels: np.ndarray, **options: int) -> tuple[np.ndarray, list[str]]:
    soundfile.write(path / "a.wav", np.stack(channels, axis=1), RATE, "FLOAT")
    opened = open_voice(path / "a.wav", **options)
    return np.concatenate(list(opened.blocks), axis=1).mean(axis=0), opened.notes


def test_an_ordinary_stereo_recording_is_the_mean(
    tmp_path: Path, voice: np.ndarray, noise: np.ndarray
) -> None:
    for left, right in ((voice, voice), (voice + noise / 10, np.roll(voice, 2) * 0.7)):
        mono, notes = read(tmp_path, left, right)
        np.testing.assert_array_equal(mono, np.stack([left, right]).mean(axis=0))
        assert not notes


def test_the_channels_that_have_the_voice(
    tmp_path: Path, voice: np.ndarray, noise: np.ndarray
) -> None:
    silence = np.zeros_like(voice)
    music = chords()
    eight = [silence] * 8
    eight[6] = voice * 0.1
    cases = [
        ((voice, -voice), voice, "opposite"),
        ((voice, -0.8 * voice), 0.9 * voice, "opposite"),
        ((silence, voice), voice, "channel 2 of 2"),
        ((voice, noise), voice, "channel 1 of 2"),
        ((music * 2, voice * 0.5), voice * 0.5, "channel 2 of 2"),
        ((silence, silence, voice, silence, silence, silence), voice, "channel 3 of 6"),
        ((music, music, voice, silence, music, music), voice, "channel 3 of 6"),
        (tuple(eight), voice * 0.1, "channel 7 of 8"),
    ]
    for channels, expected, note in cases:
        mono, notes = read(tmp_path, *channels)
        np.testing.assert_allclose(mono, expected, atol=1e-6, err_msg=note)
        assert len(notes) == 1 and note in notes[0]


def test_a_voice_in_the_middle_of_music_in_opposite_phase(
    tmp_path: Path, voice: np.ndarray
) -> None:
    music = chords()
    mono, notes = read(tmp_path, voice + music, voice - 0.8 * music)
    np.testing.assert_allclose(mono, voice + 0.1 * music, atol=1e-6)
    assert not notes


def test_two_speakers_on_two_sides_stay(tmp_path: Path, voice: np.ndarray) -> None:
    other = load(find_audio(find_bundled_sample("other"))[0], RATE)
    other = np.resize(other, len(voice)) * 0.9
    mono, notes = read(tmp_path, voice, other)
    np.testing.assert_array_equal(mono, np.stack([voice, other]).mean(axis=0))
    assert not notes


def test_a_channel_by_its_number(tmp_path: Path, voice: np.ndarray, noise: np.ndarray) -> None:
    mono, notes = read(tmp_path, voice, noise, channel=2)
    np.testing.assert_array_equal(mono, noise)
    assert not notes
    with pytest.raises(AudioError, match="it has no channel 3: there are 2"):
        read(tmp_path, voice, noise, channel=3)


@pytest.mark.parametrize(("bits", "scale"), [(16, 2.0**15), (24, 2.0**23), (32, 2.0**31)])
@pytest.mark.parametrize("is_integer", [False, True])
def test_samples_scaled_as_integers(
    tmp_path: Path, voice: np.ndarray, bits: int, scale: float, is_integer: bool
) -> None:
    loud = voice / np.abs(voice).max() * np.float32(0.9 * scale)
    mono, notes = read(tmp_path, np.rint(loud) if is_integer else loud)
    assert np.abs(mono).max() == pytest.approx(0.9, rel=1e-3)
    (note,) = notes
    assert f"integers of {bits} bits" in note
    for peak in (0.5, 1.9):
        mono, notes = read(tmp_path, voice / np.abs(voice).max() * np.float32(peak))
        assert np.abs(mono).max() == pytest.approx(peak) and not notes


def test_the_first_track_with_a_voice(tmp_path: Path, voice: np.ndarray) -> None:
    wave = np.repeat(voice, 3)[None, : SECONDS * 48000]
    path = tmp_path / "a.mkv"
    for tracks, number in (((wave * 0, wave), 2), ((wave, wave * 0.5), 1)):
        path.write_bytes(make("mkv", *tracks))
        opened = open_voice(path)
        samples = np.concatenate(list(opened.blocks), axis=1)
        assert f"track {number} of 2 is used" in opened.notes[0]
        assert np.std(samples) == pytest.approx(np.std(wave), rel=0.3)
    opened = open_voice(path, track=2)
    assert not opened.notes
    assert np.std(next(iter(opened.blocks))) < 0.8 * np.std(wave)


def test_a_long_recording_is_judged_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, voice: np.ndarray
) -> None:
    from rvc_jax.features import voice_source

    monkeypatch.setattr(voice_source, "_HELD_VALUES", 8000)
    silence = np.zeros_like(voice)
    quiet = np.concatenate([silence, voice])
    mono, _ = read(tmp_path, quiet, -quiet)
    np.testing.assert_allclose(mono, quiet, atol=1e-6)
    assert decode(tmp_path / "a.wav")[0].shape == (2, len(quiet))
