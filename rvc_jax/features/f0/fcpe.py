"""FCPE, a convolutional pitch extractor; port of the public torchfcpe 0.0.4 (MIT) and its bundled
model.

Layout is [batch, time, channels]. The network normalises by the mean and variance of a whole row,
so rows of a batch that end early are kept apart from what is behind them everywhere.
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
from rvc_jax.features.nn import NORM_EPSILON, convert_state_dict, layer_norm, linear
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

Params = dict[str, jax.Array]


class FcpePitch:
    """The pitch extractor "fcpe"; see `features.f0.PitchExtractor`.

    Its frames are torchfcpe's. The window of frame i has its middle at sample 160 * i + 80, and yet
    what the model says is the pitch at 160 * i, as a glide of known pitch shows.
    """

    name = "fcpe"

    def __init__(self, state: Mapping[str, np.ndarray], weights_fingerprint: str) -> None:
        """From the state dict of torchfcpe's bundled model. Raises UserError if it is not one of
        FCPE."""
        trial = (np.zeros((1, 4 * FEATURE_HOP), np.float32), np.array([4 * FEATURE_HOP]))
        what = "the weights of FCPE as in torchfcpe"
        self._params = convert_state_dict(from_state_dict, state, salience, trial, what)
        self.fingerprint = hashlib.sha256(
            f"{weights_fingerprint} {VOICED_SALIENCE}".encode()
        ).hexdigest()

    @classmethod
    def load(cls) -> FcpePitch:
        """With the public weights, downloaded if need be. Raises UserError if they can't be had."""
        path = store.path("fcpe")
        return cls(torch_file.read(path)["model"], store.fingerprint(path))

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        return np.asarray(_pitch(self._params, *check_batch(audio, lengths)))


