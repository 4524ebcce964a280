"""Voice activity: equal to the original's, and right about what is speech."""

import sys
from importlib.util import find_spec
from pathlib import Path

import convert_script
import numpy as np
import pytest

from rvc_jax.audio.reading import load
from rvc_jax.features.vad import WINDOW, speech_probability

GOLDEN = Path(__file__).parent / "golden/silero_vad.npy"
RATE = 16000
RNG = np.random.RandomState


@pytest.fixture(scope="module")
def speech(other_clip) -> np.ndarray:
    return load(other_clip, RATE)


@pytest.fixture(scope="module")
def mixed(speech) -> np.ndarray:
    """Speech, noise, speech that ends inside a window."""
    noise = 0.05 * RNG(0).standard_normal(3 * RATE)
    return np.concatenate([speech, noise, speech[:20000]]).astype(np.float32)


def original(model: Path, audio: np.ndarray) -> np.ndarray:
    """The original model, window by window, as its wrapper feeds it."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    state = np.zeros((2, 1, 128), np.float32)
    context = np.zeros((1, 64), np.float32)
    rate = np.array(RATE, np.int64)
    probabilities = []
    for window in np.pad(audio, (0, -len(audio) % 512)).reshape(-1, 1, 512):
        samples = np.concatenate([context, window], axis=1)
        probability, state = session.run(None, {"input": samples, "state": state, "sr": rate})
        context = samples[:, -64:]
        probabilities.append(probability.item())
    return np.array(probabilities, np.float32)


def test_equal_to_the_golden_probabilities(mixed):
    golden = np.load(GOLDEN)
    assert golden.min() < 0.1 and golden.max() > 0.95  # both are in it
    np.testing.assert_allclose(speech_probability(mixed), golden, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["silero_vad.onnx", "silero_vad_16k_op15.onnx"])
def test_equal_to_the_original_where_it_is_installed(mixed, name):
    if (package := find_spec("silero_vad")) is None:
        pytest.skip("silero-vad is not installed")
    expected = original(Path(package.origin).parent / "data" / name, mixed)
    np.testing.assert_allclose(speech_probability(mixed), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(np.load(GOLDEN), expected, rtol=0, atol=1e-5)


def test_conversion_gives_the_bundled_file():
    pytest.importorskip("onnx")
    if (package := find_spec("silero_vad")) is None:
        pytest.skip("silero-vad is not installed")
    from rvc_jax.weights import bundled

    arrays = convert_script.load().silero_vad(
        Path(package.origin).parent / "data/silero_vad_16k_op15.onnx"
    )
    stored = bundled.load("silero_vad")
    assert set(arrays) == set(stored)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, stored[name])


def test_speech_is_speech(speech_windows):
    for wave in speech_windows:
        assert (speech_probability(wave) > 0.5).mean() > 0.5


@pytest.mark.parametrize("level", [0.001, 0.03, 0.3])
def test_noise_tones_and_silence_are_not(level):
    time = np.arange(10 * RATE) / RATE
    sounds = {
        "silence": np.zeros(len(time)),
        "white noise": RNG(1).standard_normal(len(time)),
        "tone": np.sin(2 * np.pi * 440 * time),
        "hum": sum(np.sin(2 * np.pi * 50 * k * time) / k for k in range(1, 6)),
    }
    for name, wave in sounds.items():
        assert (speech_probability(level * wave.astype(np.float32)) > 0.5).mean() < 0.05, name


def test_speech_is_told_from_the_noise_around_it(mixed, speech):
    probability = speech_probability(mixed)
    begin = len(speech) // WINDOW
    end = (len(speech) + 3 * RATE) // WINDOW
    assert (probability[:begin] > 0.5).mean() > 0.7
    assert (
        probability[begin + 10 : end] > 0.5
    ).mean() < 0.1  # it lets go of speech after some 0.3 s
    assert (probability[end:] > 0.5).mean() > 0.5


@pytest.mark.parametrize("samples", [0, 1, 511, 512, 513, 127 * 512, 128 * 512, 128 * 512 + 1])
def test_one_probability_for_every_window_begun(speech, samples):
    audio = np.resize(speech, samples)
    probability = speech_probability(audio)
    assert (probability.shape, probability.dtype) == ((-(-samples // WINDOW),), np.float32)
    assert ((probability >= 0) & (probability <= 1)).all()
    np.testing.assert_array_equal(speech_probability(audio), probability)


def test_blocks_leave_no_trace(speech):
    """What comes later changes nothing, and neither does where a block ends."""
    audio = np.resize(speech, 300 * WINDOW)
    whole = speech_probability(audio)
    for windows in (100, 128, 200, 299):
        np.testing.assert_array_equal(
            speech_probability(audio[: windows * WINDOW]), whole[:windows]
        )


def test_other_types_and_shapes(speech):
    np.testing.assert_array_equal(
        speech_probability(speech.astype(np.float64)), speech_probability(speech)
    )
    with pytest.raises(ValueError, match="must be"):
        speech_probability(speech[None])


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units")
def test_half_an_hour_needs_no_more_memory_than_a_minute(speech):
    import resource

    audio = np.resize(speech, 30 * 60 * RATE)
    speech_probability(audio[: 60 * RATE])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    probability = speech_probability(audio)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert len(probability) == 30 * 60 * RATE // WINDOW
    assert grown < 30_000  # kB; the audio alone is 115 MB
