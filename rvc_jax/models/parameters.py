"""Parameters as one flat dictionary under the public names of RVC checkpoints.

Modules hold no arrays: they are built from shapes and called with a dictionary such as
`{"dec.ups.0.weight_v": array}`. Arrays have the layout that XLA likes ([kernel, in, out]). Each
parameter knows its public layout, so a PyTorch state dict is one transpose away.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from flax import nnx

from rvc_jax.models.kernels.weight_norm import Parameters, Weights, bind_norms

# How newer PyTorch spells weight norms, and how the public checkpoints do.
_CLASSIC_SUFFIXES = {
    ".parametrizations.weight.original0": ".weight_g",
    ".parametrizations.weight.original1": ".weight_v",
}


class Initializer(Protocol):
    """Draws the initial values of a parameter."""

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Returns an array of this shape."""
        ...


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Uniform between -bound and bound."""

    bound: float

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Returns an array of this shape."""
        return random.uniform(-self.bound, self.bound, shape)


@dataclasses.dataclass(frozen=True)
class Normal:
    """Zero-mean normal with the given standard deviation."""

    deviation: float

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Returns an array of this shape."""
        return self.deviation * random.standard_normal(shape)


@dataclasses.dataclass(frozen=True)
class Constant:
    """The same value everywhere."""

    value: float

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Returns an array of this shape."""
        return np.full(shape, self.value)


def to_classic_name(name: str) -> str:
    """Returns a parameter's name in classic checkpoints, for either of PyTorch's spellings."""
    for suffix, classic in _CLASSIC_SUFFIXES.items():
        if name.endswith(suffix):
            name = name.removesuffix(suffix) + classic
    return name


def fan_in_uniform(fan_in: int) -> Uniform:
    """Returns PyTorch's default for convolutions, linear layers and their biases."""
    return Uniform(1.0 / math.sqrt(fan_in))


def declare_parameter(
    shape: tuple[int, ...], init: Initializer, axes: tuple[int, ...], trailing: int = 0
) -> nnx.Param:
    """Declares a float32 parameter, without an array.

    axes: permutation from our axes to the public ones. Every one used here is its own inverse.
    trailing: unit axes at the end of the public array (2-D kernels over a single column).
    """
    spec = jax.ShapeDtypeStruct(shape, np.float32)
    return nnx.Param(spec, init=init, public_axes=axes, public_trailing=trailing)


class Network:
    """A module definition, called with a flat dictionary of parameters.

    `network(parameters, "method", ...)` runs `module.method(...)`. It is pure, so it can be
    transformed and jitted.
    """

    def __init__(self, module: nnx.Module):
        self._graph, state = nnx.split(module)
        self._variables: dict[str, tuple[tuple, Any]] = {}
        for path, variable in nnx.to_flat_state(state):
            name = ".".join(str(part) for part in path)
            self._variables[name] = (path, variable)

    def __call__(
        self,
        parameters: Mapping[str, Any],
        method: str,
        *args: Any,
        squared_norms: Mapping[str, jax.Array] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Calls `module.method(*args, **kwargs)` with these parameters.

        squared_norms: of the weight-normed directions, where they are known beforehand
          (`kernels.weight_norm.squared_norms`).
        """
        return self.run(self.make_weights(parameters, squared_norms), method, *args, **kwargs)

    def make_weights(
        self,
        parameters: Mapping[str, Any],
        squared_norms: Mapping[str, jax.Array] | None = None,
    ) -> Weights:
        """Returns the parameters as `run` takes them, with their norms bound."""
        return bind_norms(parameters, squared_norms)

    def apply(
        self,
        parameters: Mapping[str, Any],
        function: Callable[[Any], Any],
        squared_norms: Mapping[str, jax.Array] | None = None,
    ) -> Any:
        """Returns `function(module)` with these parameters, to call a part of the network."""
        return function(self._merge(self.make_weights(parameters, squared_norms)))

    def run(self, weights: Weights, method: str, *args: Any, **kwargs: Any) -> Any:
        """Calls `module.method(*args, **kwargs)` with weights whose norms are bound."""
        return getattr(self._merge(weights), method)(*args, **kwargs)

    def _merge(self, weights: Weights) -> Any:
        state = []
        for name, (path, variable) in self._variables.items():
            state.append((path, variable.replace(weights[name])))
        return nnx.merge(self._graph, nnx.from_flat_state(state))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Our shape of every parameter by name."""
        return {name: variable.shape for name, (_, variable) in self._variables.items()}

    @property
    def public_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter in a public checkpoint by name."""
        shapes = {}
        for name, (_, variable) in self._variables.items():
            public = tuple(variable.shape[axis] for axis in variable.public_axes)
            shapes[name] = public + (1,) * variable.public_trailing
        return shapes

    def init(self, seed: int) -> Parameters:
        """Returns fresh float32 parameters. Each depends on the seed and its own name alone."""
        parameters = {}
        for name, (_, variable) in self._variables.items():
            random = np.random.default_rng([seed, zlib.crc32(name.encode())])
            parameters[name] = variable.init.draw(random, variable.shape).astype(np.float32)
        for name in parameters:
            if name.endswith("weight_g"):
                direction = parameters[name.removesuffix("g") + "v"]
                norm = np.sqrt(np.sum(direction**2, axis=(0, 1), keepdims=True))
                parameters[name] = norm
        return parameters

    def to_public(self, parameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Returns the PyTorch state dict of these parameters, as NumPy arrays."""
        public = {}
        for name, shape in self.public_shapes.items():
            axes = self._variables[name][1].public_axes
            array = np.asarray(parameters[name]).transpose(axes).reshape(shape)
            public[name] = np.ascontiguousarray(array)
        return public

    def from_public(self, state_dict: Mapping[str, np.ndarray]) -> Parameters:
        """Inverts `to_public`; returns float32.

        Raises:
          ValueError: names or shapes differ from this network's. The message has the first few.
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
        for name in state_dict:
            if name not in expected:
                problems.append(f"{name} is not part of this network")
        for name, shape in expected.items():
            if name in state_dict and tuple(state_dict[name].shape) != shape:
                problems.append(
                    f"{name} has shape {tuple(state_dict[name].shape)}, not {shape}"
                )
        if problems:
            more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
            raise ValueError("; ".join(problems[:3]) + more)
