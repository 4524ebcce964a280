"""HuBERT against golden outputs of transformers, in every layout in which its models are
published."""

from __future__ import annotations

import argparse
import json
import re
import struct
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

from rvc_jax.errors import UserError
from rvc_jax.features.content import hubert, hubert_weights
from rvc_jax.weights import store, torch_file

GOLDEN = Path(__file__).parent / "golden"
PARITY = Path(__file__).parents[1] / "parity"
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


def encode(
    state: dict[str, np.ndarray], audio: np.ndarray, length: int | None = None
) -> np.ndarray:
    parameters = hubert_weights.from_state_dict(state)
    lengths = np.array([length or len(audio)], np.int32)
    return np.asarray(
        jax.jit(hubert.encode)(parameters, audio[None].astype(np.float32), lengths)
    )[0]


def first_layers(state: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    return {
        k: v
        for k, v in state.items()
        if (n := re.search(r"encoder\.layers\.(\d+)", k)) is None or int(n[1]) < count
    }


def relative_error(ours: np.ndarray, golden: np.ndarray) -> float:
    assert ours.shape == golden.shape
    return np.linalg.norm(ours - golden) / np.linalg.norm(golden)


@pytest.fixture(scope="module")
def outputs() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "hubert/outputs.npz") as file:
        return dict(file)


# --- numbers
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [9, 12])
def test_full_size_hidden_states_equal_the_public_ones(layers):
    """Of the recording alone; here something follows it."""
    names = json.loads((PARITY / "names_features.json").read_text())["hubert."]
    state = first_layers(
        {name: value(f"hubert.{name}", shape) for name, shape in names.items()}, layers
    )
    with np.load(PARITY / "features.npz") as file:
        audio = file["audio"]
        golden = file[f"hubert.layer{layers}"]
    padded = np.pad(audio, (0, 4000), constant_values=0.5)
    assert relative_error(encode(state, padded, len(audio))[: len(golden)], golden) < 1e-5


@pytest.mark.parametrize("name", ["base", "large"])
def test_small_models_equal_transformers(outputs, name):
    assert (
        relative_error(encode(small_state(name), outputs["audio"]), outputs[f"{name}.last"])
        < 1e-5
    )


def test_versions(outputs):
    """v2 is the last layer, whatever projection there is; v1 the ninth layer, projected."""
    parameters = hubert_weights.from_state_dict(projected(small_state("base")))
    audio = np.pad(outputs["audio"].astype(np.float32), (0, 320))[None, :16000]
    frames = jax.jit(hubert.encode)
    v2, v1 = (hubert.HubertContent(parameters, "hash", version) for version in ("v2", "v1"))
    padded = np.pad(audio, ((0, 0), (40, 40)), mode="reflect")
    lengths = np.array([padded.shape[1]])
    last = hubert_weights.from_state_dict(small_state("base"))
    ninth = hubert_weights.from_state_dict(first_layers(small_state("base"), 9))
    assert (v2.channels, v1.channels) == (128, 256)
    np.testing.assert_allclose(v2(audio), frames(last, padded, lengths), atol=1e-5)
    projection = parameters["final_projection.kernel"], parameters["final_projection.bias"]
    expected = np.asarray(frames(ninth, padded, lengths)) @ projection[0] + projection[1]
    assert relative_error(v1(audio), expected) < 1e-5
    assert (
        relative_error(
            encode(first_layers(small_state("base"), 9), outputs["audio"]), outputs["base.9"]
        )
        < 1e-5
    )
    assert (
        len(
            {
                v1.fingerprint,
                v2.fingerprint,
                hubert.HubertContent(parameters, "other").fingerprint,
            }
        )
        == 3
    )


def test_v1_of_a_model_that_has_it_not():
    with pytest.raises(
        UserError, match="custom: this model has no final projection, which v1 voices need"
    ):
        hubert.HubertContent(
            hubert_weights.from_state_dict(small_state("base")), "", "v1", "custom"
        )
    for state in (small_state("large"), first_layers(small_state("base"), 8)):
        with pytest.raises(UserError, match="ninth layer of a HuBERT base"):
            hubert.HubertContent(hubert_weights.from_state_dict(projected(state)), "", "v1")


