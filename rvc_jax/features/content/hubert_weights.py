"""Converts HuBERT models as they are published to parameters under our names.

Two layouts are read: transformers' (a folder with config.json and model.safetensors or
pytorch_model.bin, the weight norm under its old or its new names) and fairseq's (one `.pt` file).
Our names, with `#` for the number of a layer:

| name | shape |
|---|---|
| conv.#.kernel | [width, in, out]; `.bias` and `.norm` only in large models, but for conv.0.norm |
| projection.norm, projection.kernel, .bias | [in, out] |
| position.kernel, .bias | [width, in / groups, out], its weight norm folded |
| norm.scale, .bias | [out] |
| layers.#.attention.{query,key,value,out}, layers.#.mlp.{in,out} | [in, out] |
| layers.#.{attention,mlp}_norm | [out] |
| final_projection | [in, out]; only some models have it |
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from rvc_jax.config import CONTENT_ENCODERS
from rvc_jax.errors import UserError
from rvc_jax.features.nn import HEAD_CHANNELS
from rvc_jax.storage.json_files import read_json

CONV_KERNELS = (10, 3, 3, 3, 3, 2, 2)
CONV_STRIDES = (5, 2, 2, 2, 2, 2, 2)

_CONFIG_LIMIT = 1 << 20
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_ENDINGS = (".safetensors", ".bin", ".pt", ".pth")

_REQUIRED = {
    "model_type": "hubert",
    "conv_kernel": list(CONV_KERNELS),
    "conv_stride": list(CONV_STRIDES),
    "feat_extract_activation": "gelu",
    "hidden_act": "gelu",
    "feat_proj_layer_norm": True,
    "conv_pos_batch_norm": False,
    "layer_norm_eps": 1e-5,
}
"""Values of a config.json that are supported; each is also transformers' default."""

_MODULES = (
    # transformers, fairseq, ours
    ("feature_extractor.conv_layers.#.conv", "feature_extractor.conv_layers.#.0", "conv.#"),
    (
        "feature_extractor.conv_layers.#.layer_norm",
        "feature_extractor.conv_layers.#.2",
        "conv.#.norm",
    ),
    (
        "feature_extractor.conv_layers.#.layer_norm",
        "feature_extractor.conv_layers.#.2.1",
        "conv.#.norm",
    ),  # large
    ("feature_projection.layer_norm", "layer_norm", "projection.norm"),
    ("feature_projection.projection", "post_extract_proj", "projection"),
    ("encoder.pos_conv_embed.conv", "encoder.pos_conv.0", "position"),
    ("encoder.layer_norm", "encoder.layer_norm", "norm"),
    (
        "encoder.layers.#.attention.q_proj",
        "encoder.layers.#.self_attn.q_proj",
        "layers.#.attention.query",
    ),
    (
        "encoder.layers.#.attention.k_proj",
        "encoder.layers.#.self_attn.k_proj",
        "layers.#.attention.key",
    ),
    (
        "encoder.layers.#.attention.v_proj",
        "encoder.layers.#.self_attn.v_proj",
        "layers.#.attention.value",
    ),
    (
        "encoder.layers.#.attention.out_proj",
        "encoder.layers.#.self_attn.out_proj",
        "layers.#.attention.out",
    ),
    (
        "encoder.layers.#.layer_norm",
        "encoder.layers.#.self_attn_layer_norm",
        "layers.#.attention_norm",
    ),
    (
        "encoder.layers.#.feed_forward.intermediate_dense",
        "encoder.layers.#.fc1",
        "layers.#.mlp.in",
    ),
    ("encoder.layers.#.feed_forward.output_dense", "encoder.layers.#.fc2", "layers.#.mlp.out"),
    (
        "encoder.layers.#.final_layer_norm",
        "encoder.layers.#.final_layer_norm",
        "layers.#.mlp_norm",
    ),
    ("final_proj", "final_proj", "final_projection"),
)
_OURS = {theirs: ours for *names, ours in _MODULES for theirs in names}
_LEAVES = {
    "weight": "kernel",
    "bias": "bias",
    "weight_g": "norm_of_kernel",
    "weight_v": "direction_of_kernel",
    "parametrizations.weight.original0": "norm_of_kernel",
    "parametrizations.weight.original1": "direction_of_kernel",
}
_KEY = re.compile(
    rf"(?:(?:hubert|model|module|w2v_model)\.)*(.+?)\.({'|'.join(map(re.escape, _LEAVES))})"
)


