"""DNSMOS: the opinion of listeners on a recording, predicted by networks trained on such opinions.

The models are those of the PyPI package speechmos 0.0.1.1 (MIT), run by onnxruntime; the package is
not imported. P.835 (overall, speech, background): arXiv 2110.01763; P.808: arXiv 2010.15258.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rvc_jax.config import FEATURE_RATE
from rvc_jax.errors import UserError
from rvc_jax.storage.installation import install_command
from rvc_jax.weights import store

WEIGHTS = "dnsmos"
INSTALL_HINT = (
    f"`{install_command('eval')}` brings what it is measured with "
    "(its models alone: `rvc-jax download dnsmos`)"
)

_SAMPLES = int(9.01 * FEATURE_RATE)
_HOP = FEATURE_RATE
_MELS = 120
_MEL_WINDOW = 321
_MEL_HOP = 160
_MEL_CUT = 160  # samples at the end of a piece that the P.808 model does not see
# Polynomials from a network's output to the scale of opinions, as published with the models.
_CURVES = {
    "signal": (-0.08397278, 1.22083953, 0.0052439),
    "background": (-0.13166888, 1.60915514, -0.39604546),
    "overall": (-0.06766283, 1.11546468, 0.04602535),
}


class DnsmosScores(NamedTuple):
    """Mean opinion scores, 1 (bad) to 5 (excellent)."""

    signal: float
    """The speech alone."""
    background: float
    """The background; 5: nothing disturbs."""
    overall: float
    p808: float
    """Overall as well, by a model of plain listening tests."""


class Dnsmos:
    """Predicts opinions on 16 kHz audio."""

    def __init__(self, folder: Path) -> None:
        """Load the models from a folder with sig_bak_ovr.onnx and model_v8.onnx.

        Raises:
          UserError: they are not there, or others.
        """
        self._p835 = _load_session(folder / "sig_bak_ovr.onnx")
        self._p808 = _load_session(folder / "model_v8.onnx")

    @classmethod
    def find(cls) -> Dnsmos | None:
        """Find the models on this machine, downloaded or in the package speechmos.

        None if they or onnxruntime are missing.
        """
        if importlib.util.find_spec("onnxruntime") is None:
            return None
        folder = store.find(WEIGHTS)
        return cls(folder) if folder else None

    def __call__(self, audio16k: np.ndarray) -> DnsmosScores:
        """Predict the opinion on audio [samples], at least one.

        It is the mean over pieces of 9 s, one per second. Shorter audio is repeated.
        """
        audio = np.clip(np.asarray(audio16k, np.float32), -1, 1)
        while len(audio) < _SAMPLES:
            audio = np.concatenate([audio, audio])
        count = int(len(audio) // FEATURE_RATE - _SAMPLES / FEATURE_RATE) + 1
        scores = [self._score(audio[i * _HOP : i * _HOP + _SAMPLES]) for i in range(count)]
        return DnsmosScores(*np.mean(scores, axis=0).tolist())

    def _score(self, piece: np.ndarray) -> DnsmosScores:
        outputs = self._p835.run(None, {"input_1": piece[None]})[0][0]
        scores = {
            name: float(np.polyval(curve, output))
            for (name, curve), output in zip(_CURVES.items(), outputs, strict=True)
        }
        mel = _log_mel(piece[:-_MEL_CUT])
        (p808,) = self._p808.run(None, {"input_1": mel[None]})[0][0]
        return DnsmosScores(**scores, p808=float(p808))


def _log_mel(piece: np.ndarray) -> np.ndarray:
    """[samples] -> float32 [frames, 120], relative to the maximum, one unit per 40 dB."""
    import librosa

    mel = librosa.feature.melspectrogram(
        y=piece, sr=FEATURE_RATE, n_fft=_MEL_WINDOW, hop_length=_MEL_HOP, n_mels=_MELS
    )
    return ((librosa.power_to_db(mel, ref=np.max) + 40) / 40).T.astype(np.float32)


def _load_session(path: Path) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has exceptions of its own for every kind of damage
        raise UserError(
            f"{path} is no model that onnxruntime can run ({type(error).__name__})"
        ) from None
