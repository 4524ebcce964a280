"""Losses on numbers that can be checked by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvc_jax.audio.spectrogram import log_mel, spectrogram
from rvc_jax.config import PRESETS
from rvc_jax.models.synthesizer import Latents
from rvc_jax.train import losses


def outputs(seed: int) -> list[tuple[jax.Array, list[list[jax.Array]]]]:
    """Two sub-discriminators for two waves; the second map of the first is in two parts."""
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(random.standard_normal(shape), jnp.float32)

    first = (draw(2, 5), [[draw(2, 7, 3)], [draw(2, 4, 2), draw(2, 4, 2)]])
    return [first, (draw(2, 3), [[draw(2, 6, 1)]])]


def test_least_squares_of_the_scores() -> None:
    real = [(jnp.array([[1.0, 0.5]]), []), (jnp.array([[0.0]]), [])]
    fake = [(jnp.array([[0.0, 1.0]]), []), (jnp.array([[2.0]]), [])]
    assert float(losses.discriminator_loss(real, fake)) == pytest.approx(0.125 + 0.5 + 1 + 4)
    assert float(losses.generator_loss(fake)) == pytest.approx(0.5 + 1)


def test_alternating_waves_have_the_same_loss() -> None:
    real = outputs(0)
    fake = outputs(1)
    both = [
        (jnp.stack([r, f], axis=1).reshape(-1, r.shape[1]), [])
        for (r, _), (f, _) in zip(real, fake, strict=True)
    ]
    expected = losses.discriminator_loss(real, fake)
    assert float(losses.interleaved_discriminator_loss(both)) == pytest.approx(float(expected))


def test_the_probe_yields_the_feature_loss_and_its_gradient() -> None:
    real = outputs(0)
    fake = outputs(1)
    value, expected = jax.value_and_grad(losses.feature_loss, argnums=1)(real, fake)
    probed, (gradient, by_probe) = jax.value_and_grad(
        losses.probed_feature_loss, argnums=(1, 2)
    )(real, fake, jnp.ones(()))
    assert float(probed) == 0
    assert float(by_probe) == pytest.approx(float(value))
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_the_divergence_of_equal_normals_is_that_of_the_sample() -> None:
    """Padding counts for nothing; channels are summed."""
    zeros = jnp.zeros((1, 2, 3))
    mask = jnp.array([[[1.0], [0.0]]])
    latents = Latents(zeros, zeros, zeros, zeros + 1, mask)
    assert float(losses.kl_loss(latents)) == pytest.approx(3 * (-0.5 + 0.5))
    wider = Latents(zeros, zeros, zeros + 1, zeros, mask)
    assert float(losses.kl_loss(wider)) == pytest.approx(3 * (-1 - 0.5))


def test_the_mel_loss_is_that_of_librosas_spectrograms() -> None:
    """Several scales, averaged; windows of four hops, reflected at both ends."""
    librosa = pytest.importorskip("librosa")
    audio = PRESETS["small"].audio
    random = np.random.default_rng(0)
    real, fake = 0.1 * random.standard_normal((2, 2, 4800)).astype(np.float32)

    def log_mels(wave: np.ndarray, size: int, mels: int) -> np.ndarray:
        margin = (size - size // 4) // 2
        padded = np.pad(wave, ((0, 0), (margin, margin)), mode="reflect")
        spectra = librosa.stft(padded, n_fft=size, hop_length=size // 4, center=False)
        filters = librosa.filters.mel(sr=16000, n_fft=size, n_mels=mels, fmin=0, fmax=8000)
        return np.log(np.maximum(filters @ np.sqrt(np.abs(spectra) ** 2 + 1e-6), 1e-5))

    expected = np.mean(
        [
            np.abs(log_mels(real, *scale) - log_mels(fake, *scale)).mean()
            for scale in audio.mel_scales
        ]
    )
    targets = losses.mel_targets(jnp.asarray(real), audio)
    assert [target.shape for target in targets] == [
        (2, 4800 * 4 // size, mels) for size, mels in audio.mel_scales
    ]
    found = losses.mel_loss(jnp.asarray(fake), targets, audio)
    assert float(found) == pytest.approx(expected, rel=1e-4)
    assert float(losses.mel_loss(jnp.asarray(real), targets, audio)) < 1e-6


def test_a_preset_without_scales_has_that_of_its_spectrogram() -> None:
    audio = PRESETS["nano"].audio
    wave = jnp.asarray(np.random.default_rng(0).standard_normal((1, 3200)), jnp.float32)
    (target,) = losses.mel_targets(wave, audio)
    np.testing.assert_array_equal(target, log_mel(spectrogram(wave, audio), audio))
