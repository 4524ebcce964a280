"""Builds an ONNX graph operation by operation, with the layers of `models`.

Signals are [1, channels, time], as ONNX convolves them. Weights come from a public state dict,
whose layout is ONNX's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rvc_jax.models.kernels.convolution import front_cut

OPSET = 17
"""The oldest set of operations with all that are needed: many programs have an old onnxruntime."""

_IR_VERSION = 8  # of the file format, as of that opset
_INT64_MAX = np.iinfo(np.int64).max

Value = str | float | Sequence[int] | np.ndarray | np.generic
"""The name of a value, or a constant."""

TypedName = tuple[str, int, list[int | str]]
"""Name, type (onnx.TensorProto's number) and shape of an input or output."""


class Graph:
    """A list of operations.

    Values are referred to by their names; numbers and arrays become constants.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]):
        """Start an empty graph.

        weights: A state dict under the public names; weight norms are multiplied out.
        """
        self.weights = weights
        self._nodes: list[Any] = []
        self._constants: dict[str, np.ndarray] = {}

    def __call__(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """Append an operation with one output, and return the output's name."""
        return self.append(1, kind, *inputs, **attributes)[0]

    def append(self, outputs: int, kind: str, *inputs: Any, **attributes: Any) -> list[str]:
        """Append an operation, and return the names of its outputs."""
        from onnx import helper

        number = len(self._nodes)
        node_name = f"{kind}_{number}"
        names = [node_name]
        if outputs > 1:
            names = [f"{node_name}_{index}" for index in range(outputs)]
        values = [
            value if isinstance(value, str) else self._add_constant(value) for value in inputs
        ]
        self._nodes.append(helper.make_node(kind, values, names, name=node_name, **attributes))
        return names

    def add_number(self, name: str, value: float) -> str:
        """Add a number that can be found in the file by its name."""
        self._constants[name] = np.asarray(value, np.float32)
        return name

    def _add_constant(self, value: Value) -> str:
        dtype = np.float32 if isinstance(value, float) else None
        array = np.asarray(value, dtype)
        name = f"constant_{len(self._constants)}"
        self._constants[name] = array
        return name

    def split(self, x: str, parts: int) -> list[str]:
        """Split the channels into equal parts."""
        return self.append(parts, "Split", x, axis=1)

    def slice(self, x: str, axis: int, start: int | str, stop: int | str, step: int = 1) -> str:
        """Slice an axis.

        start, stop: Numbers, or names of values [1] int64.
        """
        bounds = [bound if isinstance(bound, str) else [bound] for bound in (start, stop)]
        return self("Slice", x, *bounds, [axis], [step])

    def reverse_channels(self, x: str) -> str:
        """Reverse the order of the channels."""
        return self.slice(x, 1, -1, -_INT64_MAX, -1)

    def kernel(self, layer: str) -> np.ndarray:
        """Return a layer's weight in the public layout; its norm is over all axes but the first."""
        if f"{layer}.weight" in self.weights:
            return self.weights[f"{layer}.weight"]
        direction = self.weights[f"{layer}.weight_v"]
        scale = self.weights[f"{layer}.weight_g"]
        norm = np.sqrt(np.sum(np.square(direction), axis=(1, 2), keepdims=True))
        return direction * (scale / norm)

    def conv(
        self,
        layer: str,
        x: str,
        stride: int = 1,
        dilation: int = 1,
        padding: int | None = None,
        scale: float = 1.0,
    ) -> str:
        """Append `models.layers.Conv`, with its result times `scale`."""
        kernel = self.kernel(layer)
        bias = self.weights.get(f"{layer}.bias")
        if padding is None:
            padding = (kernel.shape[2] - 1) * dilation // 2
        arrays = [np.float32(scale * kernel)]
        if bias is not None:
            arrays.append(np.float32(scale * bias))
        pads = [padding, padding]
        return self("Conv", x, *arrays, strides=[stride], dilations=[dilation], pads=pads)

    def conv_transpose(self, layer: str, x: str, stride: int) -> str:
        """Append `models.layers.ConvTranspose`."""
        kernel = self.kernel(layer)
        surplus = kernel.shape[2] - stride
        cut = front_cut(kernel.shape[2], stride)
        pads = [cut, surplus - cut]
        return self(
            "ConvTranspose",
            x,
            kernel,
            self.weights[f"{layer}.bias"],
            strides=[stride],
            pads=pads,
        )

    def layer_norm(self, layer: str, x: str) -> str:
        """Append `models.layers.LayerNorm`."""
        rows = self("Transpose", x, perm=[0, 2, 1])
        scale = self.weights[f"{layer}.gamma"]
        shift = self.weights[f"{layer}.beta"]
        normalized = self("LayerNormalization", rows, scale, shift, epsilon=1e-5)
        return self("Transpose", normalized, perm=[0, 2, 1])

    def wave_net(self, layer: str, x: str, mask: str, speaker: str, layers: int) -> str:
        """Append `models.layers.WaveNet`."""
        conditions = self.split(self.conv(f"{layer}.cond_layer", speaker), layers)
        output = ""
        for number, condition in enumerate(conditions):
            gates = self("Add", self.conv(f"{layer}.in_layers.{number}", x), condition)
            filtered, gate = self.split(gates, 2)
            gated = self("Mul", self("Tanh", filtered), self("Sigmoid", gate))
            y = self.conv(f"{layer}.res_skip_layers.{number}", gated)
            if number + 1 < layers:
                residual, y = self.split(y, 2)
                x = self("Mul", self("Add", x, residual), mask)
            output = self("Add", output, y) if output else y
        return self("Mul", output, mask)

    def sine_cycles(self, f0: str, rate: int, hop: int) -> str:
        """Append `models.generator.sine_cycles` of [1, frames, 1], without phase.

        The result is [1, frames, hop].
        """
        # A product, since XLA turns the division by a constant into one: another rounding of the
        # step would add up over frames.
        ramp = self("Mul", self("Mul", f0, 1 / rate), np.arange(1, hop + 1, dtype=np.float32))
        per_frame = self._subtract_round(self.slice(ramp, 2, hop - 1, hop))
        before = self._subtract_round(self("CumSum", per_frame, np.int64(1), exclusive=1))
        return self("Add", ramp, before)

    def _subtract_round(self, cycles: str) -> str:
        return self("Sub", cycles, self("Round", cycles))

    def serialize(
        self,
        inputs: Sequence[TypedName],
        output: tuple[str, TypedName],
        metadata: Mapping[str, str],
    ) -> bytes:
        """Return the file of this graph, which is checked to be valid ONNX.

        output: A value of the graph, and the name and type that it gets.
        """
        import onnx
        from onnx import helper, numpy_helper

        constants = [
            numpy_helper.from_array(array, name) for name, array in self._constants.items()
        ]
        value, typed = output
        nodes = [*self._nodes, helper.make_node("Identity", [value], [typed[0]])]
        input_infos = [helper.make_tensor_value_info(*each) for each in inputs]
        output_infos = [helper.make_tensor_value_info(*typed)]
        graph = helper.make_graph(nodes, "voice", input_infos, output_infos, constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION
        )
        model.producer_name = "rvc_jax"
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()
