"""ONNX files: valid, the same audio as JAX's for any length, with the names and facts that other
programs look for."""

from __future__ import annotations

import builtins
import dataclasses
import json
import math

import jax
import numpy as np
import pytest
from micro import MICRO

from rvc_jax.config import PRESETS, Preset
from rvc_jax.errors import UserError
from rvc_jax.models.synthesizer import build_synthesizer
from rvc_jax.voices.formats.onnx_model import (
    check,
    disable_noise,
    draw_inputs,
    to_session_inputs,
    wokada_metadata,
    write,
)
from rvc_jax.voices.model import VoiceModel

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def voice(preset: Preset, seed: int = 0, has_pitch: bool = True) -> VoiceModel:
    """A loud voice: no layer of it is next to nothing, as a fresh one's are."""
    generator = dataclasses.replace(preset.generator, has_pitch=has_pitch)
    network = build_synthesizer(generator, preset.audio, posterior=False)
    weights = network.to_public(network.init(seed))
    random = np.random.default_rng(seed)
    for name, array in weights.items():
        if name.endswith("post.weight") and "flow" in name:
            weights[name] = random.normal(0, 0.1, array.shape).astype(np.float32)
        elif name.endswith("weight_g"):
            weights[name] = random.uniform(0.5, 1.2, array.shape).astype(np.float32)
        elif name.endswith(("bias", "gamma", "beta")):
            weights[name] = array + random.normal(0, 0.05, array.shape).astype(np.float32)
    return VoiceModel(generator, preset.audio, preset.version, weights)


def session(data: bytes):
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def difference(data: bytes, model: VoiceModel, frames: int, length: int) -> float:
    values = draw_inputs(model, frames, length, seed=frames)
    (audio,) = session(data).run(
        None, to_session_inputs(values, "rvc", model.generator.has_pitch)
    )
    network = model.network()
    expected = network(
        network.from_public(model.weights), "infer", *map(jax.numpy.asarray, values.values())
    )
    assert audio.shape == (1, 1, frames * model.audio.hop)
    assert np.std(expected) > 0.01 and np.abs(expected).max() > 0.1  # something to differ in
    return float(np.abs(audio[0] - expected).max())


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A small voice and its file for RVC."""
    path = tmp_path_factory.mktemp("onnx") / "voice.onnx"
    model = voice(MICRO)
    assert write(path, model, "rvc") < 1e-4
    return path, model


@pytest.mark.parametrize(("frames", "length"), [(20, 20), (37, 37), (200, 150), (1, 1)])
def test_same_as_jax_for_any_length(spoken, frames, length):
    path, model = spoken
    assert difference(disable_noise(path.read_bytes()), model, frames, length) < 1e-4


def test_voice_without_pitch(tmp_path):
    path = tmp_path / "voice.onnx"
    model = voice(MICRO, has_pitch=False)
    assert write(path, model, "rvc") < 1e-4
    assert [value.name for value in session(path.read_bytes()).get_inputs()] == [
        "phone",
        "phone_lengths",
        "ds",
        "rnd",
    ]
    write(path, model)
    assert [value.name for value in session(path.read_bytes()).get_inputs()] == [
        "feats",
        "p_len",
        "sid",
    ]
    assert wokada_metadata(model)["modelType"] == "pyTorchRVCv2Nono"


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["nano", "40k", "48k-v1"])
def test_whole_presets(name, tmp_path):
    path = tmp_path / "voice.onnx"
    model = voice(PRESETS[name])
    assert write(path, model, "rvc") < 1e-4
    assert (
        max(
            difference(disable_noise(path.read_bytes()), model, frames, frames)
            for frames in (20, 100)
        )
        < 1e-4
    )


def test_inputs_of_both_kinds(spoken, tmp_path):
    path, model = spoken
    kinds = [
        (value.name, value.type, value.shape)
        for value in session(path.read_bytes()).get_inputs()
    ]
    assert kinds == [
        ("phone", "tensor(float)", [1, "frames", 384]),
        ("phone_lengths", "tensor(int64)", [1]),
        ("pitch", "tensor(int64)", [1, "frames"]),
        ("pitchf", "tensor(float)", [1, "frames"]),
        ("ds", "tensor(int64)", [1]),
        ("rnd", "tensor(float)", [1, 16, "frames"]),
    ]
    write(tmp_path / "w.onnx", model)
    changer = session((tmp_path / "w.onnx").read_bytes())
    assert [value.name for value in changer.get_inputs()] == [
        "feats",
        "p_len",
        "pitch",
        "pitchf",
        "sid",
    ]
    assert [(value.name, value.shape) for value in changer.get_outputs()] == [
        ("audio", [1, 1, "samples"])
    ]


def test_metadata_is_in_the_file(spoken):
    path, model = spoken
    told = json.loads(
        session(path.read_bytes()).get_modelmeta().custom_metadata_map["metadata"]
    )
    assert (
        told
        == wokada_metadata(model)
        == {
            "application": "VC_CLIENT",
            "version": "2",
            "modelType": "pyTorchRVCv2",
            "samplingRate": 16000,
            "f0": True,
            "embChannels": 384,
            "embedder": "hubert_base",
            "embOutputLayer": 12,
            "useFinalProj": False,
        }
    )
    first = wokada_metadata(dataclasses.replace(model, version="v1"))
    assert (first["modelType"], first["embOutputLayer"], first["useFinalProj"]) == (
        "pyTorchRVC",
        9,
        True,
    )


def test_noise_is_drawn_inside_as_loud_as_ours(spoken, tmp_path):
    """Two runs differ as two of JAX do that draw noise of the same deviations."""
    model = spoken[1]
    write(tmp_path / "w.onnx", model)
    values = draw_inputs(model, 100, 100)
    network = model.network()
    parameters = network.from_public(model.weights)

    def ours(seed: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        noise = 0.66666 * random.standard_normal(values["noise"].shape, np.float32)
        source = random.standard_normal((1, 100 * model.audio.hop), np.float32)
        arguments = [*values.values()][:-1]
        return np.asarray(
            network(parameters, "infer", *map(jax.numpy.asarray, [*arguments, noise, source]))
        )

    changer = session((tmp_path / "w.onnx").read_bytes())
    inputs = to_session_inputs(values, "w-okada", True)
    theirs = np.std(changer.run(None, inputs)[0] - changer.run(None, inputs)[0])
    expected = np.std(ours(1) - ours(2))
    assert math.isclose(theirs, expected, rel_tol=0.15)
    spoken_again = session(disable_noise((tmp_path / "w.onnx").read_bytes()))
    assert np.array_equal(spoken_again.run(None, inputs)[0], spoken_again.run(None, inputs)[0])


def test_another_voice_is_found_out(spoken):
    path, model = spoken
    weights = dict(model.weights)
    weights["dec.conv_pre.weight"] = 1.05 * weights["dec.conv_pre.weight"]
    with pytest.raises(UserError, match="voice.onnx: as ONNX the voice sounds different"):
        check(path, dataclasses.replace(model, weights=weights))
    assert check(path, model) < 1e-4


def test_nothing_is_written_of_a_wrong_graph(spoken, tmp_path, monkeypatch):
    monkeypatch.setattr("rvc_jax.voices.formats.onnx_model.SINE_AMPLITUDE", 0.2)
    with pytest.raises(UserError, match="sounds different"):
        write(tmp_path / "voice.onnx", spoken[1])
    assert not list(tmp_path.iterdir())


def test_missing_package_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == "onnx":
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r'need the package onnx: pip install .*\[onnx\]"'):
        write(tmp_path / "voice.onnx", voice(MICRO))
    assert not list(tmp_path.iterdir())
