"""The .pth of a voice, key by key and type by type, by our reader and by PyTorch's; and the
checkpoints to train on."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from made_runs import ROWS, make_model
from micro import MICRO

from rvc_jax.config import PRESETS, TrainConfig
from rvc_jax.errors import UserError
from rvc_jax.models.discriminator import Discriminator
from rvc_jax.models.parameters import Network
from rvc_jax.voices.export_check import ExportCheck, spectral_difference
from rvc_jax.voices.formats import pth_writer
from rvc_jax.voices.formats.pth_writer import (
    ReadBackError,
    build_checkpoint_content,
    build_voice_content,
    write_checked,
)
from rvc_jax.voices.model import VoiceModel
from rvc_jax.weights import torch_file

CONFIG_40K = [
    1025,
    32,
    192,
    192,
    768,
    2,
    6,
    3,
    0,
    "1",
    [3, 7, 11],
    [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    [10, 10, 2, 2],
    512,
    [16, 16, 4, 4],
    109,
    256,
    40000,
]
"""As the public tools write it."""

KEYS = {
    "weight": OrderedDict,
    "config": list,
    "info": str,
    "sr": str,
    "f0": int,
    "version": str,
    "epoch": int,
    "step": int,
    "creation_date": str,
    "model_hash": str,
    "dataset_length": str,
    "model_name": str,
    "author": str,
    "embedder_model": str,
    "speakers_id": int,
    "vocoder": str,
}


def golden_shapes() -> dict[str, list[int]]:
    """The parameters of a public 40k generator."""
    return json.loads((Path(__file__).parents[2] / "parity" / "names_40000.json").read_text())


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, VoiceModel]:
    """A .pth of the preset 40k, and the voice that is in it."""
    random = np.random.default_rng(3)
    weights = {
        name: 0.1 * random.standard_normal(shape, dtype=np.float32)
        for name, shape in golden_shapes().items()
    }
    preset = PRESETS["40k"]
    facts = {
        "name": "made",
        "epoch": 7,
        "step": 700,
        "author": "somebody",
        "dataset_length": "00:20:00",
    }
    model = VoiceModel(
        preset.generator, preset.audio, "v2", weights, speakers=("callie",), facts=facts
    )
    path = tmp_path_factory.mktemp("voice") / "made.pth"
    write_checked(path, build_voice_content(model))
    return path, model


def check_table(content: OrderedDict, tensor_type: type) -> None:
    assert type(content) is OrderedDict and list(content) == list(KEYS)
    for key, kind in KEYS.items():
        assert type(content[key]) is kind, key
    assert content["config"] == CONFIG_40K
    assert [type(each) for each in content["config"]] == [type(each) for each in CONFIG_40K]
    expected = {
        name: tuple(shape)
        for name, shape in golden_shapes().items()
        if not name.startswith("enc_q")
    }
    assert {name: tuple(tensor.shape) for name, tensor in content["weight"].items()} == expected
    assert len(content["weight"]) == 457
    assert {type(tensor) for tensor in content["weight"].values()} == {tensor_type}
    assert content["config"][15] == content["weight"]["emb_g.weight"].shape[0]
    plain = {
        key: content[key]
        for key in ("info", "sr", "f0", "version", "epoch", "step", "dataset_length")
    }
    assert plain == {
        "info": "7epoch",
        "sr": "40k",
        "f0": 1,
        "version": "v2",
        "epoch": 7,
        "step": 700,
        "dataset_length": "00:20:00",
    }
    assert (content["model_name"], content["author"]) == ("made", "somebody")
    assert (content["embedder_model"], content["speakers_id"], content["vocoder"]) == (
        "contentvec",
        1,
        "HiFi-GAN",
    )
    assert len(content["model_hash"]) == 64 and content["creation_date"][4] == "-"


def test_the_table_by_our_reader(full: tuple[Path, VoiceModel]) -> None:
    path, model = full
    content = torch_file.read(path)
    check_table(content, np.ndarray)
    for name, array in content["weight"].items():
        assert array.dtype == np.float16
        np.testing.assert_array_equal(array, model.weights[name].astype(np.float16))


def test_the_table_by_pytorch(full: tuple[Path, VoiceModel]) -> None:
    torch = pytest.importorskip("torch")
    path, model = full
    content = torch.load(path, weights_only=True, map_location="cpu")
    check_table(content, torch.Tensor)
    for name, tensor in content["weight"].items():
        assert tensor.dtype == torch.float16 and tensor.is_contiguous()
        assert torch.equal(tensor, torch.from_numpy(model.weights[name]).half()), name


def test_what_is_not_known_is_none() -> None:
    content = build_voice_content(dataclasses.replace(make_model(1), facts={}))
    assert (content["author"], content["dataset_length"]) == (None, None)
    assert (content["model_name"], content["info"], content["epoch"]) == ("voice", "0epoch", 0)
    numbers = {"epoch": np.int64(3), "step": np.int32(9), "name": np.str_("x")}
    content = build_voice_content(dataclasses.replace(make_model(1), facts=numbers))
    assert [type(content[key]) for key in ("epoch", "step", "model_name")] == [int, int, str]


def test_other_kinds_of_voices() -> None:
    model = make_model(1)
    silent = dataclasses.replace(
        model, generator=dataclasses.replace(model.generator, has_pitch=False), version="v1"
    )
    content = build_voice_content(silent)
    assert (content["f0"], content["version"], content["sr"]) == (0, "v1", "16k")
    custom = build_voice_content(
        dataclasses.replace(model, content_encoder="/home/somebody/hubert")
    )
    assert custom["embedder_model"] == "custom" and "somebody" not in str(custom["config"])


@pytest.mark.parametrize(
    ("value", "told"), [(7.0e4, "7e+04"), (math.nan, "not finite"), (-math.inf, "not finite")]
)
def test_what_float16_cannot_hold_is_an_error(value: float, told: str) -> None:
    model = make_model(1)
    broken = model.weights["dec.conv_pre.weight"].copy()
    broken[0, 0, 0] = value
    with pytest.raises(UserError, match="dec.conv_pre.weight") as caught:
        build_voice_content(
            dataclasses.replace(model, weights=model.weights | {"dec.conv_pre.weight": broken})
        )
    assert told in str(caught.value)
    hidden = {"enc_q.pre.bias": np.full_like(model.weights["enc_q.pre.bias"], 7e4)}
    build_voice_content(
        dataclasses.replace(model, weights=model.weights | hidden)
    )  # it is not in the file


def test_the_largest_of_float16_is_kept(tmp_path: Path) -> None:
    model = make_model(1)
    weights = model.weights | {
        "dec.conv_pre.bias": np.full_like(model.weights["dec.conv_pre.bias"], -65504.0)
    }
    model = dataclasses.replace(model, weights=weights)
    found = write_checked(tmp_path / "a.pth", build_voice_content(model))["weight"]
    assert (found["dec.conv_pre.bias"] == -65504).all()
    assert 0.9 < pth_writer.measure_rounding(found, model.without_posterior().weights) <= 1


def test_rounding_knows_its_bound() -> None:
    weights = {"a": np.float32([1.0, 1.0 + 2**-11, 3e-8, 0.0])}
    assert pth_writer.measure_rounding(
        {"a": weights["a"].astype(np.float16)}, weights
    ) == pytest.approx(1, abs=1e-2)
    assert pth_writer.measure_rounding(weights, weights) == 0
    for found in (
        {},
        {"a": weights["a"][:2]},
        {"a": weights["a"] * np.float32(1.001)},
        {"a": weights["a"] * np.nan},
    ):
        with pytest.raises(ReadBackError):
            pth_writer.measure_rounding(found, weights)


@pytest.mark.parametrize("change", ["bytes", "key", "type", "value", "length"])
def test_a_file_that_came_out_otherwise_is_noticed(
    tmp_path: Path, monkeypatch, change: str
) -> None:
    content = build_voice_content(make_model(1))
    write = torch_file.write

    def damaged(path: Path, value: OrderedDict) -> None:
        value = OrderedDict(value)
        if change == "bytes":
            weight = value["weight"]["dec.conv_pre.bias"] + np.float16(1)
            value["weight"] = OrderedDict(value["weight"] | {"dec.conv_pre.bias": weight})
        elif change == "key":
            value.move_to_end("info")
        elif change == "length":
            value["config"] = value["config"][:-1]
        else:
            value["f0"] = True if change == "type" else 0
        write(path, value)

    monkeypatch.setattr(torch_file, "write", damaged)
    with pytest.raises(ReadBackError):
        write_checked(tmp_path / "a.pth", content)


def test_a_torn_file_is_noticed(tmp_path: Path, monkeypatch) -> None:
    write = torch_file.write

    def torn(path: Path, value: OrderedDict) -> None:
        write(path, value)
        path.write_bytes(path.read_bytes()[:-100])

    monkeypatch.setattr(torch_file, "write", torn)
    with pytest.raises(UserError, match="a.pth"):
        write_checked(tmp_path / "a.pth", build_voice_content(make_model(1)))


@pytest.mark.parametrize("kind", ["generator", "discriminator"])
def test_training_goes_on_in_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """As RVC and Applio do it: the model by names, the optimizer, its schedule from the epoch, the
    gradient scaler."""
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import torch_models  # the public names, in the public order

    if kind == "generator":
        module = torch_models.Synthesizer(MICRO.generator, MICRO.audio)
        weights = make_model(1).weights
    else:
        module = torch_models.Discriminator(MICRO.discriminator)
        network = Network(Discriminator(MICRO.discriminator))
        weights = network.to_public(network.init(1))
    write_checked(
        tmp_path / "2333333.pth", build_checkpoint_content(weights, 5, TrainConfig(), rate=0.5)
    )
    content = torch.load(tmp_path / "2333333.pth", weights_only=True, map_location="cpu")
    assert list(content) == ["model", "iteration", "optimizer", "learning_rate", "scaler"]
    assert (content["iteration"], content["learning_rate"]) == (5, 1e-4)
    module.load_state_dict(content["model"], strict=True)
    for name, parameter in module.named_parameters():
        assert parameter.dtype == torch.float32 and torch.equal(
            parameter.data, torch.from_numpy(weights[name])
        )

    adamw = torch.optim.AdamW(module.parameters(), 1e-4, betas=(0.8, 0.99), eps=1e-9)
    assert set(adamw.state_dict()["param_groups"][0]) <= set(
        content["optimizer"]["param_groups"][0]
    )
    adamw.load_state_dict(content["optimizer"])
    expected = 0.5 * 1e-4 * 0.999875**4
    assert adamw.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-12)
    schedule = torch.optim.lr_scheduler.ExponentialLR(adamw, gamma=0.999875, last_epoch=5 - 1)
    assert schedule.get_last_lr()[0] == pytest.approx(
        expected, rel=2e-4
    )  # some versions of PyTorch step at once
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    adamw.step()
    assert len(adamw.state) == len(weights)
    for (
        name,
        parameter,
    ) in module.named_parameters():  # the first step of AdamW is the rate itself, and its decay
        moved = parameter.data - torch.from_numpy(weights[name]) * (1 - 0.01 * expected)
        assert moved.mean() == pytest.approx(-expected, rel=0.05), name

    scaler = torch.amp.GradScaler("cpu")
    scaler.load_state_dict(content["scaler"])
    assert scaler.get_scale() == 65536 and scaler.state_dict() == content["scaler"]


def test_an_optimiser_of_another_network_is_refused_by_pytorch() -> None:
    torch = pytest.importorskip("torch")
    content = build_checkpoint_content(
        {"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)}, 1, TrainConfig()
    )
    adamw = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))])
    with pytest.raises(ValueError, match="size of optimizer"):
        adamw.load_state_dict(content["optimizer"])


def test_pytorch_renders_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its networks with the weights of the file, and ours with those of the voice before it was
    rounded."""
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    import torch_models

    random = np.random.default_rng(5)
    model = make_model(1)
    # Fresh networks have layers that are zero, or so faint that they are inaudible.
    weights = {
        name: np.abs(array) + np.float32(0.5)
        if name.endswith(("weight_g", "gamma"))
        else 0.3 * random.standard_normal(array.shape, dtype=np.float32)
        for name, array in model.weights.items()
    }
    model = dataclasses.replace(model, weights=weights)
    write_checked(tmp_path / "a.pth", build_voice_content(model))
    module = torch_models.Synthesizer(MICRO.generator, MICRO.audio).eval()
    content = torch.load(tmp_path / "a.pth", weights_only=True)
    missing, unexpected = module.load_state_dict(content["weight"], strict=False)
    assert not unexpected and {name.partition(".")[0] for name in missing} == {"enc_q"}

    clip = ExportCheck(dataclasses.replace(model, index=ROWS))
    inputs = {name: torch.from_numpy(value.copy()) for name, value in clip.inputs().items()}
    with torch.no_grad():
        names = ("content", "pitch", "f0", "lengths", "speaker")
        theirs = module.infer(*(inputs[name] for name in names), noise_scale=0.0)[0, 0].numpy()
    ours = clip.render(
        {name: tensor.float().numpy() for name, tensor in content["weight"].items()}
    )
    assert np.std(theirs) > 0.01
    assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 1e-4
    assert spectral_difference(theirs, clip.wave) < 0.5
