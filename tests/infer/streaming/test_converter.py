"""Conversion while the recording comes in, compared with conversion of the whole."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from micro import MICRO
from untrained_voices import untrained_voice

from rvc_jax.audio.filters import resampled_length
from rvc_jax.audio.loudness import rms
from rvc_jax.audio.reading import load
from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.converter import Converter
from rvc_jax.infer.engine import Engine
from rvc_jax.infer.recording import Source
from rvc_jax.infer.streaming import EXACT, LOW_LATENCY, StreamingConfig, StreamingConverter

BOTH = pytest.mark.parametrize("setting", [EXACT, LOW_LATENCY], ids=["exact", "low latency"])


@pytest.fixture(scope="module")
def clip(other_clip: Path) -> np.ndarray:
    """Thirteen seconds of speech with a pause of two."""
    wave = load(other_clip, 16000)
    return np.concatenate([wave[:90000], np.zeros(32000, np.float32), 0.7 * wave[:86077]])


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Random networks. The index has features unlike those of the recording, and a large share."""
    index = np.random.default_rng(0).standard_normal((300, 384)).astype(np.float32)
    return Engine.from_model(untrained_voice(MICRO, index=index), ConvertConfig(transpose=2))


class LocalContent:
    """Content that depends on a fiftieth of a second: the level, in random directions."""

    channels = 384

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        levels = np.sqrt(np.square(audio.reshape(len(audio), -1, 320)).mean(-1, keepdims=True))
        return levels * np.sin(np.arange(self.channels, dtype=np.float32)) * 20


