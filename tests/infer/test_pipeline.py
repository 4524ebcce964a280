"""Conversion of whole recordings with small voices."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from rvc_jax.audio.io import decode, load
from rvc_jax.audio.loudness import rms
from rvc_jax.config import PRESETS, ConvertConfig, PrepareConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.chunks import plan_chunks
from rvc_jax.infer.pipeline import Converter
from rvc_jax.infer.voice import Voice
from rvc_jax.models.synthesizer import synthesizer
from rvc_jax.runs import RunFolder


def fresh_voice(**changes) -> Voice:
    preset = PRESETS["nano"]
    network = synthesizer(preset.generator, preset.audio)
    prepare = PrepareConfig(preset="nano").resolved()
    channels = preset.generator.inter_channels
    voice = Voice(network, network.init(5), preset.audio, channels, "whisper-tiny", prepare=prepare)
    return dataclasses.replace(voice, **changes)


def local_voice() -> Voice:
    """A voice whose attention is mute: no frame depends on frames further away than the context of a chunk."""
    voice = fresh_voice()
    mute = {name: 0 * value for name, value in voice.parameters.items() if ".conv_o." in name}
    assert len(mute) == 4
    loud_source = {"dec.m_source.l_linear.weight": np.float32([[5.0]])}
    return dataclasses.replace(voice, parameters=voice.parameters | mute | loud_source)


@pytest.fixture(scope="module")
def clip(other_clip: Path) -> np.ndarray:
    return load(other_clip, 16000)


@pytest.fixture(scope="module")
def converter() -> Converter:
    return Converter(fresh_voice(), ConvertConfig())


@pytest.fixture(scope="module")
def trained(tiny_run: Path) -> Voice:
    return Voice.from_run(RunFolder.open(tiny_run))


def decibels(error: np.ndarray, reference: np.ndarray) -> float:
    """Level of an error below a reference, whose constant part does not count: fresh networks have a large one."""
    return float(20 * np.log10(np.linalg.norm(error) / np.linalg.norm(reference - reference.mean())))


@pytest.mark.parametrize("noise_scale", [0.0, 0.66666])
def test_chunks_sound_like_one_pass(clip: np.ndarray, noise_scale: float) -> None:
    """The sine's phase, the noise and the context of every chunk are those of the whole recording."""
    voice, config = local_voice(), ConvertConfig(noise_scale=noise_scale)
    assert len(plan_chunks(710, (336,))) == 3 and len(plan_chunks(710, (832,))) == 1
    one_pass = Converter(voice, config, (832,)).convert(clip, 16000)
    in_chunks = Converter(voice, config, (336,)).convert(clip, 16000)
    assert np.std(one_pass) > 0.001
    assert decibels(in_chunks - one_pass, one_pass) < -60


def test_attention_over_chunks_changes_little(clip: np.ndarray, trained: Voice) -> None:
    """Attention sees the chunk alone; everything else is continuous, so the sound stays nearly the same."""
    one_pass = Converter(trained, ConvertConfig(), (832,)).convert(clip, 16000)
    in_chunks = Converter(trained, ConvertConfig(), (336,)).convert(clip, 16000)
    assert decibels(in_chunks - one_pass, one_pass) < -30


@pytest.mark.parametrize(("samples", "rate"), [(1700, 16000), (44101, 44100), (30001, 22050), (100003, 48000)])
def test_length_is_exact(converter: Converter, samples: int, rate: int) -> None:
    wave = 0.1 * np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    assert len(converter.convert(wave, rate)) == round(samples * 16000 / rate)


def test_a_second_recording_compiles_nothing(converter: Converter, clip: np.ndarray) -> None:
    converter.convert(clip, 16000)
    compiled = []
    listener = lambda event, seconds, **_: compiled.append(event) if "compile" in event else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        converter.convert(clip[:45000], 16000)
        converter.convert(clip[3000:100001], 22050)
        assert compiled == []
        jax.jit(lambda x: x * 3.25 + len(compiled))(1.0)
        assert compiled != []  # the listener does hear of compilations
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


