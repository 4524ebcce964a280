"""Sound that is still coming in, compared with the same sound when it is there as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rvc_jax.audio.blocks import Resampler
from rvc_jax.audio.filters import resample
from rvc_jax.audio.reading import load
from rvc_jax.config import FEATURE_RATE, PrepareConfig
from rvc_jax.infer.recording import Recording, Source, prepare_input
from rvc_jax.infer.streaming.buffers import (
    InputBuffer,
    SilenceGate,
    Timeline,
    measure_resampler_delay,
)


@pytest.fixture(scope="module")
def recording(other_clip: Path) -> Recording:
    wave = load(other_clip, 16000)[:80077].copy()
    wave[20000:40000] = 0
    return prepare_input(Source.from_array(wave, 16000), PrepareConfig(), -60.0)


@pytest.fixture(scope="module")
def raw(other_clip: Path) -> np.ndarray:
    wave = load(other_clip, 16000)[:80077].copy()
    wave[20000:40000] = 0
    return wave


@pytest.mark.parametrize("quality", ["VHQ", "HQ"])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_resampling_in_blocks_equals_the_whole(rate: int, quality: str) -> None:
    random = np.random.default_rng(rate)
    times = np.arange(rate + 77) / rate
    wave = (np.sin(2 * np.pi * 300 * times) + np.sin(2 * np.pi * 2500 * times)).astype(
        np.float32
    )
    resampler = Resampler(rate, FEATURE_RATE, quality=quality)
    parts = []
    begin = 0
    given = 0
    late = 0.0
    while begin < len(wave):
        size = int(random.integers(1, 3000))
        parts.append(resampler.push(wave[begin : begin + size]))
        begin = min(begin + size, len(wave))
        given = given + len(parts[-1])
        late = max(late, begin / rate - given / 16000)
    parts.append(resampler.push(wave[:0], last=True))
    expected = resample(wave, rate, 16000)
    assert sum(map(len, parts)) == len(expected)
    inner = slice(800, -800)  # the two qualities ring differently at the ends
    np.testing.assert_allclose(np.concatenate(parts)[inner], expected[inner], atol=2e-3)
    assert late <= measure_resampler_delay(rate, quality) <= late + 0.05


def test_input_reads_as_the_whole_recording(recording: Recording, raw: np.ndarray) -> None:
    """Filtered, leveled, and reflected beyond both ends, also after old samples are dropped."""
    buffer = InputBuffer(PrepareConfig().high_pass_hz, recording.gain)
    buffer.append(raw[:50000])
    known = 40000 + 5000
    np.testing.assert_allclose(
        buffer.read(-7000, 40000, known), recording.read(-7000, 40000), atol=1e-5
    )
    buffer.append(raw[50000:])
    buffer.end()
    buffer.drop_before(420)
    assert buffer.samples == len(raw) and buffer.held < 77000
    np.testing.assert_allclose(
        buffer.read(60000, 95000, len(raw)), recording.read(60000, 95000), atol=1e-5
    )


def test_gate_equals_that_of_the_whole_recording(recording: Recording) -> None:
    gate = SilenceGate(-60.0)
    wave = recording.wave * np.float32(recording.gain)
    gate.measure(0, wave[: 200 * 160])
    gate.drop_before(140)
    gate.measure(120, wave[120 * 160 : 500 * 160])
    gate.measure(440, wave[440 * 160 :])
    frames = recording.frames
    expected = recording.pad_audible()[48 + 140 :]
    assert 0.2 < expected.mean() < 0.9
    np.testing.assert_array_equal(gate.read_audible(140, frames + 48, frames), expected)
    np.testing.assert_array_equal(gate.read_gains(140, 501), recording.compute_gate()[140:501])


def test_timeline_overwrites_and_drops() -> None:
    line = Timeline(-2, 1)
    line.write(-2, np.arange(6.0)[:, None])
    line.write(1, np.array([[10.0], [11.0]]))
    assert (line.first, line.end) == (-2, 3)
    np.testing.assert_array_equal(line.read(0, 3, 4)[:, 0], [2, 10, 11, 0])
    line.drop_before(1)
    np.testing.assert_array_equal(line.read(1, 3)[:, 0], [10, 11])
    line.write(0, np.array([[7.0], [8.0], [9.0]]))  # the first of them is forgotten already
    np.testing.assert_array_equal(line.read(1, 3)[:, 0], [8, 9])
