"""A recording in blocks is the recording as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rvc_jax.audio import blocks
from rvc_jax.audio.filters import high_pass_zero_phase, resample
from rvc_jax.audio.formants import shift_formants
from rvc_jax.audio.loudness import normalize_slice
from rvc_jax.audio.reading import decode
from rvc_jax.config import PrepareConfig
from rvc_jax.infer.chunking import CONTEXT_FRAMES
from rvc_jax.infer.recording import (
    Recording,
    RecordingError,
    Source,
    prepare_input,
)

PREPARE = PrepareConfig(preset="nano").resolved()


@pytest.fixture(scope="module")
def speech(other_clip: Path) -> tuple[np.ndarray, int]:
    wave, rate = decode(other_clip)
    return np.concatenate([wave, 0.3 * wave[:, ::-1]]), rate


def in_blocks(wave: np.ndarray, rate: int, size: int) -> Source:
    return Source(rate, (wave[:, a : a + size] for a in range(0, wave.shape[1], size)))


@pytest.mark.parametrize("size", [999, 40000])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_blocks_equal_the_whole(
    speech: tuple[np.ndarray, int], size: int, rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The samples are read as if they had this rate."""
    monkeypatch.setattr(blocks, "BLOCK", 30000)
    monkeypatch.setattr(blocks, "IN_MEMORY_SECONDS", 1)
    recording = prepare_input(in_blocks(speech[0], rate, size), PREPARE, -60.0)
    whole = high_pass_zero_phase(resample(speech[0].mean(axis=0), rate, 16000), 16000)
    assert isinstance(recording.wave, np.memmap)
    assert (recording.samples, recording.rate, recording.channels) == (
        speech[0].shape[1],
        rate,
        2,
    )
    np.testing.assert_allclose(recording.wave, whole, atol=3e-7)
    np.testing.assert_allclose(
        recording.read(5000, 9000), normalize_slice(whole, PREPARE)[5000:9000], atol=1e-6
    )


@pytest.mark.parametrize("samples", [3, 700, 60000])
def test_reads_reflect_beyond_the_ends(samples: int) -> None:
    wave = np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    recording = Recording(wave, 0.5, -60.0, samples, 16000, 1)
    expected = 0.5 * np.pad(wave, (2000, 3000), mode="reflect")
    np.testing.assert_allclose(recording.read(-2000, samples + 3000), expected, atol=1e-6)
    np.testing.assert_allclose(
        recording.read(samples - 2, samples + 9), expected[2000 + samples - 2 :][:11], atol=1e-6
    )


def test_formant_shift_in_windows_equals_the_whole(speech: tuple[np.ndarray, int]) -> None:
    wave = speech[0][0]
    recording = Recording(wave, 0.5, -60.0, len(wave), 16000, 1, 3.0)
    start = 23040
    stop = 76800
    expected = 0.5 * shift_formants(wave, 3.0)[start:stop]
    np.testing.assert_allclose(recording.read_formant_shifted(start, stop), expected, atol=1e-6)


def test_the_level_is_that_of_the_training(speech: tuple[np.ndarray, int]) -> None:
    for normalization, peak in (("pre", 1.0), ("none", None)):
        prepare = PrepareConfig(preset="nano", normalization=normalization).resolved()
        recording = prepare_input(in_blocks(speech[0], 16000, 40000), prepare, -60.0)
        leveled = recording.read(0, len(recording.wave))
        expected = peak or np.abs(recording.wave).max()
        assert np.abs(leveled).max() == pytest.approx(expected, rel=1e-5)
    for silence in (0.0, 0.0003):  # of a peak of -80 dB of full scale
        faint = in_blocks(silence * speech[0], 16000, 40000)
        assert prepare_input(faint, PREPARE, -60.0).gain == 1
    given = prepare_input(in_blocks(speech[0], 16000, 40000), PREPARE, -60.0, gain=0.25)
    assert given.gain == 0.25


