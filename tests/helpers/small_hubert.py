"""Small HuBERT models with the weights of the golden outputs."""

from __future__ import annotations

import json
import re
import struct
import sys
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "features/golden"
PARITY = TESTS / "parity"
sys.path.append(str(PARITY))
from reference import value  # noqa: E402

MODELS = json.loads((GOLDEN / "hubert/models.json").read_text())


def small_state(name: str) -> dict[str, np.ndarray]:
    """A small model of the golden outputs, as transformers names it."""
    return {key: value(f"{name}.{key}", shape) for key, shape in MODELS[name]["shapes"].items()}


def projected(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    weights = {"weight": (256, 128), "bias": (256,)}
    return state | {
        f"final_proj.{leaf}": value(f"final_proj.{leaf}", shape)
        for leaf, shape in weights.items()
    }


def first_layers(state: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    return {
        k: v
        for k, v in state.items()
        if (n := re.search(r"encoder\.layers\.(\d+)", k)) is None or int(n[1]) < count
    }


def relative_error(ours: np.ndarray, golden: np.ndarray) -> float:
    assert ours.shape == golden.shape
    return np.linalg.norm(ours - golden) / np.linalg.norm(golden)


def write_safetensors(path: Path, state: dict[str, np.ndarray]) -> None:
    header = {}
    end = 0
    for name, array in state.items():
        header[name] = {
            "dtype": "F32",
            "shape": array.shape,
            "data_offsets": [end, end := end + array.nbytes],
        }
    text = json.dumps(header).encode()
    path.write_bytes(
        struct.pack("<Q", len(text))
        + text
        + b"".join(array.tobytes() for array in state.values())
    )


def save_folder(folder: Path) -> None:
    """A small model as transformers saves it today."""
    (folder / "config.json").write_text(json.dumps(MODELS["base"]["config"]))
    write_safetensors(folder / "model.safetensors", projected(small_state("base")))
