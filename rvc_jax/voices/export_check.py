"""Does a written voice sound like the one it was made from? A short clip spoken by both, without
any noise."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import scipy.signal

from rvc_jax.features.f0.coarse import coarse_pitch
from rvc_jax.voices.model import VoiceModel

FRAMES = 64
"""Length of the clip: two thirds of a second."""

_UNVOICED = 8
_LOWEST = 110.0
_HIGHEST = 330.0
_TRANSFORM = 1024
_RANGE = 60.0


class ExportCheck:
    """The clip of a voice: a stretch of its own training speech's content, sung up a slide that
    ends unvoiced.

    No content encoder takes part, so that none has to be downloaded.
    """

    def __init__(self, model: VoiceModel, rows: np.ndarray | None):
        """rows: content features of the training speech [rows, channels]; random ones where there
        are none."""
        channels = model.generator.content_channels
        if rows is None or len(rows) < FRAMES // 2:
            rows = 0.3 * np.random.default_rng(0).standard_normal((FRAMES // 2, channels))
        begin = (len(rows) - FRAMES // 2) // 2
        self.content = np.repeat(rows[begin : begin + FRAMES // 2], 2, axis=0).astype(
            np.float32
        )
        """float32 [FRAMES, channels]."""
        self.f0 = np.geomspace(_LOWEST, _HIGHEST, FRAMES).astype(np.float32)
        """float32 [FRAMES], Hz."""
        self.f0[-_UNVOICED:] = 0
        self._latent_channels = model.generator.inter_channels
        network = model.without_posterior().network()
        self._network = network
        self._names = network.public_shapes.keys()
        self._speak = jax.jit(lambda parameters, *inputs: network(parameters, "infer", *inputs))
        self.wave = self.spoken(model.weights)
        """float32 [samples], of the model itself."""

    def spoken(self, weights: Mapping[str, np.ndarray]) -> np.ndarray:
        """The clip in these weights: float32 [samples]."""
        parameters = self._network.from_public({name: weights[name] for name in self._names})
        values = self.inputs()
        del values["noise"]
        return np.asarray(self._speak(parameters, *values.values())[0])

    def inputs(self) -> dict[str, np.ndarray]:
        """What is spoken, by the names of `Synthesizer.infer`; the noise is none."""
        return {
            "content": self.content[None],
            "lengths": np.full(1, FRAMES, np.int64),
            "pitch": np.asarray(coarse_pitch(jnp.asarray(self.f0[None])), np.int64),
            "f0": self.f0[None],
            "speaker": np.zeros(1, np.int64),
            "noise": np.zeros((1, FRAMES, self._latent_channels), np.float32),
        }


def spectral_difference(wave: np.ndarray, reference: np.ndarray) -> float:
    """RMS difference of two waves' log spectra in dB, over what is less than 60 dB below the
    reference's peak.

    Infinite if one is not finite or has another length.
    """
    if wave.shape != reference.shape or not (
        np.isfinite(wave).all() and np.isfinite(reference).all()
    ):
        return float("inf")
    window = scipy.signal.ShortTimeFFT(
        scipy.signal.windows.hann(_TRANSFORM), _TRANSFORM // 4, fs=1.0
    )
    ours, theirs = (np.abs(window.stft(each.astype(np.float64))) for each in (wave, reference))
    floor = max(theirs.max() * 10 ** (-_RANGE / 20), 1e-12)
    levels = [20 * np.log10(np.maximum(each, floor)) for each in (ours, theirs)]
    heard = np.maximum(ours, theirs) > floor
    return (
        float(np.sqrt(np.mean(np.square(levels[0] - levels[1])[heard]))) if heard.any() else 0.0
    )
