"""FCPE, a convolutional pitch extractor; port of torchfcpe 0.0.4 (MIT) and its bundled model.

Layout is [batch, time, channels]. The network normalizes by the mean and variance of a whole row,
so that every layer has to keep rows that end early apart from the samples behind their ends.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.spectrogram import frames, mel_filters, periodic_hann, rfft
from rvc_jax.config import FEATURE_HOP, FEATURE_RATE
from rvc_jax.features.f0.decoding import local_average_pitch
from rvc_jax.features.framing import check_batch, pad_rows_reflect
from rvc_jax.features.nn import (
    NORM_EPSILON,
    Parameters,
    convert_state_dict,
    convolution,
    convolve,
    layer_norm,
    linear,
)
from rvc_jax.weights import store, torch_file

VOICED_SALIENCE = 0.006
"""torchfcpe's threshold: frames with no salience above it are unvoiced."""
MEL_BANDS = 128

_N_FFT = 1024
_MAX_HZ = 8000.0
_POWER_FLOOR = 1e-9
_MEL_FLOOR = 1e-5
_NORM_GROUPS = 4
_LEAK = 0.01


class FcpePitch:
    """The pitch extractor "fcpe"; see `features.f0.PitchExtractor`.

    Its frames are torchfcpe's. The window of frame i is centered on sample 160 * i + 80, and yet
    the model's answer is the pitch at 160 * i, as a glide of known pitch shows.
    """

    name = "fcpe"

    def __init__(self, state: Mapping[str, np.ndarray], weights_fingerprint: str) -> None:
        """Make an extractor from the state dict of torchfcpe's bundled model.

        Raises:
          UserError: it is not one of FCPE.
        """
        trial = (np.zeros((1, 4 * FEATURE_HOP), np.float32), np.array([4 * FEATURE_HOP]))
        what = "the weights of FCPE as in torchfcpe"
        self.parameters = convert_state_dict(from_state_dict, state, salience, trial, what)
        # Features are cached by this hash: its text must not change.
        settings = f"{weights_fingerprint} {VOICED_SALIENCE}"
        self.fingerprint = hashlib.sha256(settings.encode()).hexdigest()

    @classmethod
    def load(cls) -> FcpePitch:
        """Load the public weights, downloaded if needed.

        Raises:
          UserError: they cannot be downloaded.
        """
        path = store.path("fcpe")
        return cls(torch_file.read(path)["model"], store.fingerprint(path))

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """Find the pitch; see `features.f0.PitchExtractor`."""
        return np.asarray(_pitch(self.parameters, *check_batch(audio, lengths)))


