"""RMVPE and FCPE for `features_speed.py`, ours and their originals, from audio to pitch.

FCPE's original is the package torchfcpe 0.0.4; RMVPE's is written in plain PyTorch, with weights
made from their names: speed does not depend on them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "parity"), str(Path(__file__).parent)]

SHAPES = {"16 x 3.36 s": (16, 53760), "1 x 30 s": (1, 480000)}
Run = Callable[[np.ndarray], np.ndarray]


def rmvpe_state() -> dict[str, np.ndarray]:
    import reference

    names = json.loads((TESTS / "parity/names_features.json").read_text())["rmvpe."]
    return {
        name: reference.value(f"rmvpe.{name}", shape) for name, shape in names.items() if shape
    }


def ours(name: str) -> Run:
    from rvc_jax.features.f0 import fcpe, rmvpe
    from rvc_jax.weights import torch_file

    if name == "rmvpe":
        return rmvpe.RmvpePitch(rmvpe_state(), "")
    package = Path(importlib.util.find_spec("torchfcpe").origin).parent
    return fcpe.FcpePitch(torch_file.read(package / "assets/fcpe_c_v001.pt")["model"], "")


def pytorch(name: str) -> Run:
    import torch

    torch.set_num_threads(os.cpu_count())
    if name == "rmvpe":
        from torch_rmvpe import Rmvpe

        model = Rmvpe().eval()
        state = {key: torch.from_numpy(array) for key, array in rmvpe_state().items()}
        model.load_state_dict(
            state
            | {k: v for k, v in model.state_dict().items() if k.endswith("batches_tracked")}
        )
        extract = model.pitch
    else:
        import torchfcpe

        model = torchfcpe.spawn_bundled_infer_model("cpu")

        def extract(audio: torch.Tensor) -> torch.Tensor:
            return model.infer(audio[..., None], 16000)

    def run(audio: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return extract(torch.from_numpy(audio)).numpy()

    return run
