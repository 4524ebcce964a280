"""Measures of slices on signals whose answer is known, and on real speech that was spoilt."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from rvc_jax.audio.filters import high_pass, resample
from rvc_jax.audio.reading import find_audio, load
from rvc_jax.data.audit.slice_metrics import CLIPPED_SHARE, MUSIC_LINES, MUSIC_NOTES
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.features.vad import speech_probability_in_slice
from rvc_jax.metrics import signal as quality

RATE = 48000


@pytest.fixture(scope="module")
def slices() -> list[np.ndarray]:
    """Real speech at 48 kHz in slices of 3 s."""
    waves = [load(path, RATE) for path in find_audio(find_bundled_sample("voice"))[:10]]
    return [
        wave[start : start + 3 * RATE]
        for wave in waves
        for start in range(0, len(wave) - 3 * RATE, 3 * RATE)
    ]


def listen(wave: np.ndarray, rate: int = RATE) -> tuple[np.ndarray, np.ndarray]:
    """Frames, and the probability of speech in them."""
    frames = quality.split_frames(wave, rate)
    return frames, speech_probability_in_slice(resample(wave, rate, 16000))[: len(frames)]


def white(wave: np.ndarray, level_db: float) -> np.ndarray:
    """White noise of that level relative to the wave's."""
    noise = np.random.RandomState(0).standard_normal(len(wave))
    return (noise * np.sqrt(np.mean(wave**2)) * 10 ** (level_db / 20)).astype(np.float32)


@pytest.mark.parametrize("ratio", [40, 20, 10, 5])
def test_the_ratio_of_speech_to_added_noise_is_found(slices, ratio):
    measured = [quality.signal_to_noise(*listen(wave + white(wave, -ratio))) for wave in slices]
    error = np.array([value for value in measured if value is not None]) - ratio
    assert len(error) >= 5
    assert abs(np.median(error)) < 1
    assert (
        np.mean(np.abs(error) < 3.5) > 0.9
    )  # in one slice a faint consonant is taken for a pause


def test_clean_speech_has_no_noise(slices):
    measured = [
        value
        for wave in slices
        if (value := quality.signal_to_noise(*listen(wave))) is not None
    ]
    assert np.median(measured) > 50 and min(measured) > 30


