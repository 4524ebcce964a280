"""Content encoders and their originals, for `features_speed.py`.

The originals are plain PyTorch; whisper-tiny is also compared with onnxruntime. Weights are random:
speed does not depend on them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.config import FEATURE_RATE

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "helpers"), str(TESTS / "parity")]

SHAPES = {"16 x 3.36 s": (16, 53760), "1 x 30 s": (1, 480000)}
WHISPER_SIZES = {"whisper-tiny": (384, 4), "whisper-base": (512, 6), "whisper-small": (768, 12)}
NAMES = ("hubert", *WHISPER_SIZES)
Run = Callable[[np.ndarray], object]


def hubert_state() -> dict[str, np.ndarray]:
    """Parameters of HuBERT base, under the names of transformers."""
    import reference

    names = json.loads((TESTS / "parity/names_features.json").read_text())["hubert."]
    return {name: reference.value(f"hubert.{name}", shape) for name, shape in names.items()}


def ours(name: str, _: str) -> Run:
    from rvc_jax.features.content import hubert, hubert_weights, whisper

    if name == "hubert":
        return hubert.HubertContent(hubert_weights.from_state_dict(hubert_state()), "")
    import torch_encoders

    state = torch_encoders.random_whisper(*WHISPER_SIZES[name])
    return whisper.WhisperContent(whisper.from_openai_state_dict(state), "")


def pytorch(name: str, _: str) -> Run:
    import torch
    import torch_encoders

    torch.set_num_threads(os.cpu_count())
    if name == "hubert":
        state = torch_encoders.tensors(hubert_state())

        def encode(audio: Any) -> Any:
            return torch_encoders.hubert(state, audio)[-1]
    else:
        state = torch_encoders.tensors(torch_encoders.random_whisper(*WHISPER_SIZES[name]))
        filters = torch.from_numpy(whisper_filters())

        def encode(audio: Any) -> Any:
            return torch_encoders.whisper(state, torch_encoders.log_mel(audio, filters))

    def run(audio: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return encode(torch.from_numpy(audio)).numpy()

    return run


def onnxruntime(name: str, path: str) -> Run:
    """Whisper tiny with 8-bit weights and activations. The input is always thirty seconds long."""
    import onnxruntime
    import torch
    import torch_encoders

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    filters = torch.from_numpy(whisper_filters())

    def run(audio: np.ndarray) -> np.ndarray:
        mel = torch_encoders.log_mel(torch.from_numpy(audio), filters).numpy()
        return session.run(["last_hidden_state"], {"input_features": mel})[0]

    return run


def whisper_filters() -> np.ndarray:
    from rvc_jax.audio.spectrogram import mel_filters

    return np.ascontiguousarray(mel_filters(FEATURE_RATE, 400, 80, 0.0, None).T)
