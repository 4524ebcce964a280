"""The decoder of the small preset beside definitions in NumPy and SciPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_checks import draw
from micro import MICRO_SMALL
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from rvc_jax.models.parameters import Network
from rvc_jax.models.spectral_generator import (
    SpectralGenerator,
    Spectrum,
    describe_pitch,
    pulse_train,
)

HOP = 80
RATE = 16000


@pytest.fixture(scope="module")
def spectrum() -> Spectrum:
    return Spectrum(HOP)


def test_analysis_equals_scipys(spectrum: Spectrum) -> None:
    wave = draw(1, 40 * HOP)
    transform = ShortTimeFFT(hann(4 * HOP, sym=False), HOP, RATE, phase_shift=None)
    # SciPy's slice p begins at p * hop - size / 2: half a hop before ours.
    shifted = np.concatenate([np.asarray(wave[0]), np.zeros(HOP)])
    shifted = np.concatenate([np.zeros(HOP // 2), shifted])
    expected = transform.stft(shifted, p0=1, p1=41).T
    real, imag = spectrum.analyze(wave)
    assert real.shape == (1, 40, 2 * HOP + 1)
    np.testing.assert_allclose(real[0], expected.real, atol=1e-4)
    np.testing.assert_allclose(imag[0], expected.imag, atol=1e-4)


def test_reconstruction_is_perfect(spectrum: Spectrum) -> None:
    """But for the ends, where fewer windows than four meet."""
    wave = draw(2, 30 * HOP)
    again = spectrum.synthesize(*spectrum.analyze(wave))
    assert again.shape == wave.shape
    inner = slice(2 * HOP, -2 * HOP)
    np.testing.assert_allclose(again[:, inner], wave[:, inner], atol=2e-5)


def test_synthesis_equals_scipys(spectrum: Spectrum) -> None:
    """Any spectra, those of no wave as well: overlapped, added, over the sum of the squares."""
    real = draw(1, 20, 2 * HOP + 1)
    imag = draw(1, 20, 2 * HOP + 1, seed=1)
    window = hann(4 * HOP, sym=False)
    waves = np.fft.irfft(np.asarray(real[0] + 1j * imag[0]), 4 * HOP) * window / 1.5
    expected = np.zeros(23 * HOP)
    for number, wave in enumerate(waves):
        expected[number * HOP : (number + 4) * HOP] += wave
    margin = 3 * HOP // 2
    made = spectrum.synthesize(real, imag)
    np.testing.assert_allclose(made[0], expected[margin : margin + 20 * HOP], atol=1e-5)


def sum_of_cosines(f0: np.ndarray, hop: int, phase: float = 0.0) -> np.ndarray:
    """All harmonics below half the rate, one by one, in float64; their power is one half."""
    hertz = np.repeat(f0, hop)
    cycles = phase + np.cumsum(hertz / RATE)
    counts = np.floor(RATE / 2 / np.where(hertz > 0, hertz, 1.0))
    wave = np.zeros(len(hertz))
    for number in range(1, int(counts[hertz > 0].max()) + 1):
        wave += np.where(number <= counts, np.cos(2 * np.pi * number * cycles), 0.0)
    return np.where(hertz > 0, wave / np.sqrt(counts), 0.0)


@pytest.mark.parametrize(
    "f0",
    [np.full(20, 100.0), np.full(20, 1100.0), np.linspace(70, 400, 20)],
    ids=["low", "high", "gliding"],
)
def test_the_source_is_the_sum_of_its_harmonics(f0: np.ndarray) -> None:
    f0 = f0.copy()
    f0[8:11] = 0.0
    made = pulse_train(jnp.asarray(f0, jnp.float32)[None], RATE, 160, jnp.array([0.3]))
    expected = sum_of_cosines(f0, 160, 0.3)
    assert np.abs(made[0] - expected).max() < 0.01 * np.abs(expected).max()
    assert not np.asarray(made[0, 8 * 160 : 11 * 160]).any()
    voiced = expected[: 8 * 160]
    assert np.mean(voiced**2) == pytest.approx(0.5, rel=0.15)


def test_the_source_is_finite_at_any_pitch() -> None:
    """Also where a peak meets a sample, and above half the sample rate."""
    f0 = jnp.asarray([[100.0, 8000.0, 8001.0, 35_200.0, 1e-3, 0.0, 50.0, 16_000.0]])
    wave = pulse_train(f0, RATE, 160)
    assert np.isfinite(wave).all()
    assert not np.asarray(wave[0, 320:640]).any(), "no harmonic is left"
    assert float(jnp.abs(wave[0, :160]).max()) == pytest.approx(np.sqrt(80), rel=1e-3)


def test_features_of_the_pitch() -> None:
    features = np.asarray(describe_pitch(jnp.asarray([[0.0, 200.0, 400.0]])))[0]
    assert features.shape == (3, 10)
    assert not features[0].any()
    np.testing.assert_allclose(features[1], [1, 0, 0, 0, 0, 0, 1, 1, 1, 1], atol=1e-6)
    angles = np.pi / 2 * 2.0 ** np.arange(4)
    expected = np.concatenate([[1, 1], np.sin(angles), np.cos(angles)])
    np.testing.assert_allclose(features[2], expected, atol=1e-6)


def test_gains_filter_the_sources() -> None:
    """With constant gains and no blocks the waveform is the filtered source and noise."""
    config = MICRO_SMALL.generator
    network = Network(SpectralGenerator(config, MICRO_SMALL.audio))
    parameters = dict(network.init(0))
    bins = 2 * HOP + 1
    parameters["gains.weight"] = jnp.zeros_like(parameters["gains.weight"])
    log_gains = np.repeat([3.0 + np.log(0.5), np.pi, 5.0 + np.log(0.25)], bins)
    parameters["gains.bias"] = jnp.asarray(log_gains, jnp.float32)
    frames = 24
    f0 = jnp.full((1, frames), 150.0)
    noise = draw(1, frames * 160)
    hidden = draw(1, frames, config.channels)
    speaker = draw(1, 1, config.speaker_channels)
    mask = jnp.ones((1, frames, 1))
    run = jax.jit(lambda *inputs: network(parameters, "__call__", *inputs))
    wave = run(hidden, f0, speaker, noise, mask)
    # Half a turn of phase is the other sign.
    expected = -0.5 * pulse_train(f0, RATE, 160) + 0.25 * noise
    inner = slice(2 * HOP, -2 * HOP)
    np.testing.assert_allclose(wave[0, inner], expected[0, inner], atol=1e-4)


def test_large_gains_are_limited() -> None:
    """A diverged network is loud, not infinite, and its gradient is a number."""
    config = MICRO_SMALL.generator
    network = Network(SpectralGenerator(config, MICRO_SMALL.audio))
    parameters = dict(network.init(0))
    arguments = (
        draw(1, 8, config.channels),
        jnp.full((1, 8), 150.0),
        draw(1, 1, config.speaker_channels),
        draw(1, 8 * 160),
        jnp.ones((1, 8, 1)),
    )

    def energy(bias: jax.Array) -> jax.Array:
        wave = network(parameters | {"gains.bias": bias}, "__call__", *arguments)
        return jnp.mean(jnp.square(wave))

    value, gradient = jax.jit(jax.value_and_grad(energy))(parameters["gains.bias"] + 1e4)
    assert np.isfinite(value) and np.isfinite(gradient).all()