@jax.jit
def _pitch(parameters: Parameters, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    found = salience(parameters, audio, lengths)[:, :-1]
    pitch = local_average_pitch(
        found, parameters["cent_table"], VOICED_SALIENCE, repeat_edges=True
    )
    inside = jnp.arange(pitch.shape[1]) < lengths[:, None] // FEATURE_HOP
    return jnp.where(inside, pitch, 0.0)


def salience(parameters: Parameters, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    """Compute the salience of the pitch candidates, 0..1.

    As in torchfcpe, the network sees the last frame of a row twice.

    Args:
      audio: [batch, samples], rows end at `lengths` [batch].

    Returns: [batch, samples // 160 + 1, candidates].
    """
    own = lengths[:, None] // FEATURE_HOP
    positions = jnp.arange(audio.shape[1] // FEATURE_HOP + 1)
    with jax.default_matmul_precision("float32"):
        nearest = jnp.minimum(positions, own - 1)[..., None]
        mel = jnp.take_along_axis(log_mel(audio, lengths), nearest, axis=1)
        inside = (positions <= own)[..., None].astype(mel.dtype)
        return network(parameters, mel, inside)


def log_mel(audio: jax.Array, lengths: jax.Array) -> jax.Array:
    """Compute FCPE's input: audio [batch, samples] -> [batch, samples // 160, 128]."""
    margin = (_N_FFT - FEATURE_HOP) // 2
    framed = frames(pad_rows_reflect(audio, lengths, margin, margin), _N_FFT, FEATURE_HOP)
    spectrum = rfft(framed * periodic_hann(_N_FFT))
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    magnitudes = jnp.sqrt(power + _POWER_FLOOR)
    filters = mel_filters(FEATURE_RATE, _N_FFT, MEL_BANDS, 0.0, _MAX_HZ)
    return jnp.log(jnp.maximum(magnitudes @ filters, _MEL_FLOOR))


def network(parameters: Parameters, mel: jax.Array, inside: jax.Array) -> jax.Array:
    """Run the network.

    Args:
      mel: log-mel [batch, frames, 128]; its values behind the end of a row do not matter.
      inside: [batch, frames, 1], 1 in the frames of a row and 0 behind them.

    Returns: salience [batch, frames, candidates].
    """
    x = convolution(parameters, "input_stack.0", mel * inside)
    x = jax.nn.leaky_relu(_group_norm(parameters, "input_stack.1", x, inside), _LEAK)
    x = convolution(parameters, "input_stack.3", x * inside)
    for i in range(sum(key.endswith("net.6.kernel") for key in parameters)):
        name = f"net.encoder_layers.{i}.conformer.net"
        hidden = linear(parameters, f"{name}.2", layer_norm(parameters, f"{name}.0", x))
        values, gates = jnp.split(hidden, 2, axis=-1)
        gated = values * jax.nn.sigmoid(gates) * inside
        hidden = _depthwise(parameters, f"{name}.4.conv", gated)
        x = x + linear(parameters, f"{name}.6", jax.nn.silu(hidden))
    logits = linear(parameters, "output_proj", layer_norm(parameters, "norm", x))
    return jax.nn.sigmoid(logits)


def _depthwise(parameters: Parameters, name: str, x: jax.Array) -> jax.Array:
    """Convolve every channel with its own kernel [taps, channels]."""
    y = jax.lax.platform_dependent(
        x,
        parameters[f"{name}.kernel"],
        cpu=depthwise_by_taps,
        default=lambda x, kernel: convolve(x, kernel[:, None], groups=x.shape[2]),
    )
    return y + parameters[f"{name}.bias"]


def depthwise_by_taps(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve row by row and tap by tap, all within a CPU's cache.

    XLA's grouped convolution takes 30 times as long there.
    """
    taps = kernel.shape[0]
    time = x.shape[1]

    def convolve_row(row: jax.Array) -> jax.Array:
        padded = jnp.pad(row, ((taps // 2, taps // 2), (0, 0)))

        def add_tap(i: jax.Array, y: jax.Array) -> jax.Array:
            return y + jax.lax.dynamic_slice_in_dim(padded, i, time) * kernel[i]

        return jax.lax.fori_loop(0, taps, add_tap, jnp.zeros_like(row))

    return jax.lax.map(convolve_row, x)


def _group_norm(
    parameters: Parameters, name: str, x: jax.Array, inside: jax.Array
) -> jax.Array:
    """Normalize over the time of each row and each of four groups of channels."""
    grouped = x.reshape(*x.shape[:2], _NORM_GROUPS, -1)
    weights = (inside / inside.sum(axis=1, keepdims=True) / grouped.shape[-1])[..., None]
    centered = grouped - (grouped * weights).sum(axis=(1, 3), keepdims=True)
    variance = (jnp.square(centered) * weights).sum(axis=(1, 3), keepdims=True)
    normal = (centered * jax.lax.rsqrt(variance + NORM_EPSILON)).reshape(x.shape)
    return normal * parameters[f"{name}.scale"] + parameters[f"{name}.bias"]


def from_state_dict(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert torchfcpe's state dict; names stay, `weight` becomes `kernel` or `scale`.

    Kernels are [(taps), in, out].

    Raises:
      KeyError: a name is missing.
      ValueError: the model has attention, which the bundled one has not.
    """
    if any(".attn." in key for key in state):
        raise ValueError("there is attention in it")
    parameters = {"cent_table": state["cent_table"]}
    direction = state["output_proj.weight_v"]
    norm = np.linalg.norm(direction, axis=1, keepdims=True)
    parameters["output_proj.kernel"] = (state["output_proj.weight_g"] * direction / norm).T
    for key, array in state.items():
        name = key.removesuffix(".weight")
        if key.endswith(".bias"):
            parameters[key] = array
        elif name.endswith("conv"):  # one input per channel
            parameters[f"{name}.kernel"] = array[:, 0].T
        elif name != key and array.ndim == 3:
            kernel = array.transpose(2, 1, 0)
            parameters[f"{name}.kernel"] = kernel[0] if len(kernel) == 1 else kernel
        elif name != key:
            parameters[f"{name}.scale"] = array
    # In a model without attention, nothing uses the normalization before it.
    unused = re.compile(r"net\.encoder_layers\.\d+\.norm\.")
    return {
        name: np.ascontiguousarray(array, np.float32)
        for name, array in parameters.items()
        if not unused.match(name)
    }