def test_channels_are_mixed_and_the_seed_decides(clip: np.ndarray) -> None:
    short = clip[:30000]
    voice = fresh_voice()
    one = Converter(voice, ConvertConfig()).convert(short, 16000)
    same = Converter(voice, ConvertConfig()).convert(np.stack([short * 2, short * 0]), 16000)
    other = Converter(voice, ConvertConfig(seed=1)).convert(short, 16000)
    assert decibels(one - same, one) < -80
    assert decibels(one - other, one) > -40


def test_silence_stays_silent(converter: Converter, clip: np.ndarray) -> None:
    assert np.abs(converter.convert(np.zeros(32000, np.float32), 16000)).max() < 1e-3
    paused = np.concatenate([clip[8000:24000], np.zeros(24000, np.float32), clip[24000:40000]])
    converted = converter.convert(paused, 16000)
    assert np.abs(converted[21000:35000]).max() < 1e-3
    assert np.abs(converted[:16000]).max() > 1e-3


def test_automatic_transposition_meets_the_voice(trained: Voice, clip: np.ndarray) -> None:
    short = clip[:48000]
    assert 180 < trained.median_f0[0] < 220  # Callie
    up = Converter(trained, ConvertConfig(auto_transpose=True))(short, 16000)
    assert 9 <= up.transpose <= 14 and up.transpose == round(up.transpose)
    more = Converter(trained, ConvertConfig(auto_transpose=True, transpose=2.5))(short, 16000)
    assert more.transpose == up.transpose + 2.5
    assert Converter(trained, ConvertConfig())(short, 16000).transpose == 0


def test_the_volume_can_follow_the_recording(clip: np.ndarray) -> None:
    swelling = clip * np.linspace(0.05, 1, len(clip), dtype=np.float32)
    converted = Converter(fresh_voice(), ConvertConfig(volume_envelope=0)).convert(swelling, 16000)
    levels = [rms(wave, 32000, 16000)[1:-1] for wave in (swelling, converted)]
    assert np.corrcoef(*levels)[0, 1] > 0.95


def test_retrieval_has_a_say(trained: Voice, clip: np.ndarray) -> None:
    short = clip[:30000]
    waves = [Converter(trained, ConvertConfig(index_rate=rate)).convert(short, 16000) for rate in (0, 0.001, 1)]
    slight, whole = (decibels(wave - waves[0], waves[0]) for wave in waves[1:])
    assert slight + 20 < whole


def test_loud_results_are_limited(clip: np.ndarray) -> None:
    voice = fresh_voice()
    loud = {"dec.conv_post.weight": 300 * voice.parameters["dec.conv_post.weight"]}
    voice = dataclasses.replace(voice, parameters=voice.parameters | loud)
    wave = Converter(voice, ConvertConfig()).convert(clip[:30000], 16000)
    assert 0.9 < np.abs(wave).max() <= 0.99 + 1e-6


def test_what_cannot_be_converted_is_told(converter: Converter, other_clip: Path) -> None:
    wave, rate = decode(other_clip)
    with pytest.raises(UserError, match="0.05 s of sound; at least 0.1 s"):
        converter.convert(wave[:, : rate // 20], rate)
    broken = wave.copy()
    broken[0, 5] = np.nan
    with pytest.raises(UserError, match="1 of 113600 samples are not numbers"):
        converter.convert(broken, rate)


@pytest.mark.parametrize("setting", [{"protect": 0.6}, {"index_rate": -1}, {"speaker": 1}, {"volume_envelope": 2}])
def test_settings_out_of_range_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"--{next(iter(setting)).replace('_', '-')} .* out of range"):
        Converter(fresh_voice(), ConvertConfig(**setting))


def test_another_encoder_under_the_same_name_is_refused() -> None:
    with pytest.raises(UserError, match="whisper-tiny is not the content encoder that this voice was trained with"):
        Converter(fresh_voice(content_fingerprint="0123"), ConvertConfig())
