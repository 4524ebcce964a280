"""Custom content encoders, from a voice's file to its conversion."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from public_files import applio, classic, small_voice, write
from small_hubert import save_folder, small_state

from rvc_jax.cli.main import main
from rvc_jax.errors import UserError
from rvc_jax.features import content
from rvc_jax.features.content.hubert import HubertContent
from rvc_jax.features.content.hubert_weights import from_state_dict
from rvc_jax.voices.encoders import load_voice_encoder, normalize_name, show
from rvc_jax.voices.formats.infer_sizes import to_config_list
from rvc_jax.voices.model import VoiceModel
from rvc_jax.voices.open import open_voice
from rvc_jax.weights import store

CHANNELS = 128


@pytest.fixture(scope="module")
def voice() -> VoiceModel:
    return small_voice("40k", content_channels=CHANNELS)


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    folder = tmp_path / "Mein Hübert 声"
    folder.mkdir()
    save_folder(folder)
    content.load_cached.cache_clear()
    return folder


def test_an_imported_voice_keeps_its_encoder(
    tmp_path: Path, voice: VoiceModel, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stated = r"C:\Users\Ana\embedders_custom\My_Hubert"
    path = write(tmp_path / "ada.pth", applio(voice, embedder_model=stated))
    with pytest.raises(UserError) as caught:
        load_voice_encoder(open_voice(path))
    assert f"'{stated}', which is not here: --content-encoder" in str(caught.value)
    imported = str(tmp_path / "imported")
    assert (
        main(["import", str(path), "--out", imported, "--content-encoder", str(encoder)]) == 0
    )
    found = open_voice(imported)
    assert found.content_encoder == str(encoder) and found.content_fingerprint
    assert load_voice_encoder(found).channels == CHANNELS
    assert main(["info", imported]) == 0
    assert str(encoder) in capsys.readouterr().out

    moved = encoder.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="which is not here: --content-encoder takes"):
        load_voice_encoder(open_voice(imported))
    named = open_voice(imported, content_encoder=str(moved))
    assert load_voice_encoder(named).fingerprint == found.content_fingerprint
    other = tmp_path / "other"
    shutil.copytree(moved, other)
    arrays = safetensors.numpy.load_file(other / "model.safetensors")
    arrays["encoder.layer_norm.bias"] = arrays["encoder.layer_norm.bias"] + 1
    safetensors.numpy.save_file(arrays, other / "model.safetensors")
    with pytest.raises(UserError, match="its weights are other ones"):
        load_voice_encoder(open_voice(imported, content_encoder=str(other)))


def test_an_encoder_of_another_width_is_one_line(
    tmp_path: Path, encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "wide.pth", classic(small_voice("40k")))
    arguments = ["import", str(path), "--out", str(tmp_path / "x"), "--content-encoder"]
    assert main([*arguments, str(encoder)]) == 2
    assert "of 768 channels, those of" in capsys.readouterr().err
    assert main([*arguments, "whisper-tiny"]) == 2
    assert "have 384" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "gone")]) == 2
    assert "there is no content encoder" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_model_of_the_hub_is_fetched_for_users_alone(
    tmp_path: Path, voice: VoiceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(store, "hub_model", lambda name: asked.append(name) or tmp_path)
    path = write(tmp_path / "ada.pth", applio(voice, embedder_model="evil/hubert"))
    with pytest.raises(UserError, match="'evil/hubert', which is not here"):
        load_voice_encoder(open_voice(path))
    assert asked == []
    assert open_voice(path, content_encoder="me/hubert").content_encoder == "me/hubert"
    assert asked == ["me/hubert"]


@pytest.mark.parametrize("layer", [1, 3])
def test_another_layer_is_computed(
    tmp_path: Path, voice: VoiceModel, encoder: Path, layer: int
) -> None:
    """ddPn08's files: 19 sizes, the encoder under another key, its layer, names of speakers."""
    torch = pytest.importorskip("torch")
    import torch_encoders

    sizes = to_config_list(voice)
    sizes.insert(17, CHANNELS)
    names = {"0": "Ada", "1": "Bo", "2": "Cy"}
    told = {
        "config": sizes,
        "embedder_name": str(encoder),
        "embedder_output_layer": layer,
        "speaker_info": names,
        "params": {"sr": 40000},
    }
    path = write(tmp_path / "ada.pth", classic(voice, **told))
    found = open_voice(path)
    assert found.speakers == ("Ada", "Bo", "Cy") and found.content_layer == layer
    assert found.facts["other_keys"] == ["params"] and not found.is_rvc_compatible
    assert found.generator.content_channels == CHANNELS
    audio = 0.1 * np.random.default_rng(0).standard_normal((1, 9600)).astype(np.float32)
    ours = load_voice_encoder(found)(audio)
    state = torch_encoders.tensors(small_state("base"))
    padded = np.pad(audio, ((0, 0), (40, 40)), mode="reflect")
    with torch.no_grad():
        states = torch_encoders.hubert(state, torch.from_numpy(padded))
    np.testing.assert_allclose(ours, states[layer].numpy(), atol=2e-4)
    too_deep = dataclasses.replace(found, content_layer=50)
    with pytest.raises(UserError, match="takes layer 50 of its content encoder"):
        load_voice_encoder(too_deep)


def test_the_last_layer_is_the_default_of_v2() -> None:
    parameters = from_state_dict(small_state("base"))
    layers = sum(name.endswith(".mlp.in.kernel") for name in parameters)
    audio = np.random.default_rng(0).standard_normal((1, 3200)).astype(np.float32)
    default = HubertContent(parameters, "")
    same = HubertContent(parameters, "", layer=layers)
    np.testing.assert_array_equal(default(audio), same(audio))


def test_a_voice_in_the_safetensors_of_a_fork(tmp_path: Path, voice: VoiceModel) -> None:
    """deiteris's fork: weights by their classic names, everything else as text in the header."""
    told = applio(voice, epoch=7, speakers_id=2)
    texts = {
        name: json.dumps(value) if isinstance(value, (dict, list)) else str(value)
        for name, value in told.items()
        if name != "weight"
    }
    arrays = {name: np.ascontiguousarray(each) for name, each in told["weight"].items()}
    path = tmp_path / "ada.safetensors"
    safetensors.numpy.save_file(arrays, path, {"format": "pt"} | texts)
    expected = open_voice(write(tmp_path / "ada.pth", told))
    found = open_voice(path)
    for field in ("generator", "audio", "version", "content_encoder", "speakers"):
        assert getattr(found, field) == getattr(expected, field)
    assert found.facts["epoch"] == 7 and found.facts["name"] == "ada"
    for name, array in expected.weights.items():
        np.testing.assert_array_equal(found.weights[name], array)


def test_names_are_ours_or_unchanged() -> None:
    assert normalize_name("contentvec768") == normalize_name("hubert_base") == "contentvec"
    assert normalize_name("hubert-base-japanese") == "japanese-hubert-base"
    assert normalize_name("My_Hubert ") == "My_Hubert "
    assert show("C:\\a\\b") == "'C:\\a\\b'" and "\n" not in show("a\nb")
