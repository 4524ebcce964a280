"""Make the files of `rvc_jax/weights/bundled` from public ONNX models.

This is a maintainers' script: the package does not use it, and only these files come with it. It
needs the `onnx` package.

    python data/bundled_weights/convert.py --swift-f0 SWIFT.onnx --whisper-tiny WHISPER.onnx \\
        --silero-vad SILERO.onnx

SWIFT.onnx is `swift_f0/model.onnx` of the PyPI package swift-f0 0.3.0 (MIT). WHISPER.onnx is the
encoder of openai/whisper-tiny (multilingual, MIT) as exported by transformers and quantized by
onnxruntime's `quantize_dynamic`, weights in uint8; its 8-bit values are stored as they are.
SILERO.onnx is `silero_vad/data/silero_vad_16k_op15.onnx` of the PyPI package silero-vad 6.2.3
(MIT). The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np

from rvc_jax.weights.bundled import FOLDER, SCALE, ZERO_POINT


def main() -> None:
    """Convert the models that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--swift-f0", type=Path, help="model.onnx of swift-f0 0.3.0")
    parser.add_argument("--whisper-tiny", type=Path, help="8-bit encoder of whisper-tiny")
    parser.add_argument(
        "--silero-vad", type=Path, help="silero_vad_16k_op15.onnx of silero-vad 6.2.3"
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    options = parser.parse_args()
    for name, source, convert in (
        ("swift_f0", options.swift_f0, swift_f0),
        ("whisper_tiny", options.whisper_tiny, whisper),
        ("silero_vad", options.silero_vad, silero_vad),
    ):
        if source:
            write_npz(options.out / f"{name}.npz", convert(source))


def swift_f0(source: Path) -> dict[str, np.ndarray]:
    """Take the weights of `features.f0.swift` out of the ONNX graph, by the order of its nodes."""
    graph = _graph(source)
    constants = _constants(graph)
    arrays = {}
    scatters = [node for node in graph.node if node.op_type == "ScatterElements"]
    for window, node in zip((1024, 2048, 512), scatters, strict=True):
        # The filter banks are stored as (position, value) pairs of a flat [bins, 128] matrix.
        bank = np.zeros((window // 2 + 1) * 128, np.float32)
        bank[constants[node.input[1]]] = constants[node.input[2]]
        arrays[f"bands.{window}"] = bank.reshape(-1, 128)
    names = ["stem", *(f"blocks.{i}.{j}" for i in range(6) for j in range(2))]
    names += ["narrow", "voicing.frequency", "pitch", "voicing.hidden", "voicing.out"]
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    for name, node in zip(names, convolutions, strict=True):
        kernel, bias = (constants[key] for key in node.input[1:])
        arrays[f"{name}.kernel"] = (
            kernel.T
        )  # [out, in, (frequency,) time] -> [time, (frequency,) in, out]
        arrays[f"{name}.bias"] = bias
    arrays["log_frequencies"] = next(
        a for a in constants.values() if a.shape == (95,) and a.dtype == np.float64
    )
    return {name: array.astype(np.float32) for name, array in arrays.items()}


_WHISPER_LINEAR = {
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.out_proj": "attention.out",
    "fc1": "mlp.in",
    "fc2": "mlp.out",
}
_WHISPER_NORM = {"self_attn_layer_norm": "attention_norm", "final_layer_norm": "mlp_norm"}


def whisper(source: Path) -> dict[str, np.ndarray]:
    """Take the weights of `features.content.whisper` out of a quantized export of transformers'
    WhisperEncoder."""
    from rvc_jax.features.content.whisper import sinusoids

    graph = _graph(source)
    constants = _constants(graph)
    positions = constants["embed_positions.weight"]
    if not np.array_equal(positions, sinusoids(*positions.shape)):
        raise ValueError(f"{source}: positions are not Whisper's sinusoids")
    arrays = {
        "final_norm.scale": constants["layer_norm.weight"],
        "final_norm.bias": constants["layer_norm.bias"],
    }
    for node in graph.node:
        if (
            node.op_type not in ("ConvInteger", "MatMulInteger")
            or node.input[1] not in constants
        ):
            continue
        module = (
            node.name.strip("/")
            .removesuffix("_quant")
            .removesuffix("/Conv")
            .removesuffix("/MatMul")
        )
        theirs = module.replace("/", ".")  # layers.0.self_attn.q_proj, conv1
        ours = _whisper_name(theirs)
        arrays[f"{ours}.kernel"] = (
            constants[node.input[1]].T if "conv" in ours else constants[node.input[1]]
        )
        arrays[f"{ours}.kernel{SCALE}"] = constants[
            node.input[1].replace("_quantized", "_scale")
        ]
        arrays[f"{ours}.kernel{ZERO_POINT}"] = constants[node.input[3]].astype(np.float32)
        if f"{theirs}.bias" in constants:
            arrays[f"{ours}.bias"] = constants[f"{theirs}.bias"]
    for key, array in constants.items():
        *module, leaf = key.split(".")
        if module and module[-1] in _WHISPER_NORM:
            arrays[
                f"{_whisper_name('.'.join(module))}.{'scale' if leaf == 'weight' else 'bias'}"
            ] = array
    return arrays


def _whisper_name(theirs: str) -> str:
    if not theirs.startswith("layers."):
        return theirs
    _, number, module = theirs.split(".", 2)
    return f"blocks.{number}.{ {**_WHISPER_LINEAR, **_WHISPER_NORM}[module] }"


def silero_vad(source: Path) -> dict[str, np.ndarray]:
    """Take the weights of `features.vad` out of the ONNX graph; kernels become [taps * in, out]."""
    constants = {
        name.removeprefix("model."): array for name, array in _constants(_graph(source)).items()
    }
    angles = 2 * np.pi / 256 * np.outer(np.arange(129), np.arange(256))
    basis = np.concatenate([np.cos(angles), -np.sin(angles)]) * np.hanning(257)[:-1]
    if not np.allclose(constants["stft.forward_basis_buffer"][:, 0], basis, atol=1e-6):
        raise ValueError(
            f"{source}: the first convolution is no Fourier transform in Hann windows"
        )
    arrays = {
        "lstm.input.kernel": constants["decoder.rnn.weight_ih"].T,
        "lstm.recurrent.kernel": constants["decoder.rnn.weight_hh"].T,
        "lstm.bias": constants["decoder.rnn.bias_ih"] + constants["decoder.rnn.bias_hh"],
        "out.kernel": constants["decoder.decoder.2.weight"][:, :, 0].T,
        "out.bias": constants["decoder.decoder.2.bias"],
    }
    for layer in range(4):
        kernel = constants[f"encoder.{layer}.reparam_conv.weight"]
        arrays[f"convolutions.{layer}.kernel"] = kernel.transpose(2, 1, 0).reshape(
            -1, len(kernel)
        )
        arrays[f"convolutions.{layer}.bias"] = constants[f"encoder.{layer}.reparam_conv.bias"]
    return arrays


def _graph(source: Path):
    import onnx

    return onnx.load(source).graph


def _constants(graph) -> dict[str, np.ndarray]:
    from onnx import numpy_helper

    return {item.name: numpy_helper.to_array(item) for item in graph.initializer}


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Like `numpy.savez_compressed`, but without the clock's time in it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(arrays):
            content = io.BytesIO()
            np.lib.format.write_array(
                content, np.ascontiguousarray(arrays[name]), allow_pickle=False
            )
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_DEFLATED, 9
            )


if __name__ == "__main__":
    main()