def load(source: str) -> tuple[dict[str, np.ndarray], str]:
    """Load the parameters of a model.

    Args:
      source: a name of the registry (downloaded if needed), a folder in transformers' layout, a
        file in either layout, or OWNER/NAME on the hub.

    Returns: the parameters, and the hash of their file.

    Raises:
      UserError: there is no such model, or `hubert.encode` cannot compute it.
    """
    from rvc_jax.weights import store

    file = _weights_file(_locate(source))
    return from_state_dict(_read(file), str(file)), store.fingerprint(file)


def layers(parameters: Mapping[str, Any]) -> int:
    """Count the transformer layers."""
    return sum(name.endswith(".mlp.in.kernel") for name in parameters)


def from_state_dict(
    state: Mapping[str, Any], where: str = "state dict"
) -> dict[str, np.ndarray]:
    """Convert a state dict of transformers or fairseq; other entries are left out.

    Args:
      state: the state dict.
      where: its place, for the error.

    Raises:
      UserError: it does not hold all of a HuBERT model.
    """
    parameters = {}
    for key, array in state.items():
        name = _our_name(key)
        if name and isinstance(array, np.ndarray) and jnp.issubdtype(array.dtype, jnp.floating):
            # [out, in, (width)] -> [(width), in, out]
            parameters[name] = array.astype(np.float32, copy=False).T
    _fold_weight_norm(parameters)
    _check_shapes(parameters, where)
    return parameters


def check_config(config: Any, where: str) -> None:
    """Check the contents of a config.json.

    Raises:
      UserError: it is not that of a HuBERT model that `hubert.encode` computes.
    """
    if not isinstance(config, dict):
        raise UserError(f"{where}: is not a model's configuration")
    wrong = [
        f"{key} {config[key]!r:.60}"
        for key, value in _REQUIRED.items()
        if config.get(key, value) != value
    ]
    norm_first = config.get("do_stable_layer_norm", False)
    norm = config.get("feat_extract_norm", "group")
    if (norm_first, norm) not in ((False, "group"), (True, "layer")):
        wrong.append(
            f"do_stable_layer_norm {norm_first!r:.60} with feat_extract_norm {norm!r:.60}"
        )
    width = config.get("hidden_size", 768)
    heads = config.get("num_attention_heads", 12)
    if type(heads) is not int or width != heads * HEAD_CHANNELS:
        wrong.append(f"hidden_size {width!r:.60} with num_attention_heads {heads!r:.60}")
    if wrong:
        raise UserError(
            f"{where}: not a HuBERT model that can be computed here: {', '.join(wrong)}"
        )


def _locate(source: str) -> Path:
    from rvc_jax.weights import store

    if source == "contentvec" and not store.find(source):
        in_fairseq_layout = store.find("hubert_base")
        if in_fairseq_layout:
            return in_fairseq_layout
    if source in (*CONTENT_ENCODERS, "hubert_base"):
        return store.path(source)
    path = os.path.expanduser(source)  # noqa: PTH111
    # Path.exists raises for a text that cannot be a path at all.
    if os.path.exists(path):  # noqa: PTH110
        return Path(path)
    if store.is_hub_name(source):
        return store.hub_model(source)
    raise UserError(
        f"unknown content encoder {source!r}: known are {', '.join(CONTENT_ENCODERS)}; otherwise "
        "name a folder or file that exists, or OWNER/NAME on the Hugging Face hub"
    )


def _weights_file(path: Path) -> Path:
    """The file itself, or the weights in a folder whose config.json is supported."""
    if not path.is_dir():
        return path
    config = path / "config.json"
    try:
        stated = read_json(config, dict[str, Any], _CONFIG_LIMIT, "fetch the model again")
    except FileNotFoundError:
        raise UserError(f"{path} has no config.json, as the folder of a model has") from None
    check_config(stated, str(config))
    for name in _WEIGHTS:
        if (path / name).exists():
            return path / name
    # Tools let people name the file.
    others = [each for each in sorted(path.iterdir()) if each.suffix.lower() in _ENDINGS]
    if len(others) == 1:
        return others[0]
    raise UserError(f"{path}: has neither {' nor '.join(_WEIGHTS)}")


