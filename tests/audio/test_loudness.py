"""Normalizing and envelope matching against the formulas."""

import dataclasses

import numpy as np
import pytest

from rvc_jax.audio import blocks as stream
from rvc_jax.audio.loudness import (
    integrated_loudness,
    match_volume_envelope,
    normalize_file,
    normalize_slice,
    rms,
)
from rvc_jax.audio.reading import load
from rvc_jax.config import PrepareConfig
from rvc_jax.data.sources import find_bundled_sample

CONFIG = PrepareConfig()


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=samples).astype(np.float32) * 0.1


def rms_frame_by_frame(wave, frame, hop):
    """What librosa.feature.rms computes: centered frames, zeros outside."""
    padded = np.pad(wave, frame // 2)
    starts = range(0, len(padded) - frame + 1, hop)
    return np.array(
        [np.sqrt(np.mean(np.square(padded[start : start + frame]))) for start in starts]
    )


@pytest.mark.parametrize(
    ("frame", "hop", "samples"), [(2400, 600, 100001), (16000, 8000, 70000), (40, 10, 5)]
)
def test_rms_is_librosas(frame, hop, samples):
    wave = noise(samples)
    np.testing.assert_allclose(
        rms(wave, frame, hop), rms_frame_by_frame(wave, frame, hop), rtol=1e-4
    )


def test_rms_of_an_odd_frame_has_the_same_number_of_frames():
    assert rms(noise(1000), 33, 10).shape == (101,)


@pytest.mark.parametrize("block", [1, 700, 10**6])
def test_rms_in_blocks_is_the_same(monkeypatch, block):
    wave = noise(20000)
    expected = rms_frame_by_frame(wave, 2400, 600)
    monkeypatch.setattr(stream, "BLOCK", block)
    np.testing.assert_allclose(rms(wave, 2400, 600), expected, rtol=1e-4)


def test_normalize_follows_the_formula():
    wave = noise(1000)
    expected = wave / np.abs(wave).max() * (0.9 * 0.75) + 0.25 * wave
    np.testing.assert_allclose(normalize_slice(wave, CONFIG), expected, rtol=1e-5)
    assert normalize_slice(wave, CONFIG).dtype == np.float32


def test_normalize_brings_any_level_near_the_peak():
    whole = dataclasses.replace(CONFIG, normalize_mix=1.0)
    assert np.abs(normalize_slice(noise(1000) * 1e-3, whole)).max() == pytest.approx(
        0.9, rel=1e-5
    )


def test_normalize_leaves_silence():
    assert not normalize_slice(np.zeros(10, np.float32), CONFIG).any()
    assert normalize_slice(np.zeros(0, np.float32), CONFIG).shape == (0,)


def _change_rms_in_torch(source, source_rate, target, target_rate, mix):
    torch = pytest.importorskip("torch")

    def envelope(wave, rate):
        levels = torch.from_numpy(rms_frame_by_frame(wave, rate // 2 * 2, rate // 2))[
            None, None
        ]
        return torch.nn.functional.interpolate(levels, size=len(target), mode="linear")[
            0, 0
        ].numpy()

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
    source = noise(160000) * 0.1
    target = noise(400000, seed=1)
    assert match_volume_envelope(source, 16000, target, 40000, 1.0) is target
    assert match_volume_envelope(source, 16000, target, 40000, 0.0).std() == pytest.approx(
        source.std(), rel=0.05
    )


def test_silence_stays_finite():
    silence = np.zeros(16000, np.float32)
    voice = noise(40000)
    assert not match_volume_envelope(silence, 16000, voice, 40000, 0.5).any()
    assert not match_volume_envelope(voice, 40000, silence, 16000, 0.0).any()


def speech(rate: int, seconds: float | None = None) -> np.ndarray:
    wave = load(find_bundled_sample("voice") / "ivr-concentrate.flac", rate)
    return wave if seconds is None else np.resize(wave, round(seconds * rate))


@pytest.mark.parametrize(("hz", "rate"), [(997, 48000), (997, 40000), (997, 32000)])
def test_loudness_of_a_full_scale_tone_is_the_standards(hz, rate):
    """BS.1770-4: a sine of 997 Hz at 0 dBFS in one channel gives -3.01 LUFS."""
    tone = np.sin(2 * np.pi * hz * np.arange(5 * rate) / rate)
    assert integrated_loudness([tone], rate) == pytest.approx(-3.01, abs=0.02)
    assert integrated_loudness([tone * 0.01], rate) == pytest.approx(-43.01, abs=0.02)


def test_quiet_parts_are_gated():
    """As in EBU Tech 3341: what is 10 LU below the rest does not count, and neither does
    silence."""
    tone = np.sin(2 * np.pi * 997 * np.arange(20 * 48000) / 48000)
    loud = integrated_loudness([tone * 0.1], 48000)
    for level in (0.0, 0.0001, 0.02):
        assert integrated_loudness([tone * 0.1, tone * level], 48000) == pytest.approx(
            loud, abs=0.05
        )
    assert integrated_loudness([tone * 0.1, tone * 0.05], 48000) == pytest.approx(
        loud - 2.04, abs=0.05
    )


@pytest.mark.parametrize("rate", [16000, 40000, 48000])
def test_loudness_of_speech_is_pyloudnorms(rate):
    pyloudnorm = pytest.importorskip("pyloudnorm")
    wave = speech(rate, 12.0)
    expected = pyloudnorm.Meter(rate, filter_class="DeMan").integrated_loudness(
        wave.astype(np.float64)
    )
    blocks = [wave[start : start + 12345] for start in range(0, len(wave), 12345)]
    assert integrated_loudness([wave], rate) == pytest.approx(expected, abs=0.01)
    assert integrated_loudness(blocks, rate) == pytest.approx(
        integrated_loudness([wave], rate), abs=1e-9
    )


def test_what_has_no_loudness():
    assert integrated_loudness([], 48000) == -np.inf
    assert integrated_loudness([speech(48000, 0.39)], 48000) == -np.inf
    assert integrated_loudness([np.zeros(96000)], 48000) == -np.inf


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize(
    ("normalization", "peak", "loudness"), [("pre", 1.0, None), ("loudness", None, -23.0)]
)
def test_a_file_is_normalized(tmp_path, monkeypatch, on_disk, normalization, peak, loudness):
    monkeypatch.setattr(stream, "IN_MEMORY_SECONDS", 0 if on_disk else 100)
    monkeypatch.setattr(stream, "BLOCK", 10000)
    original = speech(40000) * 0.5
    wave = stream.collect_blocks([original], 40000, tmp_path)
    gain, notes = normalize_file(
        wave, 40000, dataclasses.replace(CONFIG, normalization=normalization)
    )
    np.testing.assert_allclose(wave, original * gain, rtol=1e-6)
    assert peak is None or np.abs(wave).max() == pytest.approx(peak)
    assert loudness is None or integrated_loudness([wave], 40000) == pytest.approx(
        loudness, abs=0.01
    )
    assert notes == ()


def test_a_burst_of_damage_does_not_turn_the_voice_down():
    damaged = speech(40000) * 0.1
    damaged[50000:50100] = 90
    for normalization in ("pre", "loudness"):
        config = dataclasses.replace(CONFIG, normalization=normalization)
        gain, _ = normalize_file(damaged.copy(), 40000, config)
        assert gain == pytest.approx(
            normalize_file(speech(40000) * 0.1, 40000, config)[0], rel=0.05
        )


def test_loudness_stops_where_peaks_would_clip():
    wave = speech(40000)
    gain, (note,) = normalize_file(
        wave, 40000, dataclasses.replace(CONFIG, normalization="loudness", loudness_lufs=-10)
    )
    assert np.abs(wave).max() == pytest.approx(0.99, abs=1e-3) and gain > 1
    reached = integrated_loudness([wave], 40000)
    assert (
        note == f"loudness {reached:.1f} LUFS instead of -10: with more, the peaks would clip"
    )


@pytest.mark.parametrize("normalization", ["none", "pre", "post", "loudness"])
def test_silence_and_crumbs_stay_as_they_are(normalization):
    config = dataclasses.replace(CONFIG, normalization=normalization)
    dither = np.random.default_rng(0).normal(size=40000).astype(np.float32) * 1e-5
    for wave in (np.zeros(0, np.float32), np.zeros(40000, np.float32), dither):
        assert normalize_file(wave.copy(), 40000, config) == (1.0, ())
    crumb = speech(40000, 0.3)
    gain, _ = normalize_file(crumb, 40000, config)
    assert gain == 1.0 or normalization == "pre"