def test_frame_count_of_the_golden_recording():
    samples = soundfile.info(GOLDEN / "reference.flac").frames
    parameters = hubert_weights.from_state_dict(small_state("base"))
    shape = jax.eval_shape(
        hubert._content, parameters, np.zeros((1, samples), np.float32), np.array([samples])
    ).shape
    assert shape == (1, 1743, 128)


def test_contentvec_equals_the_golden_recording():
    if not (store.find("contentvec") or store.find("hubert_base")):
        pytest.skip("ContentVec's weights are not on this machine: rvc-jax download contentvec")
    audio, _ = soundfile.read(GOLDEN / "reference.flac", dtype="float32")
    golden = np.load(GOLDEN / "hubert/contentvec_every_25th.npy").astype(np.float32)
    content = hubert.HubertContent.load("contentvec")(audio[None])[0]
    assert content.shape == (1743, 768)
    assert relative_error(content[::25], golden) < 5e-3  # the recording is kept in 16 bits


# --- layouts
# ---------------------------------------------------------------------------------------------------------

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


@pytest.fixture
def folder(tmp_path) -> Path:
    """A small model as transformers saves it today."""
    (tmp_path / "config.json").write_text(json.dumps(MODELS["base"]["config"]))
    write_safetensors(tmp_path / "model.safetensors", projected(small_state("base")))
    return tmp_path


def assert_equal(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], name)


def test_transformers_layouts(folder):
    """Weight norm under its new and its old names, names with a prefix, safetensors and PyTorch."""
    new, first = hubert_weights.load(str(folder))
    (folder / "model.safetensors").unlink()
    old_norm = (
        (r"parametrizations\.weight\.original0", "weight_g"),
        (r"parametrizations\.weight\.original1", "weight_v"),
    )
    old = renamed(projected(small_state("base")), *old_norm, ("^(?!final)", "hubert."))
    torch_file.write(
        folder / "pytorch_model.bin", old | {"lm_head.weight": np.zeros((3, 128), np.float32)}
    )
    read, second = hubert_weights.load(str(folder))
    assert_equal(read, new)
    assert len({first, second}) == 2


def test_fairseq_layout(folder):
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
    torch.save(content, folder / "hubert_base.pt")
    read, _ = hubert_weights.load(str(folder / "hubert_base.pt"))
    assert_equal(read, hubert_weights.from_state_dict(state))


def test_large_in_fairseq_layout():
    large = renamed(
        small_state("large"), (r"(conv_layers\.\d+)\.layer_norm\.", r"\1.2.1."), *FAIRSEQ
    )
    assert_equal(
        hubert_weights.from_state_dict(large),
        hubert_weights.from_state_dict(small_state("large")),
    )


# --- what is no such model
# -------------------------------------------------------------------------------------------


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
def test_configurations_that_are_refused(folder, change, message):
    (folder / "config.json").write_text(json.dumps(MODELS["base"]["config"] | change))
    with pytest.raises(
        UserError,
        match=rf"config\.json: not a HuBERT model that can be computed here: .*{message}",
    ):
        hubert_weights.load(str(folder))


@pytest.mark.parametrize("name", MODELS)
def test_configurations_that_are_taken(name):
    hubert_weights.check_config(MODELS[name]["config"], name)
    hubert_weights.check_config({}, "transformers' defaults")


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\xff\xfe", " " * (1 << 21)])
def test_damaged_configurations(folder, text):
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"config\.json: is "):
        hubert_weights.load(str(folder))


def test_folders_without_a_model(folder, tmp_path_factory):
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        UserError, match=r"has neither model\.safetensors nor pytorch_model\.bin"
    ):
        hubert_weights.load(str(folder))
    with pytest.raises(UserError, match=r"config\.json: cannot be read: No such file"):
        hubert_weights.load(str(tmp_path_factory.mktemp("empty")))


def test_missing_and_misshapen_parameters():
    state = small_state("base")
    state.pop("encoder.layers.3.attention.q_proj.bias")
    state["encoder.layer_norm.weight"] = np.ones(7, np.float32)
    state["encoder.layers.4.final_layer_norm.bias"] = np.zeros(128, np.int32)
    with pytest.raises(UserError) as error:
        hubert_weights.from_state_dict(state, "model.bin")
    assert str(error.value) == (
        "model.bin: not a whole HuBERT model: norm.scale is [7] and must be [128]; layers.3.attention.query.bias is "
        "missing and must be [128]; layers.4.mlp_norm.bias is missing and must be [128]"
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