def _read(file: Path) -> Mapping[str, Any]:
    if file.suffix.lower() == ".safetensors":
        from rvc_jax.weights import safetensors_file

        return safetensors_file.read(file)
    from rvc_jax.weights import torch_file

    # fairseq's files name classes of their settings.
    content = torch_file.read(file, placeholders=True)
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise UserError(f"{file}: holds no model's weights")
    return state


def _our_name(key: Any) -> str | None:
    match = _KEY.fullmatch(key) if isinstance(key, str) else None
    if not match:
        return None
    module = match[1]
    leaf = _LEAVES[match[2]]
    ours = _OURS.get(re.sub(r"(?<=layers\.)\d+", "#", module))
    if not ours:
        return None
    if number := re.search(r"layers\.(\d+)", module):
        ours = ours.replace("#", number[1])
    if leaf == "kernel" and ours.endswith("norm"):
        leaf = "scale"
    return f"{ours}.{leaf}"


def _fold_weight_norm(parameters: dict[str, np.ndarray]) -> None:
    """Make the kernel of the positional convolution, whose norm is given for each of its taps."""
    norm = parameters.pop("position.norm_of_kernel", None)
    direction = parameters.pop("position.direction_of_kernel", None)
    if (
        norm is None
        or direction is None
        or direction.ndim != 3
        or norm.shape != (direction.shape[0], 1, 1)
    ):
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        length = np.linalg.norm(direction, axis=(1, 2), keepdims=True)
        parameters["position.kernel"] = direction * (norm / length)


def _check_shapes(parameters: dict[str, np.ndarray], where: str) -> None:
    """Raise UserError unless all parameters are there, with shapes that fit each other."""
    shapes = {name: array.shape for name, array in parameters.items()}
    wrong = []
    for name, shape in _expected_shapes(shapes, where).items():
        if shapes.get(name) != shape:
            found = list(shapes[name]) if name in shapes else "missing"
            wrong.append(f"{name} is {found} and must be {list(shape)}")
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(f"{where}: not a whole HuBERT model: {'; '.join(wrong[:3])}{more}")


def _expected_shapes(
    shapes: Mapping[str, tuple[int, ...]], where: str
) -> dict[str, tuple[int, ...]]:
    """Derive all shapes from the three that determine the sizes."""
    try:
        channels, width = shapes["projection.kernel"]
        taps, inputs, _ = shapes["position.kernel"]
        hidden = shapes["layers.0.mlp.in.kernel"][1]
    except (KeyError, ValueError, IndexError):
        raise UserError(
            f"{where}: holds no HuBERT model in transformers' or fairseq's layout"
        ) from None
    if not (width and taps and inputs and width % inputs == 0 and width % HEAD_CHANNELS == 0):
        raise UserError(
            f"{where}: not a HuBERT model: {width} channels do not go into heads of {HEAD_CHANNELS}"
        )
    expected: dict[str, tuple[int, ...]] = {
        "position.kernel": (taps, inputs, width),
        "position.bias": (width,),
    }

    def dense(name: str, inputs: int, outputs: int) -> None:
        expected.update({f"{name}.kernel": (inputs, outputs), f"{name}.bias": (outputs,)})

    def norm(name: str, channels: int) -> None:
        expected.update({f"{name}.scale": (channels,), f"{name}.bias": (channels,)})

    biased = any(re.fullmatch(r"conv\.\d\.bias", name) for name in shapes)
    all_normed = any(re.match(r"conv\.[1-9]\.norm", name) for name in shapes)
    for i, kernel in enumerate(CONV_KERNELS):
        expected[f"conv.{i}.kernel"] = (kernel, channels if i else 1, channels)
        if biased:
            expected[f"conv.{i}.bias"] = (channels,)
        if i == 0 or all_normed:
            norm(f"conv.{i}.norm", channels)
    norm("projection.norm", channels)
    dense("projection", channels, width)
    norm("norm", width)
    numbers = {name.split(".")[1] for name in shapes if name.startswith("layers.")}
    for i in range(len(numbers)):
        for part in ("query", "key", "value", "out"):
            dense(f"layers.{i}.attention.{part}", width, width)
        norm(f"layers.{i}.attention_norm", width)
        dense(f"layers.{i}.mlp.in", width, hidden)
        dense(f"layers.{i}.mlp.out", hidden, width)
        norm(f"layers.{i}.mlp_norm", width)
    projection = shapes.get("final_projection.kernel", ())
    if len(projection) == 2:
        dense("final_projection", width, projection[1])
    return expected
