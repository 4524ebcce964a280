"""The port of SwiftF0 against its own package, and its frames on our grid."""

import numpy as np
import pytest
from rows import cut_rows

from rvc_jax.errors import UserError
from rvc_jax.features.f0 import PITCH_METHODS, load_pitch_extractor
from rvc_jax.features.f0.swift import detect, resample_frames


@pytest.fixture(scope="module")
def swift():
    return load_pitch_extractor("swift")


def cents(a, b):
    return 1200 * np.abs(np.log2(a / b))


def test_equals_the_swift_f0_package(swift, speech_windows):
    reference = pytest.importorskip("swift_f0").SwiftF0(threads=1)
    expected = [reference.detect(window, 16000) for window in speech_windows]
    voiced = np.stack([result.confidence >= 0.5 for result in expected])
    pitch = np.stack([result.pitch_hz for result in expected])
    native = swift.native(speech_windows)
    assert native.voiced.shape == voiced.shape and 0.3 < voiced.mean() < 0.9
    assert (native.voiced == voiced).mean() >= 0.999
    assert (cents(native.pitch, pitch)[voiced & native.voiced] < 1).mean() >= 0.999
    assert (
        np.abs(native.confidence - np.stack([result.confidence for result in expected])).max()
        < 0.01
    )


def test_a_narrower_band_equals_the_package(swift, speech_windows):
    reference = pytest.importorskip("swift_f0").SwiftF0(threads=1)
    expected = reference.detect(speech_windows[1], 16000, fmin=100, fmax=200)
    native = detect(
        swift.parameters,
        speech_windows[1:2],
        np.array([speech_windows.shape[1]]),
        min_hz=100,
        max_hz=200,
    )
    voiced = expected.confidence >= 0.5
    assert voiced.any()
    np.testing.assert_array_equal(np.asarray(native.voiced)[0], voiced)
    assert cents(np.asarray(native.pitch)[0], expected.pitch_hz)[voiced].max() < 1


def test_follows_a_known_glide(swift):
    """A voice-like buzz gliding from 100 to 300 Hz, with silence behind it."""
    rate = 16000
    seconds = 4
    f0 = 100 * 3 ** (np.arange(rate * seconds) / (rate * seconds))
    phase = 2 * np.pi * np.cumsum(f0) / rate
    buzz = sum(np.sin(k * phase) / k for k in range(1, 20)) * 0.2
    audio = np.concatenate([buzz, np.zeros(rate)]).astype(np.float32)[None]
    pitch = swift(audio)
    assert pitch.shape == (1, 500) and pitch.dtype == np.float32
    inside = slice(10, 390)
    assert (pitch[0, inside] > 0).mean() > 0.98
    voiced = pitch[0, inside] > 0
    assert np.percentile(cents(pitch[0, inside][voiced], f0[::160][inside][voiced]), 95) < 20
    assert not pitch[0, 410:].any()


def test_frames_lie_where_the_native_ones_do(swift, speech_windows):
    """Frames 8 and 5 of the two grids fall together: there the pitch is the model's own."""
    native = swift.native(speech_windows)
    expected = np.where(native.voiced, native.pitch, 0)[:, ::5]
    np.testing.assert_allclose(swift(speech_windows)[:, ::8], expected[:, :42], rtol=1e-5)


def test_resampling_between_voiced_and_unvoiced_frames():
    pitch = np.array([[100.0, 200.0, 400.0, 400.0]], np.float32)
    voiced = np.array([[True, True, False, False]])
    result = np.asarray(resample_frames(pitch, voiced, 6))[
        0
    ]  # at native frames 0, 0.625, 1.25, 1.875, 2.5, 3.125
    np.testing.assert_allclose(result, [100, 100 * 2**0.625, 200, 0, 0, 0], rtol=1e-5)


@pytest.mark.parametrize("samples", [320, 640, 16000, 53760])
def test_number_of_frames(swift, samples):
    noise = np.random.default_rng(0).normal(size=(2, samples)).astype(np.float32) * 0.1
    assert swift(noise).shape == (2, samples // 160)


def test_silence_is_unvoiced_and_finite(swift):
    np.testing.assert_array_equal(swift(np.zeros((1, 16000), np.float32)), 0)


def test_refuses_other_shapes(swift):
    for shape in [(16000,), (1, 16001)]:
        with pytest.raises(ValueError, match="multiple of 320"):
            swift(np.zeros(shape, np.float32))


def test_the_factory(swift):
    assert load_pitch_extractor("swift") is swift and swift.name == "swift" in PITCH_METHODS
    assert len(swift.fingerprint) == 64
    with pytest.raises(UserError, match="unknown pitch method 'rmwpe'; known are: .*rmvpe"):
        load_pitch_extractor("rmwpe")


def test_rows_of_a_batch_give_what_they_give_alone(swift, speech_windows):
    lengths = np.array([53760, 40011, 16000, 1279, 400])
    batch, alone = cut_rows(speech_windows, lengths)
    together = swift(batch, lengths)
    assert (together[:3] > 0).mean() > 0.2
    for row, length, audio in zip(together, lengths, alone, strict=True):
        expected = swift(audio, np.array([length]))[0]
        np.testing.assert_allclose(row[: length // 160], expected[: length // 160], rtol=1e-5)
        assert not row[length // 160 :].any()


def test_refuses_lengths_that_do_not_fit(swift):
    audio = np.zeros((2, 640), np.float32)
    for lengths in ([640], [641, 640], [0, 640]):
        with pytest.raises(ValueError, match="do not fit"):
            swift(audio, np.array(lengths))
