"""The speaker embedding beside PyTorch's LSTM and librosa's mels on the same weights."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from rvc_jax.audio.reading import decode
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.errors import UserError
from rvc_jax.metrics.speaker import CHANNELS, WEIGHTS, SpeakerEncoder
from rvc_jax.weights import store, torch_file

SAMPLES = 336 * 160
found = store.find(WEIGHTS)
needs_weights = pytest.mark.skipif(
    found is None, reason="the package resemblyzer (or its weights) is not here"
)


def speech(part: str, name: str) -> np.ndarray:
    wave, rate = decode(find_bundled_sample(part) / name)
    return librosa.resample(wave.mean(axis=0), orig_sr=rate, target_sr=16000)[:SAMPLES]


def voices() -> list[np.ndarray]:
    names = ("ivr-concentrate.flac", "zrtp-check_sas.flac")
    other = next(find_bundled_sample("other").glob("*.flac")).name
    return [*(speech("voice", name) for name in names), speech("other", other)]


def padded(waves: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(wave) for wave in waves])
    return np.stack([np.pad(wave, (0, SAMPLES - len(wave))) for wave in waves]).astype(
        np.float32
    ), lengths


def by_torch(wave: np.ndarray) -> np.ndarray:
    """As in the package: level, mels, pieces of 160 frames every 77, LSTM, mean."""
    torch = pytest.importorskip("torch")
    state = {
        name: torch.tensor(value)
        for name, value in torch_file.read(found)["model_state"].items()
    }
    lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
    lstm.load_state_dict(
        {name[5:]: value for name, value in state.items() if name.startswith("lstm.")}
    )
    wave = wave * max(1.0, 10**-1.5 / np.sqrt(np.mean(wave**2)))
    starts = range(0, max(1, -(-(len(wave) + 1) // 160) - 160 + 77 + 1), 77)
    starts = [
        start for start in starts if start == 0 or (len(wave) / 160 - start) / 160 >= 0.75
    ]
    wave = np.pad(wave, (0, max(0, (starts[-1] + 160) * 160 - len(wave))))
    mel = librosa.feature.melspectrogram(
        y=wave, sr=16000, n_fft=400, hop_length=160, n_mels=40
    ).T
    pieces = torch.tensor(
        np.stack([mel[start : start + 160] for start in starts]).astype(np.float32)
    )
    with torch.no_grad():
        hidden = lstm(pieces)[1][0][-1]
        embedded = torch.relu(hidden @ state["linear.weight"].T + state["linear.bias"])
    embedded = (embedded / embedded.norm(dim=1, keepdim=True)).numpy().mean(axis=0)
    return embedded / np.linalg.norm(embedded)


@needs_weights
def test_embeddings_are_those_of_pytorch_whatever_lies_behind_a_row() -> None:
    waves = [voices()[0][:20000], voices()[1][:41234], voices()[2], voices()[2][:30000] * 1e-3]
    audio, lengths = padded(waves)
    audio[0, lengths[0] :] = 0.5  # is not read
    embedded = SpeakerEncoder.find()(audio, lengths)
    assert embedded.shape == (4, CHANNELS)
    for row, wave in zip(embedded, waves, strict=True):
        assert float(row @ by_torch(wave)) > 0.9999


@needs_weights
def test_one_voice_is_more_like_itself_than_like_another() -> None:
    first, second, other = SpeakerEncoder.find()(*padded(voices()))
    assert first @ second > 0.75 > 0.65 > max(first @ other, second @ other)


def test_without_weights_there_is_none_and_other_weights_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "find", lambda name: None)
    assert SpeakerEncoder.find() is None
    with pytest.raises(UserError, match="not the weights of Resemblyzer"):
        SpeakerEncoder({"linear.weight": np.zeros((256, 256), np.float32)})
