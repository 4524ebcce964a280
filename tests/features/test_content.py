"""What holds for every content encoder, and how they are found by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_hubert import projected, relative_error, small_state

from rvc_jax.config import CONTENT_ENCODERS
from rvc_jax.errors import UserError
from rvc_jax.features import content, nn
from rvc_jax.features.content import hubert_weights, load_content_encoder, whisper
from rvc_jax.features.content.hubert import HubertContent
from rvc_jax.features.content.whisper import WhisperContent
from rvc_jax.weights import bundled, store, torch_file

SAMPLES = 16000
KINDS = ("base", "large", "whisper")


@pytest.fixture(scope="module")
def encoders() -> dict:
    """Small encoders of every kind."""
    hubert = {
        n: HubertContent(hubert_weights.from_state_dict(small_state(n)), n)
        for n in ("base", "large")
    }
    return hubert | {"whisper": WhisperContent.load("whisper-tiny")}


@pytest.fixture(scope="module")
def speech(speech_windows) -> np.ndarray:
    return speech_windows[1:5, 16000 : 16000 + SAMPLES]


@pytest.mark.parametrize("kind", KINDS)
def test_frames_and_channels(encoders, speech, kind):
    encoder = encoders[kind]
    for samples in (320, 640, SAMPLES):
        made = encoder(speech[:2, :samples])
        assert made.shape == (2, samples // 320, encoder.channels) and made.dtype == np.float32
        assert np.isfinite(made).all() and not np.allclose(made[0], made[1], atol=1e-3)
    assert np.isfinite(encoder(np.zeros((1, SAMPLES), np.float32))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_gives_what_it_gives_alone(encoders, speech, kind):
    """Cut to whole frames; neither the other rows nor the padding matter."""
    lengths = np.array([400, 640 * 9 + 319, SAMPLES - 1, SAMPLES])
    made = encoders[kind](speech, lengths)
    assert made.shape[1] == SAMPLES // 320 and np.isfinite(made).all()
    for row, length, audio in zip(made, lengths, speech, strict=True):
        alone = encoders[kind](audio[None, : length // 320 * 320])[0]
        assert relative_error(row[: len(alone)], alone) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_a_row_gives_what_the_original_gives_of_it_alone(
    encoders, originals, speech, kind, data
):
    lengths = np.array(data.draw(st.lists(st.integers(400, SAMPLES), min_size=4, max_size=4)))
    scale = np.array(
        data.draw(st.lists(st.sampled_from([0.01, 1.0, 3.0]), min_size=4, max_size=4)),
        np.float32,
    )
    audio = scale[:, None] * speech
    ours, original = originals[kind]
    for row, wave, length in zip(ours(audio, lengths), audio, lengths, strict=True):
        expected = original(wave[: length // 320 * 320])
        assert relative_error(row[: len(expected)], expected) < 1e-4


@pytest.fixture(scope="module")
def originals(encoders) -> dict:
    """Ours and the original in PyTorch with the same weights, of one row alone."""
    torch = pytest.importorskip("torch")
    import torch_encoders

    def hubert(name: str):
        state = torch_encoders.tensors(small_state(name))
        padded = lambda wave: torch.from_numpy(np.pad(wave, 40, mode="reflect"))[None]  # noqa: E731
        return encoders[name], lambda wave: torch_encoders.hubert(state, padded(wave))[-1][
            0
        ].numpy()

    state = torch_encoders.random_whisper(128, 2)
    tensors = torch_encoders.tensors(state)
    filters = whisper.mel_filters(16000, 400, 80, 0.0, None).T.copy()

    def original_whisper(wave: np.ndarray) -> np.ndarray:
        mel = torch_encoders.log_mel(torch.from_numpy(wave)[None], torch.from_numpy(filters))
        return torch_encoders.whisper(tensors, mel)[0].numpy()

    ours = WhisperContent(whisper.from_openai_state_dict(state), "")
    return {
        "base": hubert("base"),
        "large": hubert("large"),
        "whisper": (ours, original_whisper),
    }


def test_attention_is_the_same_on_accelerators(encoders, monkeypatch):
    """There all heads are computed at once; here one by one."""
    parameters = encoders["base"]._parameters
    random = np.random.default_rng(0)
    x = random.normal(size=(3, 20, 128)).astype(np.float32)
    valid = np.arange(20) < np.array([[20], [7], [1]])
    here = nn.attention(parameters, "layers.0.attention", x, valid)
    monkeypatch.setattr(
        nn.lax, "platform_dependent", lambda *operands, cpu, default: default(*operands)
    )
    there = nn.attention(parameters, "layers.0.attention", x, valid)
    np.testing.assert_allclose(here, there, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_refusals(encoders, speech, kind):
    for shape in [(16000,), (1, 16001), (1, 0)]:
        with pytest.raises(ValueError, match="multiple of 320"):
            encoders[kind](np.zeros(shape, np.float32))
    for lengths in ([400], [400, 500, 600, SAMPLES + 1], [400, 400, 400, 0]):
        with pytest.raises(ValueError, match="lengths must be one per row, from 320 to 16000"):
            encoders[kind](speech, np.array(lengths))


# --- By name


@pytest.fixture(autouse=True)
def fresh_factory():
    """Encoders are made once per process; here each test makes its own."""
    content.load_cached.cache_clear()
    yield
    content.load_cached.cache_clear()


def test_the_bundled_encoder():
    encoder = load_content_encoder("whisper-tiny")
    assert load_content_encoder("whisper-tiny") is encoder
    assert (encoder.name, encoder.channels, len(encoder.fingerprint)) == (
        "whisper-tiny",
        384,
        64,
    )


def test_every_hubert_by_name(hubert_folder, monkeypatch):
    monkeypatch.setattr(store, "find", lambda name: None)
    monkeypatch.setattr(
        store,
        "path",
        lambda name: hubert_folder if name in CONTENT_ENCODERS else pytest.fail(name),
    )
    for name in (name for name in CONTENT_ENCODERS if not name.startswith("whisper")):
        v2, v1 = (load_content_encoder(name, version) for version in ("v2", "v1"))
        assert (v2.name, v2.channels, v1.channels) == (name, 128, 256)


def test_contentvec_in_fairseq_layout_if_that_is_what_is_there(tmp_path, monkeypatch):
    torch_file.write(tmp_path / "hubert_base.pt", {"model": projected(small_state("base"))})
    monkeypatch.setattr(
        store,
        "find",
        lambda name: tmp_path / "hubert_base.pt" if name == "hubert_base" else None,
    )
    monkeypatch.setattr(store, "path", lambda name: pytest.fail("nothing has to be downloaded"))
    assert load_content_encoder("contentvec", "v1").channels == 256


def test_a_folder_or_a_model_of_the_hub(hubert_folder, monkeypatch):
    asked = []
    monkeypatch.setattr(store, "hub_model", lambda name: asked.append(name) or hubert_folder)
    by_path = load_content_encoder(str(hubert_folder))
    by_name = load_content_encoder("someone/their-hubert")
    assert (
        asked == ["someone/their-hubert"]
        and by_name.name == asked[0]
        and by_path.name == str(hubert_folder)
    )
    assert by_path.fingerprint == by_name.fingerprint


@pytest.mark.parametrize(
    "name",
    ["hubert", "whisper-huge", "f0G40k", "a/b/c", "../x", "", "~nobody", "x" * 5000, "\0"],
)
def test_unknown_names(name):
    with pytest.raises(UserError, match="unknown content encoder"):
        load_content_encoder(name)


def test_larger_sizes_of_whisper(tmp_path, monkeypatch, speech):
    torch_encoders = pytest.importorskip("torch_encoders")
    state = torch_encoders.random_whisper(128, 2)
    file = tmp_path / "base.pt"
    half = {name: array.astype(np.float16) for name, array in state.items()}
    torch_file.write(file, {"dims": {"n_mels": 80}, "model_state_dict": half})
    monkeypatch.setattr(
        store, "path", lambda name: file if name == "whisper-base" else pytest.fail(name)
    )
    encoder = load_content_encoder("whisper-base")
    expected = WhisperContent(whisper.from_openai_state_dict(half), "")(speech)
    np.testing.assert_array_equal(encoder(speech), expected)
    assert (encoder.name, encoder.channels) == ("whisper-base", 128)
    assert encoder.fingerprint != WhisperContent(bundled.load("whisper_tiny"), "").fingerprint
    for damaged in (
        {},
        {"model_state_dict": {"encoder.conv1.bias": np.zeros(3, np.float32)}},
        [1],
    ):
        torch_file.write(file, damaged)
        with pytest.raises(UserError, match="is not a checkpoint of Whisper"):
            WhisperContent.load("whisper-base")
