"""HuBERT models in every layout in which they are published, and files that hold none."""

from __future__ import annotations

import argparse
import json
import re

import numpy as np
import pytest
from small_hubert import MODELS, projected, small_state

from rvc_jax.errors import UserError
from rvc_jax.features.content import hubert_weights
from rvc_jax.weights import torch_file

FAIRSEQ = (
    (r"(conv_layers\.\d+)\.conv\.", r"\1.0."),
    (r"(conv_layers\.\d+)\.layer_norm\.", r"\1.2."),
    (r"^feature_projection\.layer_norm\.", "layer_norm."),
    (r"^feature_projection\.projection\.", "post_extract_proj."),
    (r"pos_conv_embed\.conv\.parametrizations\.weight\.original0", "pos_conv.0.weight_g"),
    (r"pos_conv_embed\.conv\.parametrizations\.weight\.original1", "pos_conv.0.weight_v"),
    (r"pos_conv_embed\.conv\.", "pos_conv.0."),
    (r"\.attention\.", ".self_attn."),
    (r"(layers\.\d+)\.layer_norm\.", r"\1.self_attn_layer_norm."),
    (r"feed_forward\.intermediate_dense", "fc1"),
    (r"feed_forward\.output_dense", "fc2"),
    (r"^masked_spec_embed$", "mask_emb"),
)


def renamed(state: dict[str, np.ndarray], *renames: tuple[str, str]) -> dict[str, np.ndarray]:
    result = {}
    for name, array in state.items():
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        result[name] = array
    return result


def assert_equal(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], name)


def test_transformers_layouts(hubert_folder):
    """Weight norm under its new and its old names, names with a prefix, safetensors and PyTorch."""
    new, first = hubert_weights.load(str(hubert_folder))
    (hubert_folder / "model.safetensors").unlink()
    old_norm = (
        (r"parametrizations\.weight\.original0", "weight_g"),
        (r"parametrizations\.weight\.original1", "weight_v"),
    )
    old = renamed(projected(small_state("base")), *old_norm, ("^(?!final)", "hubert."))
    torch_file.write(
        hubert_folder / "pytorch_model.bin",
        old | {"lm_head.weight": np.zeros((3, 128), np.float32)},
    )
    read, second = hubert_weights.load(str(hubert_folder))
    assert_equal(read, new)
    assert len({first, second}) == 2


def test_fairseq_layout(hubert_folder):
    """One file with the settings as objects, weights in half precision, and what training
    needed."""
    torch = pytest.importorskip("torch")
    state = {
        k: v.astype(np.float16).astype(np.float32)
        for k, v in projected(small_state("base")).items()
    }
    names = renamed(state, *FAIRSEQ) | {"label_embs_concat": np.zeros((504, 256), np.float32)}
    content = {"args": argparse.Namespace(arch="hubert"), "optimizer_history": [{"lr": 1.0}]}
    content["model"] = {name: torch.from_numpy(array).half() for name, array in names.items()}
    torch.save(content, hubert_folder / "hubert_base.pt")
    read, _ = hubert_weights.load(str(hubert_folder / "hubert_base.pt"))
    assert_equal(read, hubert_weights.from_state_dict(state))


def test_large_in_fairseq_layout():
    large = renamed(
        small_state("large"), (r"(conv_layers\.\d+)\.layer_norm\.", r"\1.2.1."), *FAIRSEQ
    )
    assert_equal(
        hubert_weights.from_state_dict(large),
        hubert_weights.from_state_dict(small_state("large")),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "wavlm"}, "model_type 'wavlm'"),
        ({"conv_stride": [5, 2, 2, 2, 2, 2, 1]}, "conv_stride"),
        (
            {"hidden_act": "relu", "conv_pos_batch_norm": True},
            "hidden_act 'relu', conv_pos_batch_norm True",
        ),
        (
            {"do_stable_layer_norm": True},
            "do_stable_layer_norm True with feat_extract_norm 'group'",
        ),
        ({"num_attention_heads": 16}, "hidden_size 128 with num_attention_heads 16"),
        ({"num_attention_heads": None}, "num_attention_heads None"),
    ],
)
def test_configurations_that_are_refused(hubert_folder, change, message):
    (hubert_folder / "config.json").write_text(json.dumps(MODELS["base"]["config"] | change))
    with pytest.raises(
        UserError,
        match=rf"config\.json: not a HuBERT model that can be computed here: .*{message}",
    ):
        hubert_weights.load(str(hubert_folder))


@pytest.mark.parametrize("name", MODELS)
def test_configurations_that_are_taken(name):
    hubert_weights.check_config(MODELS[name]["config"], name)
    hubert_weights.check_config({}, "transformers' defaults")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\xff\xfe", " " * (1 << 21)])
def test_damaged_configurations(hubert_folder, text):
    (hubert_folder / "config.json").write_text(text, encoding="latin-1")
    expected = r"config\.json (is damaged: .*; fetch the model again|has more than 1 MB)"
    with pytest.raises(UserError, match=expected):
        hubert_weights.load(str(hubert_folder))


def test_hubert_folders_without_a_model(hubert_folder, tmp_path_factory):
    (hubert_folder / "model.safetensors").unlink()
    with pytest.raises(
        UserError, match=r"has neither model\.safetensors nor pytorch_model\.bin"
    ):
        hubert_weights.load(str(hubert_folder))
    with pytest.raises(UserError, match=r"has no config\.json"):
        hubert_weights.load(str(tmp_path_factory.mktemp("empty")))


def test_missing_and_misshapen_parameters():
    state = small_state("base")
    state.pop("encoder.layers.3.attention.q_proj.bias")
    state["encoder.layer_norm.weight"] = np.ones(7, np.float32)
    state["encoder.layers.4.final_layer_norm.bias"] = np.zeros(128, np.int32)
    with pytest.raises(UserError) as error:
        hubert_weights.from_state_dict(state, "model.bin")
    assert str(error.value) == (
        "model.bin: not a whole HuBERT model: norm.scale is [7] and must be [128]; "
        "layers.3.attention.query.bias is missing and must be [128]; "
        "layers.4.mlp_norm.bias is missing and must be [128]"
    )
    for name in ("base", "large"):
        whole = small_state(name)
        for key in whole.keys() - {"masked_spec_embed"}:
            for damaged in (
                {k: v for k, v in whole.items() if k != key},
                whole | {key: whole[key][..., :-1]},
            ):
                with pytest.raises(UserError, match="HuBERT model"):
                    hubert_weights.from_state_dict(damaged)


@pytest.mark.parametrize(
    "content", [[1, 2], {"model": 3}, {}, {"weight": np.zeros(3, np.float32)}, {1: "x"}]
)
def test_files_of_something_else(tmp_path, content):
    torch_file.write(tmp_path / "x.pt", content)
    with pytest.raises(UserError, match=r"x\.pt: holds no"):
        hubert_weights.load(str(tmp_path / "x.pt"))
