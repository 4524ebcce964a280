"""Make whisper_tiny.npz with onnxruntime; see README.md. Needs the `onnx` package and the 8-bit
ONNX encoder.

python tests/features/golden/make_whisper.py WHISPER_TINY_ENCODER_INT8.onnx
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from rvc_jax.audio.reading import load
from rvc_jax.features.content.whisper import log_mel

HERE = Path(__file__).parent
SPEECH = HERE.parents[2] / "data/sample/voice/zrtp-enroll_confirmed.flac"


def ten_seconds_in_thirty() -> np.ndarray:
    """The golden's input, [1, 480000]."""
    audio = np.zeros((1, 480000), np.float32)
    audio[0, :160000] = load(SPEECH, 16000)[:160000]
    return audio


def run(model: bytes, audio: np.ndarray) -> np.ndarray:
    """onnxruntime's last hidden state of audio [1, 480000] -> [1500, 384]."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    mel = np.asarray(log_mel(audio)).transpose(0, 2, 1)
    return session.run(["last_hidden_state"], {"input_features": mel})[0][0]


def without_rounding_of_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace every quantize -> integer product -> scale by a product with the dequantized
    weights."""
    constants = {
        item.name: onnx.numpy_helper.to_array(item) for item in model.graph.initializer
    }
    unrounded = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "DynamicQuantizeLinear"
    }
    users = {name: node for node in model.graph.node for name in node.input}
    products = {}
    dropped = set()
    for node in model.graph.node:
        if node.op_type not in ("MatMulInteger", "ConvInteger"):
            continue
        name = node.input[1]
        scale = constants[node.input[1].replace("_quantized", "_scale")]
        weight = (constants[name].astype(np.float32) - constants[node.input[3]]) * scale
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, f"{name}_float"))
        cast = users[node.output[0]]
        scaled = users[cast.output[0]]
        settings = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        products[scaled.output[0]] = onnx.helper.make_node(
            node.op_type.removesuffix("Integer"),
            [unrounded[node.input[0]], f"{name}_float"],
            scaled.output,
            **settings,
        )
        dropped |= {node.output[0], cast.output[0], *scaled.input}
    nodes = [products.get(node.output[0], node) for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(
        n for n in nodes if n.output[0] not in dropped and n.op_type != "DynamicQuantizeLinear"
    )
    return model


if __name__ == "__main__":
    source = Path(sys.argv[1]).read_bytes()
    audio = ten_seconds_in_thirty()
    quantized = run(source, audio)[:500]
    plain = run(
        without_rounding_of_activations(onnx.load_from_string(source)).SerializeToString(),
        audio,
    )[:500]
    np.savez_compressed(
        HERE / "whisper_tiny.npz",
        quantised=quantized.astype(np.float16),
        float_activations=plain.astype(np.float16),
    )
