"""Normalising and envelope matching against the formulas."""

import dataclasses

import numpy as np
import pytest

from rvc_jax.audio.loudness import match_volume_envelope, normalise, rms
from rvc_jax.config import PrepareConfig

CONFIG = PrepareConfig()


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=samples).astype(np.float32) * 0.1


def rms_frame_by_frame(wave, frame, hop):
    """What librosa.feature.rms computes: centred frames, zeros outside."""
    padded = np.pad(wave, frame // 2)
    starts = range(0, len(padded) - frame + 1, hop)
    return np.array([np.sqrt(np.mean(np.square(padded[start : start + frame]))) for start in starts])


@pytest.mark.parametrize(("frame", "hop", "samples"), [(2400, 600, 100001), (16000, 8000, 70000), (40, 10, 5)])
def test_rms_is_librosas(frame, hop, samples):
    wave = noise(samples)
    np.testing.assert_allclose(rms(wave, frame, hop), rms_frame_by_frame(wave, frame, hop), rtol=1e-4)


def test_rms_of_an_odd_frame_has_the_same_number_of_frames():
    assert rms(noise(1000), 33, 10).shape == (101,)


def test_normalise_follows_the_formula():
    wave = noise(1000)
    expected = wave / np.abs(wave).max() * (0.9 * 0.75) + 0.25 * wave
    np.testing.assert_allclose(normalise(wave, CONFIG), expected, rtol=1e-5)
    assert normalise(wave, CONFIG).dtype == np.float32


def test_normalise_brings_any_level_near_the_peak():
    whole = dataclasses.replace(CONFIG, normalise_mix=1.0)
    assert np.abs(normalise(noise(1000) * 1e-3, whole)).max() == pytest.approx(0.9, rel=1e-5)


def test_normalise_leaves_silence():
    assert not normalise(np.zeros(10, np.float32), CONFIG).any()
    assert normalise(np.zeros(0, np.float32), CONFIG).shape == (0,)


def _change_rms_in_torch(source, source_rate, target, target_rate, mix):
    torch = pytest.importorskip("torch")

    def envelope(wave, rate):
        levels = torch.from_numpy(rms_frame_by_frame(wave, rate // 2 * 2, rate // 2))[None, None]
        return torch.nn.functional.interpolate(levels, size=len(target), mode="linear")[0, 0].numpy()

    present = np.maximum(envelope(target, target_rate), 1e-6)
    return target * envelope(source, source_rate) ** (1 - mix) * present ** (mix - 1)


@pytest.mark.parametrize("mix", [0.0, 0.25, 0.7])
def test_matched_envelope_is_the_classic_one(mix):
    source = noise(48000) * np.linspace(0, 1, 48000, dtype=np.float32)
    target = noise(120123, seed=1) * np.linspace(1, 0, 120123, dtype=np.float32)
    expected = _change_rms_in_torch(source, 16000, target, 40000, mix)
    matched = match_volume_envelope(source, 16000, target, 40000, mix)
    assert matched.shape == target.shape and matched.dtype == np.float32
    np.testing.assert_allclose(matched, expected, rtol=1e-3, atol=1e-6)


def test_mix_of_one_changes_nothing_and_zero_follows_the_source():
    source, target = noise(160000) * 0.1, noise(400000, seed=1)
    assert match_volume_envelope(source, 16000, target, 40000, 1.0) is target
    assert match_volume_envelope(source, 16000, target, 40000, 0.0).std() == pytest.approx(source.std(), rel=0.05)


def test_silence_stays_finite():
    silence, voice = np.zeros(16000, np.float32), noise(40000)
    assert not match_volume_envelope(silence, 16000, voice, 40000, 0.5).any()
    assert not match_volume_envelope(voice, 40000, silence, 16000, 0.0).any()
