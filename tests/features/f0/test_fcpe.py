"""FCPE with its real weights against torchfcpe, from which it is ported, and against RMVPE."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
from rows import cut_rows

from rvc_jax.errors import UserError
from rvc_jax.features import nn
from rvc_jax.features.f0 import fcpe
from rvc_jax.features.f0.decoding import local_average_pitch
from rvc_jax.weights import store, torch_file

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def weights_file():
    package = importlib.util.find_spec("torchfcpe")
    if package is None:
        pytest.skip("the weights come with the package torchfcpe 0.0.4, which is not installed")
    return Path(package.origin).parent / "assets/fcpe_c_v001.pt"


@pytest.fixture(scope="module")
def state(weights_file):
    return torch_file.read(weights_file)["model"]


@pytest.fixture(scope="module")
def extractor(state):
    return fcpe.FcpePitch(state, "of the package")


@pytest.fixture(scope="module")
def reference():
    """34.9 s of speech at 16 kHz, filled up to whole frames of content, and its length."""
    wave, rate = soundfile.read(GOLDEN / "reference.flac", dtype="float32")
    assert rate == 16000
    return np.pad(wave, (0, -len(wave) % 320))[None], np.array([len(wave)])


@pytest.fixture(scope="module")
def torchfcpe_model():
    package = pytest.importorskip("torchfcpe", exc_type=ImportError)  # it imports torchaudio
    return package.spawn_bundled_infer_model("cpu")


def cents(a, b):
    return 1200 * np.abs(np.log2(a / b))


def test_pitch_equals_torchfcpes(extractor, reference):
    audio, lengths = reference
    pitch = extractor(audio, lengths)[0]
    expected = np.load(GOLDEN / "fcpe.npy")
    frames = lengths[0] // 160
    assert pitch.shape == (audio.shape[1] // 160,) and pitch.dtype == np.float32
    assert len(expected) == frames + 1  # torchfcpe says the last frame twice
    pitch = pitch[:frames]
    expected = expected[:frames]
    voiced = (pitch > 0) & (expected > 0)
    assert ((pitch > 0) == (expected > 0)).mean() > 0.999 and voiced.mean() > 0.6
    assert (cents(pitch[voiced], expected[voiced]) < 0.1).mean() > 0.999


def test_salience_and_pitch_equal_torchfcpes_live(extractor, torchfcpe_model, speech_windows):
    import torch

    audio = torch.from_numpy(speech_windows)[..., None]
    with torch.inference_mode():
        salience = torchfcpe_model.model(torchfcpe_model.wav2mel(audio, 16000)).numpy()
        expected = torchfcpe_model.infer(audio, 16000)[:, :-1, 0].numpy()
    lengths = np.full(len(speech_windows), speech_windows.shape[1])
    ours = np.asarray(jax.jit(fcpe.salience)(extractor.parameters, speech_windows, lengths))
    assert np.linalg.norm(ours - salience) / np.linalg.norm(salience) < 1e-5
    pitch = extractor(speech_windows)
    voiced = (pitch > 0) & (expected > 0)
    assert ((pitch > 0) == (expected > 0)).mean() > 0.999 and voiced.mean() > 0.3
    assert (cents(pitch[voiced], expected[voiced]) < 0.1).mean() > 0.999


def test_agrees_with_rmvpe(extractor, reference):
    """RMVPE calls more frames voiced; torchfcpe itself agrees on 96 % of the frames that both
    do."""
    pitch = extractor(*reference)[0]
    rmvpe = np.load(GOLDEN / "pitch_fine.npy")[: len(pitch)]
    voiced = (pitch > 0) & (rmvpe > 0)
    close = cents(pitch[voiced], rmvpe[voiced]) < 50
    assert close.mean() >= 0.95
    assert close.sum() >= 0.94 * (rmvpe > 0).sum()


def test_rows_of_a_batch_give_what_they_give_alone(extractor, speech_windows):
    lengths = np.array([40011, 16000, 433])
    batch, alone = cut_rows(speech_windows, lengths)
    salience = jax.jit(fcpe.salience)
    together = np.asarray(salience(extractor.parameters, batch, lengths))
    for row, length, audio in zip(together, lengths, alone, strict=True):
        frames = length // 160
        expected = np.asarray(salience(extractor.parameters, audio, np.array([length])))[
            0, :frames
        ]
        assert np.linalg.norm(row[:frames] - expected) / np.linalg.norm(expected) < 1e-5
    pitch = extractor(batch, lengths)
    assert np.isfinite(pitch).all() and (pitch[:2] > 0).mean() > 0.2
    assert not any(
        row[length // 160 :].any() for row, length in zip(pitch, lengths, strict=True)
    )


@pytest.mark.parametrize("backwards", [False, True], ids=["rising", "falling"])
def test_frames_say_the_pitch_at_their_sample(extractor, backwards):
    """A voice-like buzz gliding between 100 and 300 Hz, 4.75 cents a frame."""
    seconds = np.arange(4 * 16000) / 16000
    f0 = 100 * 3 ** (seconds / 4)
    buzz = sum(np.sin(2 * np.pi * k * np.cumsum(f0) / 16000) / k for k in range(1, 20)) * 0.2
    direction = -1 if backwards else 1
    pitch = extractor(np.ascontiguousarray(buzz[::direction], np.float32)[None])[0]
    off = 1200 * np.log2(pitch[20:380] / f0[::direction][::160][20:380])
    assert abs(np.median(off)) < 1.2  # a quarter of a frame


def test_silence_is_unvoiced(extractor):
    np.testing.assert_array_equal(extractor(np.zeros((2, 16000), np.float32)), 0)


def test_both_forms_of_the_depthwise_convolution_are_one():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 40, 6)).astype(np.float32)
    kernel = rng.normal(size=(31, 6)).astype(np.float32)
    ours = jax.jit(fcpe.depthwise_by_taps)(x, kernel)
    plain = nn.convolve(x, kernel[:, None], groups=x.shape[2])
    np.testing.assert_allclose(np.asarray(ours), np.asarray(plain), atol=1e-5)


def test_decoding_equals_torchfcpes(state):
    """Its `latent2cents_local_decoder`, written down frame by frame: indices beyond the edges are
    held at them."""
    rng = np.random.default_rng(0)
    table = state["cent_table"]
    bumps = np.exp(-0.5 * np.square((np.arange(360) - rng.uniform(-3, 363, (300, 1))) / 2))
    salience = (bumps * rng.uniform(0, 0.1, (300, 1)) + 1e-6).astype(np.float32)
    salience[:4] = 1e-4
    salience[[0, 1, 2], [0, 359, 2]] = 0.5
    salience[3, 100] = 0.006  # not above the threshold
    expected = []
    for frame in salience.astype(np.float64):
        around = np.clip(np.argmax(frame) + np.arange(-4, 5), 0, 359)
        mean = (table[around] * frame[around]).sum() / frame[around].sum()
        expected.append(10 * 2 ** (mean / 1200) if frame.max() > np.float32(0.006) else 0.0)
    pitch = local_average_pitch(salience, table, fcpe.VOICED_SALIENCE, repeat_edges=True)
    np.testing.assert_allclose(np.asarray(pitch), expected, rtol=2e-6)
    assert 0.01 < np.mean(np.array(expected) == 0) < 0.2 and expected[3] == 0


def test_refuses_weights_of_something_else(state):
    without = {name: array for name, array in state.items() if name != "norm.weight"}
    attentive = state | {
        "net.encoder_layers.0.attn.to_q.weight": np.zeros((512, 512), np.float32)
    }
    misshapen = state | {"input_stack.3.weight": state["input_stack.3.weight"][:, :8]}
    for wrong in ({}, without, attentive, misshapen, {"model": state}, "weights"):
        with pytest.raises(UserError, match="these are not the weights of FCPE"):
            fcpe.FcpePitch(wrong, "")


def test_loads_the_file_of_the_registry(weights_file, extractor, speech_windows, monkeypatch):
    monkeypatch.setattr(store, "path", lambda name: {"fcpe": weights_file}[name])
    loaded = fcpe.FcpePitch.load()
    assert loaded.name == "fcpe" and len(loaded.fingerprint) == 64 != extractor.fingerprint
    np.testing.assert_array_equal(loaded(speech_windows[:1]), extractor(speech_windows[:1]))
