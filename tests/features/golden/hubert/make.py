"""Hidden states of small HuBERT models by transformers; see README.md. Needs torch and
transformers.

python tests/features/golden/hubert/make.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import HubertConfig, HubertModel

HERE = Path(__file__).parent
PARITY = HERE.parents[2] / "parity"
sys.path.insert(0, str(PARITY))
import reference  # noqa: E402

SIZES = {
    "hidden_size": 128,
    "num_attention_heads": 2,
    "intermediate_size": 192,
    "conv_dim": [64] * 7,
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 4,
}
CONFIGS = {
    "base": {**SIZES, "num_hidden_layers": 10},
    "large": {
        **SIZES,
        "num_hidden_layers": 3,
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
        "conv_bias": True,
    },
}


def main() -> None:
    with np.load(PARITY / "features.npz") as file:
        audio = file["audio"][:16000]
    models = {}
    outputs = {"audio": audio.astype(np.float16)}
    audio = torch.from_numpy(outputs["audio"].astype(np.float32))[None]
    for name, config in CONFIGS.items():
        model = HubertModel(HubertConfig(**config)).eval()
        shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
        values = {
            key: torch.from_numpy(reference.value(f"{name}.{key}", shape))
            for key, shape in shapes.items()
        }
        model.load_state_dict(values)
        with torch.no_grad():
            output = model(audio, output_hidden_states=True)
        if name == "base":
            outputs["base.9"] = output.hidden_states[9][0].numpy()
        outputs[f"{name}.last"] = output.last_hidden_state[0].numpy()
        models[name] = {"config": {"model_type": "hubert", **config}, "shapes": shapes}
    (HERE / "models.json").write_text(json.dumps(models) + "\n")
    np.savez_compressed(HERE / "outputs.npz", **outputs)


if __name__ == "__main__":
    main()
