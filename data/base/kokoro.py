"""Kokoro-82M on onnxruntime (Apache-2.0; StyleTTS 2, arXiv 2306.07691, with ISTFTNet)."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data.base.packages import read_package_member
from data.base.recipe import Recipe

RATE = 24000
MAX_TOKENS = 500


class Kokoro:
    """The model with its voices, from the packages of the recipe."""

    def __init__(self, recipe: Recipe, packages: Path, threads: int = 2) -> None:
        """Read the model, its symbols and all voices.

        Args:
          recipe: names the packages.
          packages: their folder.
          threads: threads of onnxruntime.
        """
        import onnxruntime

        settings = recipe.synthesis

        def read(package: str, name: str) -> bytes:
            return read_package_member(packages / recipe.packages[package].file, name)

        parts = [read(*member) for member in settings["model"]]
        model = convert_to_float32(b"".join(parts))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        symbols = read(*settings["symbols"])
        self._symbols: dict[str, int] = json.loads(symbols)["vocab"]
        self._styles = {}
        package, pattern = settings["styles"]
        for name in {part for voice in recipe.voices for part in voice.parts}:
            content = read(package, pattern.format(name))
            self._styles[name] = np.frombuffer(content, np.float32).reshape(-1, 256)

    def speak(
        self, phonemes: str, parts: Mapping[str, float], speed: float = 1.0
    ) -> np.ndarray:
        """Return speech as float32 [samples] at `RATE`.

        Args:
          phonemes: symbols of the model; others are left out.
          parts: names of voices and their weights, which add up to 1. The style vectors are
            added with these weights.
          speed: 1 is the model's own.

        Raises:
          ValueError: the text is too long.
        """
        tokens = [self._symbols[symbol] for symbol in phonemes if symbol in self._symbols]
        if len(tokens) > MAX_TOKENS:
            raise ValueError(f"{len(tokens)} phonemes are too many: at most {MAX_TOKENS}")
        # A voice has one style vector for every length of text.
        style = sum(weight * self._styles[name][len(tokens)] for name, weight in parts.items())
        inputs = {
            "input_ids": np.array([[0, *tokens, 0]], np.int64),
            "style": np.asarray(style, np.float32)[None],
            "speed": np.array([speed], np.float32),
        }
        return self._session.run(None, inputs)[0].reshape(-1)


def convert_to_float32(content: bytes) -> bytes:
    """Return an ONNX model whose float16 constants and casts are float32.

    The weights keep their values. onnxruntime's float16 arithmetic on a CPU overflows.
    """
    import onnx

    model = onnx.load(io.BytesIO(content))
    _convert_graph(model.graph)
    return model.SerializeToString()


def _convert_graph(graph) -> None:
    import onnx

    half = onnx.TensorProto.FLOAT16
    single = onnx.TensorProto.FLOAT
    for tensor in graph.initializer:
        _convert_tensor(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _convert_tensor(attribute.t)
            if attribute.HasField("g"):
                _convert_graph(attribute.g)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == half:
                attribute.i = single
    for value in [*graph.value_info, *graph.input, *graph.output]:
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = single


def _convert_tensor(tensor) -> None:
    import onnx
    from onnx import numpy_helper

    if tensor.data_type == onnx.TensorProto.FLOAT16:
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
