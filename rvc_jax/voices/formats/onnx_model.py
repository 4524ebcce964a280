"""Writes a voice as an ONNX model for any number of frames.

Two programs read it: w-okada's voice changer, and those that read RVC's own export. The graph is
written layer by layer, not converted, because no converter was found that fits (late 2026):

- jax2onnx 0.17 can't pad by a symbolic length, which the relative offsets of the attention do, and
  gave wrong shapes for other formulations. It converts products with ones and zeros, but these take
  21 * frames^2 floats a layer. It also holds orbax-checkpoint below the version that writes our
  checkpoints; version 0.13, which does not, fails at leaky_relu with this jax.
- jax2tf gives TensorFlow whole StableHLO programs (XlaCallModule), which tf2onnx does not read.

So the networks are written a second time here. `write` compares every file with them by running
both.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from rvc_jax.config import (
    CONTENT_ENCODERS,
    PITCH_BINS,
    GeneratorConfig,
    SpectralGeneratorConfig,
)
from rvc_jax.errors import UserError
from rvc_jax.models.generator import (
    SINE_AMPLITUDE,
    UNVOICED_NOISE,
    VOICED_NOISE,
    source_kernel,
)
from rvc_jax.storage.files import atomic_write
from rvc_jax.storage.installation import install_command
from rvc_jax.voices.formats.onnx_graph import Graph
from rvc_jax.voices.formats.onnx_spectral import SpectralVoice
from rvc_jax.voices.model import PUBLIC_ENCODER, VoiceModel

Flavor = Literal["w-okada", "rvc"]
"""w-okada: inputs feats, p_len, pitch, pitchf, sid; the noise is drawn inside. rvc: inputs phone,
phone_lengths, pitch, pitchf, ds, rnd. One file can't serve both: each program feeds its own names,
and only one feeds noise."""

TOLERANCE = 1e-3
"""Largest difference that a file may have from the voice in JAX, for waves in -1..1."""

_NAMES: dict[Flavor, tuple[str, str, str]] = {
    "w-okada": ("feats", "p_len", "sid"),
    "rvc": ("phone", "phone_lengths", "ds"),
}
SOURCE_NOISE = "source_noise"
"""Input of what `feed_source_noise` returns."""
_NOISE_SCALE = "noise_scale"
_SOURCE_NOISE_SCALE = "source_noise_scale"
_WOKADA_NOISE = 0.66666
_WOKADA_EMBEDDERS = {
    PUBLIC_ENCODER: "hubert_base",
    "japanese-hubert-base": "hubert-base-japanese",
}
_CHECKED_FRAMES = (50, 37)  # all frames of the check, and how many of them are not padding


def write(path: Path, model: VoiceModel, flavor: Flavor = "w-okada") -> float:
    """Write a voice as one ONNX file (float32), read it back and compare it with the voice in JAX.

    The inputs, under the flavor's names: content [1, frames, channels], number of frames [1] int64,
    coarse pitch [1, frames] int64 and f0 [1, frames] in Hz (both only if the voice has pitch),
    speaker [1] int64, and for `rvc` the scaled noise of the latent [1, channels, frames]. The
    output: audio [1, 1, samples]. The noise of the harmonic source is drawn inside.

    Returns:
      The largest difference from JAX with the noise inside off, see `check`.

    Raises:
      UserError: The packages are missing, or the file is not the voice; then nothing is kept.
    """
    _require_packages()
    data = _serialize(model, flavor)
    with atomic_write(path) as file:
        file.write(data)
        file.flush()
        return _compare(Path(file.name).read_bytes(), model, path)


def check(path: Path, model: VoiceModel) -> float:
    """Return the largest difference between a file in onnxruntime and the voice in JAX.

    Both get random content, pitch and, where it is an input, noise. The noise that is drawn inside
    is off: its scales, two numbers in the file, are set to 0. In a voice of the preset small, both
    get the same instead.

    Raises:
      UserError: The packages are missing, or the difference is over `TOLERANCE`.
    """
    _require_packages()
    return _compare(path.read_bytes(), model, path)


def wokada_metadata(model: VoiceModel) -> dict[str, Any]:
    """Return what w-okada's voice changer reads about a model. In version 2, audio has 3 axes."""
    classic = "pyTorchRVC" if model.version == "v1" else "pyTorchRVCv2"
    return {
        "application": "VC_CLIENT",
        "version": "2",
        "modelType": classic if model.generator.has_pitch else classic + "Nono",
        "samplingRate": model.audio.sample_rate,
        "f0": model.generator.has_pitch,
        "embChannels": model.generator.content_channels,
        "embedder": _WOKADA_EMBEDDERS.get(model.content_encoder, _name_encoder(model)),
        "embOutputLayer": model.content_layer or (9 if model.version == "v1" else 12),
        "useFinalProj": model.version == "v1",
    }


