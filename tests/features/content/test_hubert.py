"""HuBERT against golden outputs of transformers."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
import soundfile
from small_hubert import (
    GOLDEN,
    PARITY,
    first_layers,
    projected,
    relative_error,
    small_state,
    value,
)

from rvc_jax.errors import UserError
from rvc_jax.features.content import hubert, hubert_weights
from rvc_jax.weights import store


def encode(
    state: dict[str, np.ndarray], audio: np.ndarray, length: int | None = None
) -> np.ndarray:
    parameters = hubert_weights.from_state_dict(state)
    lengths = np.array([length or len(audio)], np.int32)
    return np.asarray(
        jax.jit(hubert.encode)(parameters, audio[None].astype(np.float32), lengths)
    )[0]


@pytest.fixture(scope="module")
def outputs() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "hubert/outputs.npz") as file:
        return dict(file)


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
    """v2 is the last layer, with or without a projection; v1 the ninth layer, projected."""
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
        hubert.compute_content,
        parameters,
        np.zeros((1, samples), np.float32),
        np.array([samples]),
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