def local_pitch(audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
    """Pitch that depends on a hundredth of a second."""
    levels = np.sqrt(np.square(audio.reshape(len(audio), -1, 160)).mean(-1))
    return np.where(levels > 1e-2, 150 + 300 * levels, 0).astype(np.float32)


@pytest.fixture(scope="module")
def local(engine: Engine) -> Engine:
    """An engine whose features depend on nothing that is far away; only attention does."""
    config = ConvertConfig(index_rate=0)
    return Engine(engine.voice, config, content=LocalContent(), pitch=local_pitch)


def convert_whole(engine: Engine, wave: np.ndarray, rate: int, gain_db: float) -> np.ndarray:
    """The conversion of the whole recording at a fixed gain."""
    source = Source.from_array(wave, rate)
    return Converter(engine, (336,)).convert(source, gain=10 ** (gain_db / 20)).to_array()


def streamed(
    stream: StreamingConverter, wave: np.ndarray, size: Callable[[], int] = lambda: 1600
) -> np.ndarray:
    parts = []
    begin = 0
    while begin < len(wave):
        end = begin + size()
        parts.append(stream.push(wave[begin:end]))
        begin = end
    return np.concatenate([*parts, stream.flush()])


def decibels(error: np.ndarray, reference: np.ndarray) -> float:
    return float(
        20
        * np.log10(np.linalg.norm(error) / np.linalg.norm(reference - reference.mean()) + 1e-30)
    )


def test_exact_equals_the_whole_recording(engine: Engine, clip: np.ndarray) -> None:
    """With real features, noise and retrieval, from the first sample to the last."""
    short = clip[50000:162000]
    wave = streamed(StreamingConverter(engine), short)
    whole = convert_whole(engine, short, 16000, 0.0)
    assert len(wave) == len(whole) == len(short)
    assert decibels(wave - whole, whole) < -60


@pytest.mark.parametrize(
    "setting", [EXACT, StreamingConfig(0.16, None, 2.7)], ids=["exact", "short chunks"]
)
def test_gates_gains_and_rates(
    local: Engine, clip: np.ndarray, setting: StreamingConfig
) -> None:
    """Chunks of every length give the same, where features are local and all that attention takes
    in is waited for: noise and phase continue over chunks. Short recordings are encoded as a whole
    here, too."""
    rate = 22050
    setting = dataclasses.replace(setting, gain_db=4.0)
    whole = convert_whole(local, clip, rate, 4.0)
    stream = StreamingConverter(local, streaming=setting, input_rate=rate)
    wave = streamed(stream, clip)
    assert len(wave) == len(whole) == resampled_length(len(clip), rate, 16000)
    assert decibels(wave - whole, whole) < -60
    pause = round(90000 * 16000 / rate) + 5000
    assert np.abs(wave[pause : pause + 10000]).max() == 0
    if setting.lookahead_seconds is None:
        wave = streamed(stream, clip[:50000])
        whole = convert_whole(local, clip[:50000], rate, 4.0)
        assert decibels(wave - whole, whole) < -60


def test_low_latency_has_no_steps_at_joins(local: Engine, clip: np.ndarray) -> None:
    """Between chunks the energy steps no more, beside the conversion of the whole, than amid
    them."""
    stream = StreamingConverter(local, streaming=LOW_LATENCY)
    chunk = stream.plan.chunk
    first = stream.next_frame
    wave = streamed(stream, clip)
    whole = convert_whole(local, clip, 16000, 0.0)
    assert len(wave) == len(whole)
    at_joins, amid = (
        [
            abs(_step(wave, frame * 160) - _step(whole, frame * 160))
            for frame in range(begin, 1290, chunk)
        ]
        for begin in (first + 2 * chunk, first + 2 * chunk + chunk // 2)
    )
    assert (
        len(at_joins) > 70
        and np.mean(at_joins) < 1.25 * np.mean(amid) + 0.05
        and np.max(at_joins) < 1.5
    )


def test_chunks_are_crossfaded(local: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The crossfade is linear, also between chunks that have nothing in common."""
    random = np.random.default_rng(0)
    calls = []

    def render(prior: np.ndarray, *_: object, **__: object) -> np.ndarray:
        calls.append(0)
        return np.full(len(prior) * 160, len(calls), np.float32)

    monkeypatch.setattr(local.voice, "render", render)
    stream = StreamingConverter(local, streaming=LOW_LATENCY)
    wave = stream.push(0.3 * random.standard_normal(48000).astype(np.float32))
    chunk = stream.plan.chunk * 160
    fade = stream.plan.fade * 160
    assert len(calls) > 14
    for number in range(1, len(calls)):
        join = len(wave) - (len(calls) - number) * chunk
        np.testing.assert_allclose(wave[join + fade : join + chunk], number + 1)
        ramp = number + (np.arange(fade) + 0.5) / fade
        np.testing.assert_allclose(wave[join : join + fade], ramp, atol=1e-4)


def _step(wave: np.ndarray, sample: int) -> float:
    """Decibels by which the 20 ms behind a sample are louder than those before it."""
    before = wave[sample - 320 : sample]
    behind = wave[sample : sample + 320]
    return float(
        20 * np.log10((np.linalg.norm(behind) + 1e-3) / (np.linalg.norm(before) + 1e-3))
    )


def test_low_latency_with_real_features(engine: Engine, clip: np.ndarray) -> None:
    """The result is as loud as the conversion of the whole."""
    short = clip[8000:28000]
    wave = streamed(StreamingConverter(engine, streaming=LOW_LATENCY), short)
    whole = convert_whole(engine, short, 16000, 0.0)
    levels = [20 * np.log10(rms(x, 3200, 1600)[3:-1] + 1e-4) for x in (wave, whole)]
    assert len(wave) == len(short) and np.abs(levels[0] - levels[1]).max() < 3


@BOTH
@settings(
    max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(seed=st.integers(0, 2**16), largest=st.sampled_from([200, 3000, 30000, 200000]))
def test_block_size_does_not_matter(
    local: Engine, clip: np.ndarray, setting: StreamingConfig, seed: int, largest: int
) -> None:
    rate = 44100
    random = np.random.default_rng(seed)
    stream = StreamingConverter(local, streaming=setting, input_rate=rate)
    short = clip[60000:]
    expected = streamed(stream, short)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_array_equal(
        streamed(stream, short, lambda: int(random.integers(0, largest + 1))), expected
    )


@BOTH
@pytest.mark.parametrize("rate", [16000, 48000])
def test_latency_is_as_stated(
    local: Engine, clip: np.ndarray, setting: StreamingConfig, rate: int
) -> None:
    """Output is never later than stated, and not much earlier where a chunk begins."""
    stream = StreamingConverter(local, streaming=setting, input_rate=rate)
    given = 0
    late = []
    wave = np.tile(clip, 4)
    for begin in range(0, int(14 * rate), rate // 100):
        given += len(stream.push(wave[begin : begin + rate // 100]))
        pushed = (begin + rate // 100) / rate
        assert given >= math.floor((pushed - stream.latency_seconds) * stream.rate)
        late.append(pushed - given / stream.rate)
    assert stream.latency_seconds - 0.05 < max(late) <= stream.latency_seconds + 1e-9


def test_stated_latencies(engine: Engine) -> None:
    """A chunk of 2.4 s; 0.52 for the decoder, 1.7 for one layer of attention, 0.48 for content,
    0.3125 for the filter."""
    exact = StreamingConverter(engine, streaming=EXACT)
    assert exact.latency_seconds == pytest.approx(2.4 + 0.52 + 1.7 + 0.48 + 0.3125)
    low = StreamingConverter(engine, streaming=LOW_LATENCY)
    assert low.latency_seconds == pytest.approx(
        LOW_LATENCY.chunk_seconds + LOW_LATENCY.lookahead_seconds
    )
    assert low.latency_seconds <= 0.5


@BOTH
@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("samples", [0, 1, 160, 4411, 53761, 60001])
def test_length_is_exact(
    local: Engine, setting: StreamingConfig, samples: int, rate: int
) -> None:
    wave = 0.1 * np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    stream = StreamingConverter(local, streaming=setting, input_rate=rate)
    converted = streamed(stream, wave)
    assert converted.dtype == np.float32 and len(converted) == resampled_length(
        samples, rate, 16000
    )
    assert np.isfinite(converted).all()


def test_silence_is_not_rendered(local: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.voice, "render", None)
    stream = StreamingConverter(local, streaming=LOW_LATENCY)
    wave = streamed(stream, np.zeros(32000, np.float32))
    assert np.abs(wave).max() == 0


def test_no_compilation_and_flat_memory_after_start(local: Engine, clip: np.ndarray) -> None:
    stream = StreamingConverter(local, streaming=LOW_LATENCY)
    sizes = []
    compiled = []
    stream.push(clip[:48000])

    def listener(event: str, seconds: float, **_: object) -> None:
        if "compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        for begin in range(48000, len(clip), 16000):
            stream.push(clip[begin : begin + 16000])
            sizes.append(stream.held_values)
        stream.flush()
        assert compiled == [] and max(sizes) < 170000 and max(sizes[6:]) <= 1.3 * max(sizes[:6])
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


def test_bad_input_is_refused_and_not_taken(local: Engine, clip: np.ndarray) -> None:
    with pytest.raises(UserError, match="a stream of 0 samples a second is impossible"):
        StreamingConverter(local, input_rate=0)
    stream = StreamingConverter(local, streaming=LOW_LATENCY)
    short = clip[:20000]
    broken = short.copy()
    broken[7] = np.inf
    with pytest.raises(UserError, match="1 of 20000 samples are not numbers"):
        stream.push(broken)
    with pytest.raises(UserError, match="a stream is one channel"):
        stream.push(np.zeros((2, 100), np.float32))
    np.testing.assert_array_equal(streamed(stream, short), streamed(stream, short))


@pytest.mark.parametrize("decibels_down", [30, 45])
def test_quiet_streams_are_converted_like_loud_ones(
    engine: Engine, clip: np.ndarray, decibels_down: int
) -> None:
    speech = clip[50000:130000]
    loud = streamed(StreamingConverter(engine, streaming=LOW_LATENCY), speech)
    gain = np.float32(10 ** (-decibels_down / 20))
    quiet = streamed(StreamingConverter(engine, streaming=LOW_LATENCY), speech * gain)
    levels = [rms(wave[16000:], 320, 160) for wave in (loud, quiet)]
    is_loud = levels[0] > 0.1 * levels[0].max()
    # What comes before the first voiced sound is known as speech too late.
    assert (levels[1][is_loud] > 0.05 * levels[0].max()).mean() > 0.8
    fixed = dataclasses.replace(LOW_LATENCY, follow_level=False)
    cut = streamed(
        StreamingConverter(engine, streaming=fixed), speech * gain * np.float32(0.05)
    )
    assert (rms(cut[16000:], 320, 160)[is_loud] < 0.05 * levels[0].max()).mean() > 0.9