def test_no_ratio_without_speech_or_pause(slices):
    wave = slices[0]
    assert quality.signal_to_noise(*listen(white(wave, 0))) is None
    assert quality.signal_to_noise(*listen(wave[: RATE // 2])) is None
    frames, probability = listen(wave)
    assert quality.signal_to_noise(frames, np.ones_like(probability)) is None


def band(waves: list[np.ndarray]) -> float:
    spectra, counts = zip(*(quality.sum_spectra(*listen(wave)) for wave in waves), strict=True)
    (speech, pause) = sum(spectra)
    (speech_count, pause_count) = sum(counts)
    return quality.bandwidth(speech / speech_count, pause / pause_count)


@pytest.mark.parametrize("noise_db", [None, -40])
@pytest.mark.parametrize("edge", [4000, 8000, 11025, 16000])
def test_the_band_ends_where_it_was_cut(slices, edge, noise_db):
    """Also where noise fills the rest."""
    cut = [resample(resample(wave, RATE, 2 * edge), 2 * edge, RATE) for wave in slices]
    if noise_db is not None:
        cut = [wave + white(wave, noise_db) for wave in cut]
    assert band(cut) == pytest.approx(edge, rel=0.05)


def test_the_whole_band_is_found(slices):
    assert band(slices) > 20000
    quiet = [wave * 1e-2 for wave in slices]
    assert band(quiet) == pytest.approx(band(slices), rel=0.02)


def test_what_is_no_speech_has_no_spectrum():
    sums, counts = quality.sum_spectra(*listen(white(np.ones(3 * RATE, np.float32), -20)))
    assert not sums.any() and not counts.any()


@pytest.mark.parametrize("share", [0.01, 0.03, 0.1])
@pytest.mark.parametrize("high_pass_hz", [0.0, 48.0])
def test_clipping_is_found_after_normalization_and_filters(slices, share, high_pass_hz):
    found = []
    for wave in slices:
        ceiling = np.quantile(np.abs(wave), 1 - share)
        clipped = high_pass(
            resample(np.clip(wave, -ceiling, ceiling), RATE, 40000), 40000, high_pass_hz
        )
        found.append(
            quality.flat_top_share(0.7 * clipped / np.abs(clipped).max(), 40000, high_pass_hz)
        )
    assert min(found) > CLIPPED_SHARE
    assert 0.2 * share < np.median(found) < share


def test_clean_speech_tones_and_silence_are_not_clipped(slices):
    assert max(quality.flat_top_share(wave, RATE, 48.0) for wave in slices) < CLIPPED_SHARE
    time = np.arange(3 * RATE) / RATE
    for hz in (80, 440, 3000):
        assert (
            quality.flat_top_share(np.sin(2 * np.pi * hz * time).astype(np.float32), RATE, 0.0)
            == 0
        )
    assert quality.flat_top_share(np.zeros(RATE, np.float32), RATE, 48.0) == 0
    assert quality.flat_top_share(np.ones(10, np.float32), RATE, 48.0) == 0


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_silence_is_counted(slices, share):
    wave = slices[0][: 2 * RATE]
    own = quality.silent_share(quality.split_frames(wave, RATE))
    silent = round(len(wave) * share / (1 - share))
    padded = np.concatenate([wave, np.zeros(silent, np.float32)])
    assert quality.silent_share(quality.split_frames(padded, RATE)) == pytest.approx(
        share + own * (1 - share), abs=0.02
    )
    assert quality.silent_share(quality.split_frames(np.zeros(RATE), RATE)) == 1.0


def chord(notes: list[int], seconds: float = 3.0) -> np.ndarray:
    """Decaying tones of six harmonics, struck once a second."""
    time = np.arange(int(seconds * 16000)) / 16000
    frequencies = [440 * 2 ** ((note - 69) / 12) for note in notes]
    tones = sum(
        np.sin(2 * np.pi * hz * k * time) / k for hz in frequencies for k in range(1, 7)
    )
    return (0.1 * tones * np.exp(-2 * (time % 1.0))).astype(np.float32)


def test_chords_are_music_and_speech_is_not(slices):
    for notes in ([60, 64, 67], [50, 57, 62, 66], [48, 55, 60]):
        assert quality.steady_lines(chord(notes)) > MUSIC_LINES
    lines = [quality.steady_lines(resample(wave, RATE, 16000)) for wave in slices]
    assert max(lines) < MUSIC_LINES
    noisy = [
        quality.steady_lines(resample(wave + white(wave, -10), RATE, 16000)) for wave in slices
    ]
    assert max(noisy) < MUSIC_LINES


def test_music_under_the_voice_is_found(slices):
    found = []
    for wave in slices:
        voice = resample(wave, RATE, 16000)
        music = chord([48, 55, 60, 64])
        found.append(
            quality.steady_lines(voice + music * (0.3 * voice.std() / music.std()))
            > MUSIC_LINES
        )
    assert np.mean(found) > 0.8


def test_noise_and_silence_have_no_lines():
    assert quality.steady_lines(white(np.ones(48000, np.float32), -20)) < MUSIC_LINES / 2
    assert quality.steady_lines(np.zeros(48000, np.float32)) == 0
    assert quality.steady_lines(np.zeros(16000, np.float32)) is None


def test_a_sung_melody_holds_notes_and_a_spoken_one_does_not():
    time = np.arange(300) / 100
    vibrato = 0.4 * np.sin(2 * np.pi * 5.5 * time)
    sung = np.repeat([57.0, 60.0, 64.0], 100) + vibrato
    assert quality.held_notes(440 * 2 ** ((sung - 69) / 12)) > 0.8
    speech = 55 + 4 * np.sin(2 * np.pi * 0.9 * time) + 2 * np.sin(2 * np.pi * 2.3 * time)
    assert quality.held_notes(440 * 2 ** ((speech - 69) / 12)) < MUSIC_NOTES / 2
    assert quality.held_notes(np.zeros(300)) == 0
    assert quality.held_notes(np.full(100, 220.0)) == 0  # too short


def test_a_single_frame_is_no_pause():
    probability = np.array([1, 0, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0])
    assert np.flatnonzero(quality.find_pauses(probability)).tolist() == [
        4,
        5,
        6,
        11,
        12,
        13,
        14,
    ]


def test_a_telephone_is_narrow(slices):
    sections = scipy.signal.butter(16, [300, 3400], "bandpass", fs=RATE, output="sos")
    assert (
        3300
        < band([scipy.signal.sosfiltfilt(sections, wave).astype(np.float32) for wave in slices])
        < 4500
    )