@jax.jit
def _pitch(params: Params, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    found = salience(params, audio, lengths)[:, :-1]
    pitch = local_average_pitch(found, params["cent_table"], VOICED_SALIENCE, repeat_edges=True)
    return jnp.where(jnp.arange(pitch.shape[1]) < lengths[:, None] // FEATURE_HOP, pitch, 0.0)


def salience(params: Params, audio: jax.Array, lengths: jax.Array) -> jax.Array:
    """Audio [batch, samples] whose rows end at `lengths` -> [batch, samples // 160 + 1,
    candidates], 0..1.

    As in torchfcpe, the network sees the last frame of a row twice.
    """
    own = lengths[:, None] // FEATURE_HOP
    positions = jnp.arange(audio.shape[1] // FEATURE_HOP + 1)
    with jax.default_matmul_precision("float32"):
        mel = jnp.take_along_axis(
            log_mel(audio, lengths), jnp.minimum(positions, own - 1)[..., None], axis=1
        )
        return network(params, mel, (positions <= own)[..., None].astype(mel.dtype))


def log_mel(audio: jax.Array, lengths: jax.Array) -> jax.Array:
    """FCPE's input: audio [batch, samples] -> [batch, samples // 160, 128]."""
    margin = (_N_FFT - FEATURE_HOP) // 2
    framed = frames(pad_rows_reflect(audio, lengths, margin, margin), _N_FFT, FEATURE_HOP)
    spectrum = rfft(framed * periodic_hann(_N_FFT))
    magnitudes = jnp.sqrt(jnp.square(spectrum.real) + jnp.square(spectrum.imag) + _POWER_FLOOR)
    filters = mel_filters(FEATURE_RATE, _N_FFT, MEL_BANDS, 0.0, _MAX_HZ)
    return jnp.log(jnp.maximum(magnitudes @ filters, _MEL_FLOOR))


def network(params: Params, mel: jax.Array, inside: jax.Array) -> jax.Array:
    """Log-mel [batch, frames, 128] -> salience [batch, frames, candidates].

    `inside` [batch, frames, 1] is 1 in the frames of a row and 0 behind them; there the mel is of
    no consequence.
    """
    x = _convolution(params, "input_stack.0", mel * inside)
    x = jax.nn.leaky_relu(_group_norm(params, "input_stack.1", x, inside), _LEAK)
    x = _convolution(params, "input_stack.3", x * inside)
    for i in range(sum(key.endswith("net.6.kernel") for key in params)):
        name = f"net.encoder_layers.{i}.conformer.net"
        hidden = linear(params, f"{name}.2", layer_norm(params, f"{name}.0", x))
        values, gates = jnp.split(hidden, 2, axis=-1)
        hidden = _depthwise(params, f"{name}.4.conv", values * jax.nn.sigmoid(gates) * inside)
        x = x + linear(params, f"{name}.6", jax.nn.silu(hidden))
    return jax.nn.sigmoid(linear(params, "output_proj", layer_norm(params, "norm", x)))


def _convolution(params: Params, name: str, x: jax.Array) -> jax.Array:
    y = jax.lax.conv_general_dilated(
        x, params[f"{name}.kernel"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )
    return y + params[f"{name}.bias"]


def _depthwise(params: Params, name: str, x: jax.Array) -> jax.Array:
    """A kernel [width, channels] for every channel."""
    kernel = params[f"{name}.kernel"]
    return (
        jax.lax.platform_dependent(x, kernel, cpu=_depthwise_on_cpu, default=_depthwise_conv)
        + params[f"{name}.bias"]
    )


def _depthwise_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel[:, None],
        (1,),
        "SAME",
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=x.shape[-1],
    )


def _depthwise_on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Row by row and tap by tap, all in the processor's cache: XLA's grouped convolution took 30
    times as long."""
    width = kernel.shape[0]
    time = x.shape[1]

    def convolve(row: jax.Array) -> jax.Array:
        padded = jnp.pad(row, ((width // 2, width // 2), (0, 0)))
        add = lambda i, y: y + jax.lax.dynamic_slice_in_dim(padded, i, time) * kernel[i]  # noqa: E731
        return jax.lax.fori_loop(0, width, add, jnp.zeros_like(row))

    return jax.lax.map(convolve, x)


def _group_norm(params: Params, name: str, x: jax.Array, inside: jax.Array) -> jax.Array:
    """Over the time of each row and each of four groups of channels."""
    grouped = x.reshape(*x.shape[:2], _NORM_GROUPS, -1)
    weights = (inside / inside.sum(axis=1, keepdims=True) / grouped.shape[-1])[..., None]
    centred = grouped - (grouped * weights).sum(axis=(1, 3), keepdims=True)
    variance = (jnp.square(centred) * weights).sum(axis=(1, 3), keepdims=True)
    normal = (centred * jax.lax.rsqrt(variance + NORM_EPSILON)).reshape(x.shape)
    return normal * params[f"{name}.scale"] + params[f"{name}.bias"]


def from_state_dict(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Parameters under torchfcpe's names, `weight` being `kernel` [(width), in, out] or `scale`.

    Raises KeyError if a name is missing, and ValueError for a model with attention, which the
    bundled one has not.
    """
    if any(".attn." in key for key in state):
        raise ValueError("there is attention in it")
    params = {"cent_table": state["cent_table"]}
    direction = state["output_proj.weight_v"]
    norm = np.linalg.norm(direction, axis=1, keepdims=True)
    params["output_proj.kernel"] = (state["output_proj.weight_g"] * direction / norm).T
    for key, array in state.items():
        name = key.removesuffix(".weight")
        if key.endswith(".bias"):
            params[key] = array
        elif name.endswith("conv"):  # one input per channel
            params[f"{name}.kernel"] = array[:, 0].T
        elif name != key and array.ndim == 3:
            kernel = array.transpose(2, 1, 0)
            params[f"{name}.kernel"] = kernel[0] if len(kernel) == 1 else kernel
        elif name != key:
            params[f"{name}.scale"] = array
    # In a model without attention, nothing reads the norm before it.
    unused = re.compile(r"net\.encoder_layers\.\d+\.norm\.")
    return {
        name: np.ascontiguousarray(array, np.float32)
        for name, array in params.items()
        if not unused.match(name)
    }
