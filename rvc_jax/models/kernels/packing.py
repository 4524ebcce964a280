"""Parameters of equal shape stacked into one array.

A training step updates, normalizes and differentiates some seven hundred arrays, most of them
small. Each operation costs a TPU more than a microsecond and its compiler a fraction of a second,
however small it is. Packed, there are a third as many arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from rvc_jax.models.kernels.weight_norm import (
    AppliedNorm,
    Parameters,
    Weights,
    bind_norms,
    is_large,
    norm_name,
)


class Packing:
    """Which parameters of a network are stacked: a dictionary of arrays [count, ...]."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]):
        """shapes: shape of every parameter by name."""
        self._names = shapes.keys()
        groups: dict[tuple, list[str]] = {}
        for name, shape in shapes.items():
            groups.setdefault(_group_key(name, shape, shapes), []).append(name)
        self.groups: dict[str, list[str]] = {
            _packed_name(names): names for names in groups.values()
        }

    def pack(self, tree: Any) -> Any:
        """Packs every dictionary of all parameters in a tree, such as the optimizer's moments."""
        return _map_dictionaries(self.pack_parameters, tree, self._names)

    def unpack(self, tree: Any) -> Any:
        """Inverts `pack`."""
        return _map_dictionaries(self.unpack_parameters, tree, self.groups.keys())

    def pack_parameters(self, parameters: Parameters) -> Parameters:
        """Stacks the parameters of each group."""
        packed = {}
        for key, names in self.groups.items():
            if len(names) == 1:
                packed[key] = parameters[key]
            else:
                packed[key] = jnp.stack([parameters[name] for name in names])
        return packed

    def unpack_parameters(self, packed: Mapping[str, Any]) -> Parameters:
        """Inverts `pack_parameters`, for all groups or for some."""
        parameters = {}
        for key, value in packed.items():
            names = self.groups[key]
            values = [value] if len(names) == 1 else jnp.unstack(value)
            parameters |= zip(names, values, strict=True)
        return parameters


class RunsWeights(Protocol):
    """What `PackedNetwork` needs of a `models.parameters.Network`."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter by name."""
        ...

    def run(self, weights: Weights, method: str, *args: Any, **kwargs: Any) -> Any:
        """Calls a method of the module with these weights."""
        ...


class PackedNetwork:
    """A network that is called with packed parameters."""

    def __init__(self, network: RunsWeights, dtype: jnp.dtype):
        """dtype: type of the kernels that are made from stacked directions and norms."""
        self.network = network
        self.packing = Packing(network.shapes)
        self._dtype = dtype

    def __call__(
        self,
        packed: Mapping[str, Any],
        method: str,
        *args: Any,
        squared_norms: Mapping[str, jax.Array] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Calls `module.method(...)`, like `Network.__call__`.

        squared_norms: of the packed directions, where known (`weight_norm.squared_norms`).
        """
        return self.run(self.make_weights(packed, squared_norms), method, *args, **kwargs)

    def run(self, weights: Weights, method: str, *args: Any, **kwargs: Any) -> Any:
        """Calls `module.method(*args, **kwargs)` with the weights of `make_weights`."""
        return self.network.run(weights, method, *args, **kwargs)

    def make_weights(
        self,
        packed: Mapping[str, Any],
        squared_norms: Mapping[str, jax.Array] | None = None,
    ) -> Weights:
        """Unpacks the parameters. The weight-normed kernels of a stack are made together."""
        weights = bind_norms(packed, squared_norms)
        applied: Weights = {}
        for key, names in self.packing.groups.items():
            if len(names) > 1 and key.endswith(".weight_v"):
                norm = weights.pop(norm_name(key))
                weights[key] = norm.make_kernel(weights[key]).astype(self._dtype)
                applied |= {norm_name(name): AppliedNorm() for name in names}
        return self.packing.unpack_parameters(weights) | applied


def _group_key(
    name: str, shape: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[str, tuple[int, ...], str]:
    """Returns what the parameters of one stack have in common."""
    base, _, kind = name.rpartition(".")
    if kind == "weight_g":
        # Norms are stacked in the order of their kernels, so they are grouped by these.
        shape = shapes[f"{base}.weight_v"]
    normed_kind = kind if kind in ("weight_g", "weight_v") else ""
    own_name = name if is_large(math.prod(shape)) else ""
    return normed_kind, shape, own_name


def _packed_name(names: list[str]) -> str:
    """Returns the name of a stack. It ends as the names of its parameters do."""
    return names[0] if len(names) == 1 else f"{len(names)} as {names[0]}"


def _map_dictionaries(function: Callable[[Any], Any], tree: Any, names: Any) -> Any:
    """Applies a function to every dictionary in the tree that has exactly these names."""

    def is_match(node: Any) -> bool:
        return isinstance(node, dict) and node.keys() == names

    def apply(node: Any) -> Any:
        return function(node) if is_match(node) else node

    return jax.tree.map(apply, tree, is_leaf=is_match)
