"""RMVPE against golden outputs of the public implementation with weights made from their names, and
its decoding."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
from rows import cut_rows

from rvc_jax.errors import UserError
from rvc_jax.features.f0 import rmvpe
from rvc_jax.features.f0.decoding import local_average_pitch
from rvc_jax.weights import store, torch_file

GOLDEN = Path(__file__).parents[1] / "golden"
PARITY = Path(__file__).parents[2] / "parity"
sys.path.append(str(PARITY))
from reference import value  # noqa: E402


@pytest.fixture(scope="module")
def state():
    names = json.loads((PARITY / "names_features.json").read_text())["rmvpe."]
    return {name: value(f"rmvpe.{name}", shape) for name, shape in names.items() if shape}


@pytest.fixture(scope="module")
def extractor(state):
    return rmvpe.RmvpePitch(state, "made from names")


@pytest.fixture(scope="module")
def golden():
    with np.load(PARITY / "features.npz") as file:
        audio, mel, salience = (file[key] for key in ("audio", "rmvpe.mel", "rmvpe.salience"))
    whole = np.pad(audio, (0, -len(audio) % 320))[None]
    return whole, np.array([len(audio)]), mel.T, salience


def relative_error(ours, golden):
    return np.linalg.norm(ours - golden) / np.linalg.norm(golden)


def public_decoding(salience, threshold=0.03):
    """RMVPE's `to_local_average_cents` and `decode`, written down frame by frame in double
    precision."""
    cents = np.pad(20 * np.arange(360) + 1997.3794084376191, 4)
    result = []
    for frame in salience.astype(np.float64):
        best = int(np.argmax(frame))
        padded = np.pad(frame, 4)
        around = padded[best : best + 9]
        mean = (
            (around * cents[best : best + 9]).sum() / around.sum()
            if frame.max() > threshold
            else 0.0
        )
        f0 = 10 * 2 ** (mean / 1200)
        result.append(0.0 if f0 == 10 else f0)
    return np.array(result)


def decode(salience):
    return np.asarray(
        jax.jit(local_average_pitch, static_argnums=2)(
            salience, rmvpe.CENTS, rmvpe.VOICED_SALIENCE
        )
    )


def test_log_mel_equals_the_public_implementation(golden):
    audio, lengths, mel, _ = golden
    ours = np.asarray(jax.jit(rmvpe.log_mel)(audio, lengths))[0, : len(mel)]
    assert relative_error(ours, mel) < 1e-5


def test_salience_equals_the_public_implementation(extractor, golden):
    audio, lengths, _, salience = golden
    ours = np.asarray(jax.jit(rmvpe.salience)(extractor.parameters, audio, lengths))[
        0, : len(salience)
    ]
    assert relative_error(ours, salience) < 1e-5


def test_pitch_is_the_decoded_salience(extractor, golden):
    audio, lengths, _, salience = golden
    pitch = extractor(audio, lengths)
    assert pitch.shape == (1, 300) and pitch.dtype == np.float32
    # The network of made-up weights has many candidates that are nearly the best.
    close = np.abs(pitch[0, :299] / public_decoding(salience)[:299] - 1) < 1e-4
    assert close.mean() > 0.98 and pitch[0, 299] == 0  # the row ends at 299 frames


def test_rows_of_a_batch_give_what_they_give_alone(extractor, speech_windows):
    lengths = np.array([4800, 400])
    batch, alone = cut_rows(speech_windows[:, 1600:11200], lengths)
    salience = jax.jit(rmvpe.salience)
    together = np.asarray(salience(extractor.parameters, batch, lengths))
    for row, length, audio in zip(together, lengths, alone, strict=True):
        frames = length // 160
        expected = np.asarray(salience(extractor.parameters, audio, np.array([length])))[
            0, :frames
        ]
        assert relative_error(row[:frames], expected) < 1e-5
    assert np.isfinite(together).all()


def test_decoding_equals_the_public_one():
    rng = np.random.default_rng(0)
    salience = rng.uniform(0, 1, (200, 360)).astype(np.float32) ** 8
    bumps = np.exp(
        -0.5 * np.square((np.arange(360) - rng.uniform(-3, 363, (200, 1))) / 2)
    ).astype(np.float32)
    for found in (
        salience,
        bumps,
        bumps * 0.03,
        bumps * rng.uniform(0, 0.06, (200, 1)).astype(np.float32),
    ):
        expected = public_decoding(found)
        np.testing.assert_allclose(decode(found), expected, rtol=2e-6)  # 0.0035 cents
        assert (expected > 0).any() or found.max() <= 0.03


def test_decoding_at_the_edges():
    frames = np.zeros((8, 360), np.float32)
    frames[0, 0] = 0.5  # the lowest candidate
    frames[1, [0, 3]] = 0.5, 0.25
    frames[2, 359] = 0.5  # the highest
    frames[3, [355, 354, 359]] = 0.25, 0.25, 0.5  # one of them is five away
    frames[4, [100, 200]] = 0.5  # a tie: the lower one
    frames[5, [100, 104, 105]] = 0.5
    frames[6, 50] = 0.03  # not above the threshold
    pitch = decode(frames)
    np.testing.assert_allclose(pitch, public_decoding(frames), rtol=2e-6)
    cents = [1997.3794084376191, 1997.3794084376191 + 20, 9177.3794084376191]
    np.testing.assert_allclose(pitch[:3], 10 * 2 ** (np.array(cents) / 1200), rtol=2e-6)
    assert (pitch[:6] > 0).all() and not pitch[6:].any()


def test_refuses_weights_of_something_else(state):
    without = {
        name: array
        for name, array in state.items()
        if name != "unet.encoder.layers.3.conv.1.conv.4.bias"
    }
    misshapen = state | {"cnn.weight": state["cnn.weight"][:, :8]}
    for wrong in ({}, without, misshapen, {"model": state}, "weights"):
        with pytest.raises(UserError, match="these are not RMVPE's weights"):
            rmvpe.RmvpePitch(wrong, "")


def test_loads_the_file_of_the_registry(state, extractor, golden, tmp_path, monkeypatch):
    file = tmp_path / "rmvpe.pt"
    torch_file.write(file, state)
    monkeypatch.setattr(store, "path", lambda name: {"rmvpe": file}[name])
    loaded = rmvpe.RmvpePitch.load()
    assert loaded.name == "rmvpe" and len(loaded.fingerprint) == 64 != extractor.fingerprint
    np.testing.assert_array_equal(loaded(*golden[:2]), extractor(*golden[:2]))


def test_equals_the_public_pitch_with_the_public_weights():
    if store.find("rmvpe") is None:
        pytest.skip("the public weights of RMVPE are not in the cache (rvc-jax download rmvpe)")
    wave, _ = soundfile.read(GOLDEN / "reference.flac", dtype="float32")
    pitch = rmvpe.RmvpePitch.load()(np.pad(wave, (0, -len(wave) % 320))[None])[0]
    expected = np.load(GOLDEN / "pitch_fine.npy")[: len(pitch)]
    voiced = (pitch > 0) & (expected > 0)
    assert ((pitch > 0) == (expected > 0)).mean() > 0.995
    assert (1200 * np.abs(np.log2(pitch[voiced] / expected[voiced])) < 5).mean() > 0.99
