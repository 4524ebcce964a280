"""An ONNX graph that grows operation by operation, and the layers of `models` in it.

Signals are [1, channels, time], as ONNX convolves them. Weights come from a public state dict: ONNX
has its layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

OPSET = 17
"""The oldest with all that is needed: old versions of onnxruntime, which many programs carry, know
it."""
_IR_VERSION = 8  # of the file: the one that came with that opset
Typed = tuple[str, int, list[int | str]]
"""Name, type (onnx.TensorProto's number) and shape of an input or output."""
_ENDLESS = np.iinfo(np.int64).max


class Graph:
    """Operations in their order. A value is known by its name; numbers and arrays become
    constants."""

    def __init__(self, weights: Mapping[str, np.ndarray]):
        """weights: a state dict under the public names; weight norms are multiplied out."""
        self.weights = weights
        self._nodes: list[Any] = []
        self._constants: dict[str, np.ndarray] = {}

    def __call__(
        self, kind: str, *inputs: str | float | Sequence[int] | np.ndarray, **attributes: Any
    ) -> str:
        """Append an operation of one output, whose name is returned."""
        return self.several(1, kind, *inputs, **attributes)[0]

    def several(self, outputs: int, kind: str, *inputs: Any, **attributes: Any) -> list[str]:
        """Append an operation of several outputs."""
        from onnx import helper

        number = len(self._nodes)
        names = [
            f"{kind}_{number}" if outputs == 1 else f"{kind}_{number}_{index}"
            for index in range(outputs)
        ]
        values = [
            value if isinstance(value, str) else self._constant(value) for value in inputs
        ]
        self._nodes.append(
            helper.make_node(kind, values, names, name=f"{kind}_{number}", **attributes)
        )
        return names

    def named(self, name: str, value: float) -> str:
        """A number that can be found in the file by its name."""
        self._constants[name] = np.float32(value)
        return name

    def _constant(self, value: float | Sequence[int] | np.ndarray) -> str:
        if isinstance(value, float):
            value = np.float32(value)
        array = np.asarray(value)
        name = f"constant_{len(self._constants)}"
        self._constants[name] = array
        return name

    def split(self, x: str, parts: int) -> list[str]:
        """Along the channels, in equal parts."""
        return self.several(parts, "Split", x, axis=1)

    def slice(self, x: str, axis: int, start: int | str, stop: int | str, step: int = 1) -> str:
        """start, stop: numbers, or names of [1] int64."""
        bounds = [bound if isinstance(bound, str) else [bound] for bound in (start, stop)]
        return self("Slice", x, *bounds, [axis], [step])

    def reverse_channels(self, x: str) -> str:
        return self.slice(x, 1, -1, -_ENDLESS, -1)

    def kernel(self, layer: str) -> np.ndarray:
        """A layer's weight in the public layout; a norm is over all axes but the first."""
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
        """`models.layers.Conv`; its result times `scale`."""
        kernel = self.kernel(layer)
        bias = self.weights.get(f"{layer}.bias")
        padding = (kernel.shape[2] - 1) * dilation // 2 if padding is None else padding
        arrays = [scale * kernel] if bias is None else [scale * kernel, scale * bias]
        pads = [padding, padding]
        arrays = [np.float32(array) for array in arrays]
        return self("Conv", x, *arrays, strides=[stride], dilations=[dilation], pads=pads)

    def conv_transpose(self, layer: str, x: str, stride: int) -> str:
        """`models.layers.ConvTranspose`."""
        kernel = self.kernel(layer)
        surplus = kernel.shape[2] - stride
        pads = [surplus // 2, surplus - surplus // 2]
        return self(
            "ConvTranspose",
            x,
            kernel,
            self.weights[f"{layer}.bias"],
            strides=[stride],
            pads=pads,
        )

    def layer_norm(self, layer: str, x: str) -> str:
        """`models.layers.LayerNorm`."""
        rows = self("Transpose", x, perm=[0, 2, 1])
        scale = self.weights[f"{layer}.gamma"]
        shift = self.weights[f"{layer}.beta"]
        return self(
            "Transpose",
            self("LayerNormalization", rows, scale, shift, epsilon=1e-5),
            perm=[0, 2, 1],
        )

    def wave_net(self, layer: str, x: str, mask: str, speaker: str, layers: int) -> str:
        """`models.layers.WaveNet`."""
        conditions = self.split(self.conv(f"{layer}.cond_layer", speaker), layers)
        output = None
        for number, condition in enumerate(conditions):
            gates = self("Add", self.conv(f"{layer}.in_layers.{number}", x), condition)
            filtered, gate = self.split(gates, 2)
            gated = self("Mul", self("Tanh", filtered), self("Sigmoid", gate))
            y = self.conv(f"{layer}.res_skip_layers.{number}", gated)
            if number + 1 < layers:
                residual, y = self.split(y, 2)
                x = self("Mul", self("Add", x, residual), mask)
            output = y if output is None else self("Add", output, y)
        return self("Mul", output, mask)

    def serialize(
        self, inputs: Sequence[Typed], output: tuple[str, Typed], metadata: Mapping[str, str]
    ) -> bytes:
        """The file of this graph, checked for being valid ONNX. output: a value, and what it is to
        be called."""
        import onnx
        from onnx import helper, numpy_helper

        constants = [
            numpy_helper.from_array(array, name) for name, array in self._constants.items()
        ]
        value, typed = output
        nodes = [*self._nodes, helper.make_node("Identity", [value], [typed[0]])]
        inputs, outputs = (
            [helper.make_tensor_value_info(*one) for one in some] for some in (inputs, [typed])
        )
        graph = helper.make_graph(nodes, "voice", inputs, outputs, constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION
        )
        model.producer_name = "rvc_jax"
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()