def _name_encoder(model: VoiceModel) -> str:
    """The encoder's name; that of a path would reveal this machine's folders."""
    return model.content_encoder if model.content_encoder in CONTENT_ENCODERS else "custom"


def draw_inputs(
    model: VoiceModel, frames: int, length: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Draw random inputs of a voice by the names of `Synthesizer.infer`.

    Args:
      frames: All frames.
      length: Frames that are not padding.
    """
    random = np.random.default_rng(seed)
    sizes = model.generator
    melody = 220 * 2 ** np.cumsum(random.normal(0, 0.02, frames))
    return {
        "content": random.standard_normal((1, frames, sizes.content_channels), np.float32),
        "lengths": np.array([length]),
        "pitch": random.integers(1, PITCH_BINS, (1, frames)),
        "f0": np.where(np.arange(frames) % 20 < 15, melody, 0).astype(np.float32)[None],
        "speaker": random.integers(0, sizes.speakers, 1),
        "noise": 0.5 * random.standard_normal((1, frames, sizes.inter_channels), np.float32),
    }


def to_session_inputs(
    values: dict[str, np.ndarray], flavor: Flavor, has_pitch: bool
) -> dict[str, np.ndarray]:
    """Rename inputs by the names of `Synthesizer.infer` to those of a flavor."""
    content, lengths, speaker = _NAMES[flavor]
    inputs = {
        content: values["content"],
        lengths: values["lengths"],
        speaker: values["speaker"],
    }
    if has_pitch:
        inputs |= {"pitch": values["pitch"], "pitchf": values["f0"]}
    if flavor == "rvc":
        inputs["rnd"] = values["noise"].swapaxes(1, 2)
    return inputs


def render(
    path: Path, values: dict[str, np.ndarray], flavor: Flavor, has_pitch: bool
) -> np.ndarray:
    """Render a voice's file in onnxruntime, without the noise that is drawn inside: [samples]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(disable_noise(path.read_bytes()))
    (audio,) = session.run(None, to_session_inputs(values, flavor, has_pitch))
    return np.asarray(audio).reshape(-1)


def disable_noise(data: bytes) -> bytes:
    """Return the file with the noise that is drawn inside off."""
    import onnx

    model = onnx.load_from_string(data)
    for constant in model.graph.initializer:
        if constant.name in (_NOISE_SCALE, _SOURCE_NOISE_SCALE):
            constant.CopyFrom(
                onnx.numpy_helper.from_array(np.asarray(0, np.float32), constant.name)
            )
    return model.SerializeToString()


def feed_source_noise(data: bytes) -> bytes:
    """Return the file of a voice of the preset small with its noise as a further input.

    SOURCE_NOISE [1, frames, hop], standard normal, takes the place of the noise drawn inside.
    """
    import onnx

    model = onnx.load_from_string(data)
    graph = model.graph
    (drawing,) = (node for node in graph.node if node.op_type == "RandomNormalLike")
    (drawn,) = drawing.output
    for node in graph.node:
        names = [SOURCE_NOISE if name == drawn else name for name in node.input]
        node.input[:] = names
    graph.node.remove(drawing)
    shape = [1, "frames", "hop"]
    graph.input.append(
        onnx.helper.make_tensor_value_info(SOURCE_NOISE, onnx.TensorProto.FLOAT, shape)
    )
    return model.SerializeToString()


def _require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"ONNX files need the package {error.name}: {install_command('onnx')}"
        ) from error


