"""ONNX files of the preset small: the same audio as JAX's, noise included."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from micro import MICRO_SMALL
from untrained_voices import untrained_voice

from rvc_jax.config import PRESETS, Preset
from rvc_jax.errors import UserError
from rvc_jax.voices.formats.onnx_model import (
    SOURCE_NOISE,
    check,
    disable_noise,
    draw_inputs,
    feed_source_noise,
    to_session_inputs,
    write,
)
from rvc_jax.voices.model import VoiceModel

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def make_voice(preset: Preset = MICRO_SMALL) -> VoiceModel:
    """A voice with no layer that is next to nothing, as a fresh one's are, at speech level."""
    model = untrained_voice(preset)
    random = np.random.default_rng(0)
    weights = {
        name: array + random.normal(0, 0.05, array.shape).astype(np.float32)
        for name, array in model.weights.items()
    }
    weights["dec.gains.weight"] *= 3
    return dataclasses.replace(model, weights=weights)


def open_session(data: bytes):
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def largest_difference(data: bytes, model: VoiceModel, frames: int, length: int) -> float:
    values = draw_inputs(model, frames, length, seed=frames)
    inputs = to_session_inputs(values, "w-okada", True)
    random = np.random.default_rng(frames)
    noise = random.standard_normal((1, frames, model.hop), np.float32)
    (audio,) = open_session(feed_source_noise(data)).run(None, inputs | {SOURCE_NOISE: noise})
    network = model.network()
    parameters = network.from_public(model.weights)
    values["source_noise"] = noise.reshape(1, -1)
    infer = jax.jit(lambda *arguments: network(parameters, "infer", *arguments))
    expected = np.asarray(infer(*values.values()))
    assert audio.shape == (1, 1, frames * model.hop)
    assert 0.03 < np.std(expected) < 0.5, "something to differ in"
    return float(np.abs(audio[0] - expected).max())


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, VoiceModel]:
    path = tmp_path_factory.mktemp("onnx") / "voice.onnx"
    model = make_voice()
    assert write(path, model) < 5e-4
    return path, model


@pytest.mark.parametrize(("frames", "length"), [(20, 20), (200, 150), (1, 1)])
def test_same_as_jax_for_any_length(spoken, frames: int, length: int) -> None:
    path, model = spoken
    assert largest_difference(path.read_bytes(), model, frames, length) < 1e-3


@pytest.mark.heavy
def test_the_whole_preset(tmp_path: Path) -> None:
    model = make_voice(PRESETS["small"])
    assert write(tmp_path / "voice.onnx", model, "rvc") < 5e-4
    data = (tmp_path / "voice.onnx").read_bytes()
    assert max(largest_difference(data, model, n, n) for n in (20, 300)) < 1e-3


def test_inputs_are_those_of_other_presets(spoken, tmp_path: Path) -> None:
    path, model = spoken
    write(tmp_path / "rvc.onnx", model, "rvc")
    names = {
        file: [value.name for value in open_session(file.read_bytes()).get_inputs()]
        for file in (path, tmp_path / "rvc.onnx")
    }
    assert names == {
        path: ["feats", "p_len", "pitch", "pitchf", "sid"],
        tmp_path / "rvc.onnx": ["phone", "phone_lengths", "pitch", "pitchf", "ds", "rnd"],
    }
    described = open_session(path.read_bytes()).get_modelmeta().custom_metadata_map
    facts = json.loads(described["metadata"])
    assert (facts["samplingRate"], facts["f0"], facts["embChannels"]) == (16000, True, 384)
    assert facts["embedder"] == "whisper-tiny"


def test_noise_is_drawn_inside(spoken) -> None:
    """Two runs differ as two of JAX do; without noise they are one."""
    path, model = spoken
    values = draw_inputs(model, 100, 100)
    inputs = to_session_inputs(values, "w-okada", True)
    session = open_session(path.read_bytes())
    drawn = np.std(session.run(None, inputs)[0] - session.run(None, inputs)[0])
    network = model.network()
    parameters = network.from_public(model.weights)
    infer = jax.jit(lambda *arguments: network(parameters, "infer", *arguments))
    waves = [
        infer(
            *values.values(),
            np.random.default_rng(seed).standard_normal((1, 16000), np.float32),
        )
        for seed in (1, 2)
    ]
    assert drawn == pytest.approx(float(np.std(waves[0] - waves[1])), rel=0.1)
    still = open_session(disable_noise(path.read_bytes()))
    np.testing.assert_array_equal(still.run(None, inputs)[0], still.run(None, inputs)[0])


@pytest.mark.parametrize("part", ["dec.gains.bias", "dec.step_blocks.0.expand.weight"])
def test_another_voice_is_found_out(spoken, part: str) -> None:
    path, model = spoken
    changed = model.weights | {part: 1.1 * model.weights[part] + 0.05}
    with pytest.raises(UserError, match=r"voice\.onnx: as ONNX the voice sounds different"):
        check(path, dataclasses.replace(model, weights=changed))
    assert check(path, model) < 5e-4