def test_the_gate_is_open_around_sound() -> None:
    wave = np.zeros(160 * 400, np.float32)
    wave[160 * 200 : 160 * 210] = 0.5
    recording = Recording(wave, 1.0, -60.0, len(wave), 16000, 1)
    gate = recording.compute_gate()
    assert gate.shape == (401,) and (gate[195:215] == 1).all()
    assert (
        (gate[:180] == 0).all()
        and (gate[230:] == 0).all()
        and (np.diff(gate[180:200]) >= 0).all()
    )
    assert recording.pad_audible().shape == (400 + 2 * CONTEXT_FRAMES,)


def test_the_side_is_half_the_difference(speech: tuple[np.ndarray, int]) -> None:
    expected = resample((speech[0][0] - speech[0][1]) / 2, 44100, 16000)
    recording = prepare_input(in_blocks(speech[0], 44100, 999), PREPARE, -60.0, side_rate=16000)
    np.testing.assert_allclose(recording.side, expected, atol=1e-6)
    mono = prepare_input(in_blocks(speech[0][:1], 44100, 999), PREPARE, -60.0, side_rate=16000)
    assert mono.side is None


@pytest.mark.parametrize(
    ("samples", "rate"), [(1, 48000), (160, 16000), (441, 44100), (1600, 16000)]
)
def test_short_recordings_are_padded(samples: int, rate: int) -> None:
    recording = prepare_input(
        Source.from_array(np.full(samples, 0.5, np.float32), rate), PREPARE, -60.0
    )
    assert len(recording.wave) == 1600 and recording.frames == 10
    assert recording.length_at(40000) == round(samples * 40000 / rate)


def test_bad_samples_are_refused() -> None:
    with pytest.raises(RecordingError, match="there is no sample in it"):
        prepare_input(Source.from_array(np.zeros((2, 0), np.float32), 16000), PREPARE, -60.0)
    broken = np.zeros((2, 50000), np.float32)
    broken[0, 5] = broken[1, 5] = broken[0, 40000] = np.nan
    broken[1, 7] = np.inf
    with pytest.raises(RecordingError, match="3 of 50000 samples are not numbers"):
        prepare_input(in_blocks(broken, 16000, 999), PREPARE, -60.0)


@pytest.mark.parametrize("normalization", ["none", "pre", "post", "loudness"])
def test_quiet_recordings_get_the_gate_of_loud_ones(
    speech: tuple[np.ndarray, int], normalization: str
) -> None:
    prepare = PrepareConfig(preset="nano", normalization=normalization).resolved()
    loud = speech[0][:1] / np.abs(speech[0][:1]).max() * 0.1
    expected = prepare_input(in_blocks(loud, 16000, 40000), prepare, -35.0)
    assert 0.5 < expected.audible.mean() < 1
    leveled = np.abs(expected.read(0, len(expected.wave))).max()
    for decibels in (-20, -35, -50):
        quiet = loud * np.float32(10 ** (decibels / 20))
        found = prepare_input(in_blocks(quiet, 16000, 40000), prepare, -35.0)
        assert np.abs(found.read(0, len(found.wave))).max() == pytest.approx(leveled, rel=0.15)
        assert (found.audible == expected.audible).mean() > 0.99


def test_a_slammed_door_does_not_hide_quiet_speech(speech: tuple[np.ndarray, int]) -> None:
    quiet = speech[0][:1] / np.abs(speech[0][:1]).max() * 0.003
    expected = prepare_input(in_blocks(quiet, 16000, 40000), PREPARE, -60.0)
    slammed = quiet.copy()
    slammed[:, 30000:34000] += np.random.default_rng(0).normal(0, 0.2, 4000).astype(np.float32)
    found = prepare_input(in_blocks(slammed, 16000, 40000), PREPARE, -60.0)
    assert 20 * np.log10(expected.gain / found.gain) < 13
    assert (found.audible >= expected.audible).mean() > 0.98
