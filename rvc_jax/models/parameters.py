"""Parameters as one flat dictionary under the public names of RVC checkpoints.

Modules hold no arrays: they are built from shapes, and called with a dictionary
`{"dec.ups.0.weight_v": array}`. Our arrays lie as XLA likes them ([kernel, in, out]); each
parameter knows its public layout, so a PyTorch state dict is one transpose away.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rvc_jax.models.kernels.packing import Packing
from rvc_jax.models.kernels.weight_norm import KnownNorm, squared_norm

Parameters = dict[str, Any]

_WEIGHT_NORMS = {
    ".parametrizations.weight.original0": ".weight_g",
    ".parametrizations.weight.original1": ".weight_v",
}


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Uniform in ±bound."""

    bound: float

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return random.uniform(-self.bound, self.bound, shape)


@dataclasses.dataclass(frozen=True)
class Normal:
    """Zero-mean normal of the given standard deviation."""

    deviation: float

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return self.deviation * random.standard_normal(shape)


@dataclasses.dataclass(frozen=True)
class Constant:
    """The same value everywhere."""

    value: float

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, self.value)


def to_classic_name(name: str) -> str:
    """A parameter's name in classic checkpoints, whichever way PyTorch has spelt its weight
    norm."""
    for new, old in _WEIGHT_NORMS.items():
        name = name.removesuffix(new) + old if name.endswith(new) else name
    return name


def fan_in_uniform(fan_in: int) -> Uniform:
    """PyTorch's default for convolutions, linear layers and their biases."""
    return Uniform(1.0 / math.sqrt(fan_in))


def declare_parameter(
    shape: tuple[int, ...], init: Any, axes: tuple[int, ...], trailing: int = 0
) -> nnx.Param:
    """Declares a parameter.

    axes: permutation from our axes to the public ones (every one used here is its own inverse).
    trailing: unit axes that the public array has at its end (kernels of 2-D convolutions over one
    column).
    """
    spec = jax.ShapeDtypeStruct(shape, np.float32)
    return nnx.Param(spec, init=init, public_axes=axes, public_trailing=trailing)


class Network:
    """A module definition, called with a flat dictionary of parameters.

    `network(parameters, "method", ...)` runs `module.method(...)`; pure, so it can be transformed
    and jitted.
    """

    def __init__(self, module: nnx.Module, packed: jnp.dtype | None = None):
        """packed: the dtype to compute in, if parameters are to be packed for training."""
        self._graph, state = nnx.split(module)
        self._variables = {
            ".".join(map(str, path)): (path, variable)
            for path, variable in nnx.to_flat_state(state)
        }
        self.packing = Packing(self.shapes, packed) if packed else None

    def __call__(
        self, parameters: Mapping[str, Any], method: str, *args: Any, **kwargs: Any
    ) -> Any:
        return self.apply(parameters, lambda module: getattr(module, method)(*args, **kwargs))

    def apply(self, parameters: Mapping[str, Any], function: Callable[[Any], Any]) -> Any:
        """`function(module)` with the parameters, packed or not, in place: for calling a part of
        the network alone."""
        if self.packing and self.packing.is_packed(parameters):
            parameters = self.packing.ready(parameters)
        state = [
            (path, variable.replace(parameters[name]))
            for name, (path, variable) in self._variables.items()
        ]
        return function(nnx.merge(self._graph, nnx.from_flat_state(state)))

    @staticmethod
    def squared_norms(parameters: Mapping[str, Any]) -> Parameters:
        """Of the directions of weight-normed kernels, under the names of their scales; parameters
        packed or not."""
        names = [name for name in parameters if name.endswith("weight_v")]
        return {name[:-1] + "g": squared_norm(parameters[name]) for name in names}

    @staticmethod
    def with_known_norms(
        parameters: Mapping[str, Any], squares: Mapping[str, Any]
    ) -> Parameters:
        """Parameters to call the network with, which does not take these norms again."""
        return dict(parameters) | {
            name: KnownNorm(parameters[name], square) for name, square in squares.items()
        }

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Our shape of every parameter by name."""
        return {name: variable.shape for name, (_, variable) in self._variables.items()}

    @property
    def public_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter in a public checkpoint, by name."""
        return {
            name: tuple(variable.shape[axis] for axis in variable.public_axes)
            + (1,) * variable.public_trailing
            for name, (_, variable) in self._variables.items()
        }

    def init(self, seed: int) -> Parameters:
        """Fresh float32 parameters. A parameter's values depend on the seed and its name alone."""
        parameters = {}
        for name, (_, variable) in self._variables.items():
            random = np.random.default_rng([seed, zlib.crc32(name.encode())])
            parameters[name] = variable.init.draw(random, variable.shape).astype(np.float32)
        for name in parameters:
            if name.endswith("weight_g"):
                direction = parameters[name[:-1] + "v"]
                parameters[name] = np.sqrt(np.sum(direction**2, axis=(0, 1), keepdims=True))
        return parameters

    def to_public(self, parameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The PyTorch state dict of these parameters, as NumPy arrays."""
        public = {}
        for name, shape in self.public_shapes.items():
            axes = self._variables[name][1].public_axes
            public[name] = np.ascontiguousarray(
                np.asarray(parameters[name]).transpose(axes).reshape(shape)
            )
        return public

    def from_public(self, state_dict: Mapping[str, np.ndarray]) -> Parameters:
        """The inverse of `to_public`, as float32.

        Raises:
          ValueError: if names or shapes differ from this network's; the message names the first
              few.
        """
        self._check_public(state_dict)
        parameters = {}
        for name, (_, variable) in self._variables.items():
            array = np.asarray(state_dict[name], np.float32)
            array = array.reshape(array.shape[: len(variable.public_axes)])
            parameters[name] = np.ascontiguousarray(array.transpose(variable.public_axes))
        return parameters

    def _check_public(self, state_dict: Mapping[str, np.ndarray]) -> None:
        expected = self.public_shapes
        problems = [f"{name} is missing" for name in expected if name not in state_dict]
        problems += [
            f"{name} is not part of this network" for name in state_dict if name not in expected
        ]
        for name, shape in expected.items():
            if name in state_dict and tuple(state_dict[name].shape) != shape:
                problems.append(
                    f"{name} has shape {tuple(state_dict[name].shape)}, not {shape}"
                )
        if problems:
            more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
            raise ValueError("; ".join(problems[:3]) + more)
