"""Voices whose frames are not a hundredth of a second keep length and pitch of a recording."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from micro import MICRO
from untrained_voices import untrained_voice

from rvc_jax.config import AudioConfig, ConvertConfig
from rvc_jax.infer.converter import Converter
from rvc_jax.infer.engine import Engine
from rvc_jax.infer.frame_grid import FrameGrid
from rvc_jax.infer.recording import Source
from rvc_jax.infer.streaming import EXACT, LOW_LATENCY, StreamingConverter

TONE_HZ = 220.0
RATE = 16000


class SmoothContent:
    """Content that changes slowly, and is the same wherever a window begins."""

    channels = 384
    fingerprint = ""

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        levels = np.sqrt(np.square(audio.reshape(len(audio), -1, 320)).mean(-1, keepdims=True))
        return (levels * np.sin(np.arange(self.channels, dtype=np.float32))).astype(np.float32)


def constant_pitch(audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
    return np.full((len(audio), audio.shape[1] // 160), TONE_HZ, np.float32)


def make_engine(rate: int, rates: tuple[int, ...], kernels: tuple[int, ...]) -> Engine:
    sizes = dataclasses.replace(
        MICRO.generator, upsample_rates=rates, upsample_kernels=kernels, has_pitch=True
    )
    sizes = dataclasses.replace(sizes, upsample_initial_channels=32)
    preset = dataclasses.replace(MICRO, audio=AudioConfig(rate, 2048, 80, 8), generator=sizes)
    voice = dataclasses.replace(untrained_voice(preset), prepare=None)
    plain = Engine.from_model(untrained_voice(MICRO), ConvertConfig(index_rate=0))
    voice = dataclasses.replace(voice, prepare=plain.voice.prepare)
    config = ConvertConfig(index_rate=0, noise_scale=0.0)
    engine = Engine.from_model(voice, config)
    return Engine(engine.voice, config, content=SmoothContent(), pitch=constant_pitch)


VOICES = {
    "44.1 kHz, odd rates": (44100, (7, 7, 3, 3), (14, 14, 6, 6)),
    "44.1 kHz, frames of 512": (44100, (8, 8, 2, 2, 2), (16, 16, 4, 4, 4)),
    "22.05 kHz, frames of 256": (22050, (8, 8, 2, 2), (16, 16, 4, 4)),
}


@pytest.fixture(scope="module", params=VOICES, ids=list(VOICES))
def engine(request: pytest.FixtureRequest) -> Engine:
    return make_engine(*VOICES[request.param])


@pytest.fixture(scope="module")
def tone() -> np.ndarray:
    seconds = np.arange(7 * RATE + 123) / RATE
    return (0.4 * np.sin(2 * np.pi * TONE_HZ * seconds)).astype(np.float32)


def find_pitch(wave: np.ndarray, rate: int) -> float:
    middle = wave[rate // 2 : -rate // 2] - wave.mean()
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 8 * len(middle)))
    frequencies = np.fft.rfftfreq(8 * len(middle), 1 / rate)
    spectrum[frequencies < 60] = 0
    return float(frequencies[spectrum.argmax()])


def test_length_and_pitch_are_the_recording_s(engine: Engine, tone: np.ndarray) -> None:
    rate = engine.voice.sample_rate
    wave = Converter(engine).convert_array(tone, RATE)
    assert len(wave) == round(len(tone) * rate / RATE)
    assert find_pitch(wave, rate) == pytest.approx(TONE_HZ, abs=0.2)


def test_a_stream_gives_the_same(engine: Engine, tone: np.ndarray) -> None:
    whole = Converter(engine, (336,)).convert(Source.from_array(tone, RATE), gain=1.0)
    reference = whole.to_array()
    for streaming in (EXACT, LOW_LATENCY):
        stream = StreamingConverter(engine, streaming, RATE)
        parts = [stream.push(tone[begin : begin + 1600]) for begin in range(0, len(tone), 1600)]
        wave = np.concatenate([*parts, stream.flush()])
        assert len(wave) == len(reference)
        assert find_pitch(wave, engine.voice.sample_rate) == pytest.approx(TONE_HZ, abs=0.2)
        if streaming is EXACT:
            inner = slice(len(wave) // 8, -len(wave) // 8)
            error = np.linalg.norm(wave[inner] - reference[inner])
            signal = np.linalg.norm(reference[inner] - reference[inner].mean())
            assert error < 1e-2 * signal


def test_the_common_grid_changes_nothing() -> None:
    grid = FrameGrid(400, 40000)
    assert grid.is_plain and (grid.floor(7), grid.ceil(7), grid.count_frames(8)) == (7, 7, 8)
    f0 = np.array([100, 0, 200], np.float32)
    np.testing.assert_array_equal(grid.interpolate_f0(f0, -1, -1, 2), f0)


def test_features_are_interpolated_at_the_voice_s_frames() -> None:
    grid = FrameGrid(512, 44100)
    assert not grid.is_plain
    assert (grid.floor(100), grid.ceil(100), grid.floor(-1), grid.ceil(-1)) == (86, 87, -1, 0)
    assert grid.count_frames(100) * 512 >= 44100 and grid.count_frames(100) % 2 == 0
    ramp = np.arange(-10, 100, dtype=np.float64)[:, None]
    found = grid.interpolate(ramp, -10, 0, 20)[:, 0]
    np.testing.assert_allclose(found, np.arange(20) * 51200 / 44100, rtol=1e-6)
    assert grid.interpolate(ramp, -10, -100, -99)[0, 0] == -10
    f0 = np.array([100, 100, 0, 0, 150, 200], np.float32)
    found = grid.interpolate_f0(f0, 0, 0, 5)  # at 0, 1.16, 2.32, 3.48, 4.64
    np.testing.assert_allclose(found, [100, 100, 0, 0, 150 + 50 * (4 * 51200 / 44100 - 4)])
