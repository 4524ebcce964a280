"""DNSMOS: the opinion that listeners would have of a recording, as networks have learnt it from
such listeners.

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
from rvc_jax.weights import store

WEIGHTS = "dnsmos"
INSTALL_HINT = '`pip install "rvc_jax[eval]"` brings what it is measured with (its models alone: `rvc-jax download dnsmos`)'

_SAMPLES = int(9.01 * FEATURE_RATE)
_HOP = FEATURE_RATE
_MELS = 120
_MEL_WINDOW = 321
_MEL_HOP = 160
_MEL_CUT = 160
_CURVES = {  # from a network's answer to the scale of opinions, as published with the models
    "signal": (-0.08397278, 1.22083953, 0.0052439),
    "background": (-0.13166888, 1.60915514, -0.39604546),
    "overall": (-0.06766283, 1.11546468, 0.04602535),
}


class DnsmosScores(NamedTuple):
    """Mean opinion scores, 1 (bad) to 5 (excellent)."""

    signal: float
    """Of the speech itself."""
    background: float
    """Of the background: 5 is none that disturbs."""
    overall: float
    p808: float
    """Overall too, by a model of plain listening tests."""


class Dnsmos:
    """Opinions of 16 kHz audio."""

    def __init__(self, folder: Path) -> None:
        """From a folder with sig_bak_ovr.onnx and model_v8.onnx. Raises UserError if they are not
        that."""
        self._p835, self._p808 = (
            _session(folder / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")
        )

    @classmethod
    def find(cls) -> Dnsmos | None:
        """With the models on this machine, downloaded or in the package speechmos; None without, or
        no onnxruntime."""
        if importlib.util.find_spec("onnxruntime") is None:
            return None
        folder = store.find(WEIGHTS)
        return folder and cls(folder)

    def __call__(self, audio16k: np.ndarray) -> DnsmosScores:
        """audio16k [samples], at least one: the mean over its pieces of 9 s, one a second; a short
        one is repeated."""
        audio = np.clip(np.asarray(audio16k, np.float32), -1, 1)
        while len(audio) < _SAMPLES:
            audio = np.concatenate([audio, audio])
        count = int(len(audio) // FEATURE_RATE - _SAMPLES / FEATURE_RATE) + 1
        scores = [self._score(audio[i * _HOP : i * _HOP + _SAMPLES]) for i in range(count)]
        return DnsmosScores(*np.mean(scores, axis=0).tolist())

    def _score(self, piece: np.ndarray) -> DnsmosScores:
        answers = zip(
            _CURVES.items(), self._p835.run(None, {"input_1": piece[None]})[0][0], strict=True
        )
        (p808,) = self._p808.run(None, {"input_1": _log_mel(piece[:-_MEL_CUT])[None]})[0][0]
        return DnsmosScores(
            **{name: float(np.polyval(curve, answer)) for (name, curve), answer in answers},
            p808=float(p808),
        )


def _log_mel(piece: np.ndarray) -> np.ndarray:
    """[samples] -> float32 [frames, 120], in dB below the loudest, 40 dB to the unit."""
    import librosa

    mel = librosa.feature.melspectrogram(
        y=piece, sr=FEATURE_RATE, n_fft=_MEL_WINDOW, hop_length=_MEL_HOP, n_mels=_MELS
    )
    return ((librosa.power_to_db(mel, ref=np.max) + 40) / 40).T.astype(np.float32)


def _session(path: Path) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever is not the model raises something of its own
        raise UserError(
            f"{path} is no model that onnxruntime can run ({type(error).__name__})"
        ) from None
