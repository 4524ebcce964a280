"""The Fourier transform that cannot deadlock: equal numbers, in batches that XLA never divides."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvc_jax.audio import spectrogram as module
from rvc_jax.audio.spectrogram import spectrogram
from rvc_jax.config import PRESETS
from rvc_jax.metrics.stft import stft_distance


@pytest.fixture(autouse=True)
def splitting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under versions of jaxlib that divide a transform's rows."""
    monkeypatch.setattr(module, "_CPU_RFFT_CAN_DEADLOCK", True)


@pytest.mark.parametrize(
    "shape", [(512,), (1, 400), (4, 400), (5, 400), (3, 7, 320), (2, 3, 5, 64)]
)
def test_values_are_those_of_numpy(shape: tuple[int, ...]) -> None:
    frames = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    ours = module.rfft(jnp.asarray(frames))
    expected = np.fft.rfft(frames)
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() <= 1e-5 * np.abs(expected).max()


def test_gradients_are_those_of_the_whole() -> None:
    frames = jnp.asarray(np.random.default_rng(0).standard_normal((3, 7, 320)), jnp.float32)
    ours, whole = (
        jax.grad(lambda x, f=f: jnp.sum(jnp.abs(f(x)) ** 1.5))(frames)
        for f in (module.rfft, jnp.fft.rfft)
    )
    assert float(jnp.abs(ours - whole).max()) <= 1e-5 * float(jnp.abs(whole).max())


def test_no_transform_of_training_or_evaluation_has_rows_to_divide() -> None:
    audio = PRESETS["nano"].audio
    waves = jax.ShapeDtypeStruct((8, 32000), jnp.float32)
    lengths = jax.ShapeDtypeStruct((8,), jnp.int32)

    def loss(a: jax.Array, b: jax.Array, samples: jax.Array) -> jax.Array:
        return stft_distance(a, b, samples).sum() + spectrogram(a, audio).sum()

    program = jax.jit(jax.value_and_grad(loss)).lower(waves, waves, lengths).as_text()
    inputs = re.findall(r"stablehlo\.fft .*: \(?tensor<([\dx]+)x", program)
    assert len(inputs) >= 8, "the spectrograms, and their gradients"
    assert max(np.prod([int(n) for n in shape.split("x")[:-1]]) for shape in inputs) <= 4