def _compare(data: bytes, model: VoiceModel, path: Path) -> float:
    import onnxruntime

    is_spectral = isinstance(model.generator, SpectralGeneratorConfig)
    checked = feed_source_noise(data) if is_spectral else disable_noise(data)
    session = onnxruntime.InferenceSession(checked, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    flavor: Flavor = "rvc" if "rnd" in names else "w-okada"
    values = draw_inputs(model, *_CHECKED_FRAMES)
    inputs = to_session_inputs(values, flavor, model.generator.has_pitch)
    if is_spectral:
        random = np.random.default_rng(1)
        noise = random.standard_normal((1, _CHECKED_FRAMES[0], model.hop), np.float32)
        inputs[SOURCE_NOISE] = noise
        values["source_noise"] = noise.reshape(1, -1)
    (audio,) = session.run(None, inputs)
    if flavor == "w-okada":
        values["noise"] = np.zeros_like(values["noise"])
    network = model.network()
    infer = jax.jit(lambda parameters, *inputs: network(parameters, "infer", *inputs))
    expected = infer(network.from_public(model.weights), *values.values())
    difference = float(np.abs(np.asarray(audio)[0] - np.asarray(expected)).max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"{path.name}: as ONNX the voice sounds different, by {difference:.2g} of full scale "
            f"(at most {TOLERANCE} is allowed): please report this, with the version of onnxruntime"
        )
    return difference


def _serialize(model: VoiceModel, flavor: Flavor) -> bytes:
    from onnx import TensorProto

    real = TensorProto.FLOAT
    whole = TensorProto.INT64
    sizes = model.generator
    content, lengths, speaker = _NAMES[flavor]
    inputs = [
        (content, real, [1, "frames", sizes.content_channels]),
        (lengths, whole, [1]),
    ]
    if sizes.has_pitch:
        inputs += [("pitch", whole, [1, "frames"]), ("pitchf", real, [1, "frames"])]
    inputs.append((speaker, whole, [1]))
    if flavor == "rvc":
        inputs.append(("rnd", real, [1, sizes.inter_channels, "frames"]))
    if isinstance(sizes, SpectralGeneratorConfig):
        # It has no latent, and leaves the noise for one aside.
        voice = SpectralVoice(model, sizes)
        scale = voice.graph.add_number(_SOURCE_NOISE_SCALE, 1.0)
        audio = voice.audio(content, lengths, speaker, scale)
    else:
        voice = _Voice(model, sizes)
        audio = voice.audio(content, lengths, speaker, "rnd" if flavor == "rvc" else None)
    output = (audio, ("audio", real, [1, 1, "samples"]))
    return voice.graph.serialize(
        inputs, output, {"metadata": json.dumps(wokada_metadata(model))}
    )


class _Voice:
    """Builds the graph of `Synthesizer.infer`; the methods are named after its modules."""

    def __init__(self, model: VoiceModel, sizes: GeneratorConfig):
        self.sizes = sizes
        self.rate = model.audio.sample_rate
        self.hop = model.hop
        self.graph = Graph(model.weights)

    def audio(self, content: str, lengths: str, speaker: str, noise: str | None) -> str:
        """Append everything; the result is [1, 1, samples]. Without noise, it is drawn."""
        graph = self.graph
        self.frames = graph("Shape", content, start=1, end=2)
        number = graph("Range", np.int64(0), graph("Squeeze", self.frames, [0]), np.int64(1))
        present = graph("Cast", graph("Less", number, lengths), to=1)
        self.mask = graph("Unsqueeze", present, [0, 1])
        self.speaker = graph(
            "Unsqueeze", graph("Gather", graph.weights["emb_g.weight"], speaker), [2]
        )
        mean, log_deviation = self.prior_encoder(content)
        if noise is None:
            noise = graph(
                "Mul",
                graph("RandomNormalLike", mean),
                graph.add_number(_NOISE_SCALE, _WOKADA_NOISE),
            )
        latent = graph("Add", mean, graph("Mul", graph("Exp", log_deviation), noise))
        latent = self.reverse_coupling_flow(graph("Mul", latent, self.mask))
        return self.generator(graph("Mul", latent, self.mask))

    def prior_encoder(self, content: str) -> list[str]:
        graph = self.graph
        sizes = self.sizes
        weight = np.ascontiguousarray(graph.weights["enc_p.emb_phone.weight"].T)
        x = graph(
            "Add", graph("MatMul", content, weight), graph.weights["enc_p.emb_phone.bias"]
        )
        if sizes.has_pitch:
            x = graph(
                "Add", x, graph("Gather", graph.weights["enc_p.emb_pitch.weight"], "pitch")
            )
        x = graph("LeakyRelu", graph("Mul", x, math.sqrt(sizes.hidden_channels)), alpha=0.1)
        x = graph("Mul", graph("Transpose", x, perm=[0, 2, 1]), self.mask)
        self._prepare_offsets()
        for layer in range(sizes.attention_layers):
            name = "enc_p.encoder.{}." + str(layer)
            attended = self.attention(name.format("attn_layers"), x)
            x = graph.layer_norm(name.format("norm_layers_1"), graph("Add", x, attended))
            fed = self.feed_forward(name.format("ffn_layers"), x)
            x = graph.layer_norm(name.format("norm_layers_2"), graph("Add", x, fed))
        statistics = graph(
            "Mul", graph.conv("enc_p.proj", graph("Mul", x, self.mask)), self.mask
        )
        return graph.split(statistics, 2)

    def _prepare_offsets(self) -> None:
        """Append the lengths and shapes that all layers of the attention share."""
        graph = self.graph
        heads = self.sizes.attention_heads
        window = self.sizes.attention_window
        row = graph("Add", self.frames, [2 * window])
        self.flat = graph("Mul", self.frames, row)
        self.as_rows = graph("Concat", [1, heads, -1], row, axis=0)
        self.as_longer_rows = graph("Concat", [1, heads, -1], graph("Add", row, [1]), axis=0)
        self.stop = graph("Add", self.frames, [window])
        columns = graph("Transpose", self.mask, perm=[0, 2, 1])
        self.allowed = graph(
            "Greater", graph("Unsqueeze", graph("Mul", columns, self.mask), [1]), 0.0
        )

    def attention(self, layer: str, x: str) -> str:
        graph = self.graph
        heads = self.sizes.attention_heads
        channels = self.sizes.hidden_channels
        width = channels // heads
        shape = [1, heads, width, -1]
        query = graph("Reshape", graph.conv(f"{layer}.conv_q", x, scale=width**-0.5), shape)
        key = graph("Reshape", graph.conv(f"{layer}.conv_k", x), shape)
        value = graph("Reshape", graph.conv(f"{layer}.conv_v", x), shape)
        query, value = (graph("Transpose", part, perm=[0, 1, 3, 2]) for part in (query, value))
        near = graph(
            "MatMul", query, np.ascontiguousarray(graph.weights[f"{layer}.emb_rel_k"][0].T)
        )
        scores = graph("Add", graph("MatMul", query, key), self._spread(near))
        weights = graph("Softmax", graph("Where", self.allowed, scores, -1e4), axis=-1)
        near = graph("MatMul", self._gather(weights), graph.weights[f"{layer}.emb_rel_v"][0])
        output = graph("Add", graph("MatMul", weights, value), near)
        output = graph(
            "Reshape", graph("Transpose", output, perm=[0, 1, 3, 2]), [1, channels, -1]
        )
        return graph.conv(f"{layer}.conv_o", output)

    def _spread(self, near: str) -> str:
        """Turn scores by offset into scores by key, as `models.prior_encoder` does."""
        graph = self.graph
        heads = self.sizes.attention_heads
        padded = graph("Pad", near, graph("Concat", [0] * 7, self.frames, axis=0))
        flat = graph.slice(graph("Reshape", padded, [1, heads, -1]), 2, 0, self.flat)
        return graph.slice(
            graph("Reshape", flat, self.as_rows), 3, self.sizes.attention_window, self.stop
        )

    def _gather(self, weights: str) -> str:
        """Turn weights by key into weights by offset, as `models.prior_encoder` does."""
        graph = self.graph
        heads = self.sizes.attention_heads
        window = self.sizes.attention_window
        padded = graph("Pad", weights, [0, 0, 0, window, 0, 0, 0, window])
        flat = graph("Reshape", padded, [1, heads, -1])
        flat = graph("Pad", flat, graph("Concat", [0] * 5, self.frames, axis=0))
        return graph.slice(graph("Reshape", flat, self.as_longer_rows), 3, 0, 2 * window + 1)

    def feed_forward(self, layer: str, x: str) -> str:
        graph = self.graph
        x = graph("Relu", graph.conv(f"{layer}.conv_1", graph("Mul", x, self.mask)))
        return graph(
            "Mul", graph.conv(f"{layer}.conv_2", graph("Mul", x, self.mask)), self.mask
        )

    def reverse_coupling_flow(self, x: str) -> str:
        graph = self.graph
        for step in reversed(range(self.sizes.flow_steps)):
            layer = f"flow.flows.{2 * step}"  # the odd ones reverse the channels
            first, second = graph.split(graph.reverse_channels(x), 2)
            hidden = graph("Mul", graph.conv(f"{layer}.pre", first), self.mask)
            hidden = graph.wave_net(
                f"{layer}.enc", hidden, self.mask, self.speaker, self.sizes.flow_layers
            )
            shift = graph("Mul", graph.conv(f"{layer}.post", hidden), self.mask)
            x = graph(
                "Concat", first, graph("Mul", graph("Sub", second, shift), self.mask), axis=1
            )
        return x

    def harmonic_source(self) -> str:
        """Append the harmonic source with its noise: [1, 1, samples]."""
        graph = self.graph
        f0 = graph("Unsqueeze", "pitchf", [2])
        cycles = graph.sine_cycles(f0, self.rate, self.hop)
        sine = graph("Sin", graph("Mul", cycles, 2 * math.pi))
        voiced = graph("Greater", f0, 0.0)
        source = graph("Where", voiced, graph("Mul", sine, SINE_AMPLITUDE), 0.0)
        noise = graph(
            "Mul", graph("RandomNormalLike", cycles), graph.add_number(_SOURCE_NOISE_SCALE, 1.0)
        )
        noise = graph("Mul", noise, graph("Where", voiced, VOICED_NOISE, UNVOICED_NOISE))
        source = graph("Reshape", graph("Add", source, noise), [1, 1, -1])
        linear = "dec.m_source.l_linear"
        source = graph("Mul", source, graph.weights[f"{linear}.weight"].reshape(()))
        return graph("Tanh", graph("Add", source, graph.weights[f"{linear}.bias"].reshape(())))

    def generator(self, latent: str) -> str:
        graph = self.graph
        sizes = self.sizes
        source = self.harmonic_source() if sizes.has_pitch else None
        x = graph(
            "Add", graph.conv("dec.conv_pre", latent), graph.conv("dec.cond", self.speaker)
        )
        for stage, rate in enumerate(sizes.upsample_rates):
            x = graph.conv_transpose(f"dec.ups.{stage}", graph("LeakyRelu", x, alpha=0.1), rate)
            if source:
                left = math.prod(sizes.upsample_rates[stage + 1 :])
                padding = (source_kernel(left) - left) // 2
                x = graph(
                    "Add",
                    x,
                    graph.conv(f"dec.noise_convs.{stage}", source, left, padding=padding),
                )
            x = self._average_blocks(stage, x)
        return graph("Tanh", graph.conv("dec.conv_post", graph("LeakyRelu", x, alpha=0.01)))

    def _average_blocks(self, stage: int, x: str) -> str:
        """Append the residual blocks of a stage, and their mean."""
        dilations = self.sizes.resblock_dilations
        blocks = [
            self.residual_block(f"dec.resblocks.{stage * len(dilations) + number}", x, own)
            for number, own in enumerate(dilations)
        ]
        return self.graph("Mul", self.graph("Sum", *blocks), 1 / len(blocks))

    def residual_block(self, layer: str, x: str, dilations: tuple[int, ...]) -> str:
        graph = self.graph
        for number, dilation in enumerate(dilations):
            y = graph.conv(
                f"{layer}.convs1.{number}", graph("LeakyRelu", x, alpha=0.1), dilation=dilation
            )
            y = graph.conv(f"{layer}.convs2.{number}", graph("LeakyRelu", y, alpha=0.1))
            x = graph("Add", x, y)
        return x
