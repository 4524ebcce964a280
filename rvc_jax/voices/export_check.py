"""Checks that a written voice sounds like its model: both render a short clip without any noise."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from rvc_jax.features.f0.coarse import coarse_pitch
from rvc_jax.voices.model import VoiceModel

FRAMES = 64
"""Length of the clip: 0.64 s."""

_UNVOICED_FRAMES = 8
_LOWEST_HZ = 110.0
_HIGHEST_HZ = 330.0
_FFT_LENGTH = 1024
_RANGE_DB = 60.0


class ExportCheck:
    """A clip of content features from the training speech, on a pitch slide that ends unvoiced.

    It takes no content encoder, so that none has to be downloaded.
    """

    def __init__(self, model: VoiceModel):
        """Render the clip with the model itself. A voice without an index gets random features."""
        rows = model.index
        channels = model.generator.content_channels
        if rows is None or len(rows) < FRAMES // 2:
            rows = 0.3 * np.random.default_rng(0).standard_normal((FRAMES // 2, channels))
        # From the middle of the training speech. Every row stands for two frames.
        begin = (len(rows) - FRAMES // 2) // 2
        some = rows[begin : begin + FRAMES // 2]
        self.content = np.repeat(some, 2, axis=0).astype(np.float32)
        """Content features [FRAMES, channels], float32."""
        self.f0 = np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, FRAMES).astype(np.float32)
        """Pitch [FRAMES] in Hz, float32."""
        self.f0[-_UNVOICED_FRAMES:] = 0
        self._latent_channels = model.generator.inter_channels
        self._hop = model.hop
        network = model.without_posterior().network()
        self._network = network
        self._names = network.public_shapes.keys()
        self._infer = jax.jit(lambda parameters, *inputs: network(parameters, "infer", *inputs))
        self.wave = self.render(model.weights)
        """The model's clip [samples], float32."""

    def render(self, weights: Mapping[str, np.ndarray]) -> np.ndarray:
        """Render the clip with other weights of the same sizes: float32 [samples]."""
        parameters = self._network.from_public({name: weights[name] for name in self._names})
        inputs = self.inputs()
        silence = np.zeros((1, FRAMES * self._hop), np.float32)
        return np.asarray(self._infer(parameters, *inputs.values(), silence)[0])

    def inputs(self) -> dict[str, np.ndarray]:
        """Return the clip's inputs by the names of `Synthesizer.infer`; the noise is zeros."""
        return {
            "content": self.content[None],
            "lengths": np.full(1, FRAMES, np.int64),
            "pitch": np.asarray(coarse_pitch(jnp.asarray(self.f0[None])), np.int64),
            "f0": self.f0[None],
            "speaker": np.zeros(1, np.int64),
            "noise": np.zeros((1, FRAMES, self._latent_channels), np.float32),
        }


def spectral_difference(wave: np.ndarray, reference: np.ndarray) -> float:
    """RMS difference of two waves' log spectra in dB, down to 60 dB below the reference's peak.

    Infinite if a wave is not finite, or they differ in length.
    """
    are_finite = np.isfinite(wave).all() and np.isfinite(reference).all()
    if wave.shape != reference.shape or not are_finite:
        return float("inf")
    transform = ShortTimeFFT(hann(_FFT_LENGTH), _FFT_LENGTH // 4, fs=1.0)
    magnitude = np.abs(transform.stft(wave.astype(np.float64)))
    expected = np.abs(transform.stft(reference.astype(np.float64)))
    floor = max(expected.max() * 10 ** (-_RANGE_DB / 20), 1e-12)
    above_floor = np.maximum(magnitude, expected) > floor
    if not above_floor.any():
        return 0.0
    levels = 20 * np.log10(np.maximum(magnitude, floor))
    expected_levels = 20 * np.log10(np.maximum(expected, floor))
    return float(np.sqrt(np.mean(np.square(levels - expected_levels)[above_floor])))
