"""Parameters of equal shape side by side in one array.

A training step updates, normalises and differentiates some seven hundred arrays, most of them
small. Each operation costs a TPU more than a microsecond and its compiler a fraction of a second,
however small it is. Packed, the arrays are a third as many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from rvc_jax.models.kernels.weight_norm import is_large, norm_name, weight_norm

Parameters = dict[str, Any]


class Packing:
    """How a network's parameters are packed: a dictionary of arrays [count, ...] in the place of
    one of [...]."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], dtype: jnp.dtype):
        """shapes: of every parameter by name. dtype: what kernels are made in."""
        self._names = shapes.keys()
        self._dtype = dtype
        groups: dict[Any, list[str]] = {}
        for name, shape in shapes.items():
            base, _, kind = name.rpartition(".")
            # Norms lie in the order of their kernels.
            like = shapes[f"{base}.weight_v"] if kind == "weight_g" else shape
            alone = name if is_large(math.prod(like)) else ""
            groups.setdefault(
                (kind if kind in ("weight_g", "weight_v") else "", like, alone), []
            ).append(name)
        self._groups = {_key(names): names for names in groups.values()}

    def pack(self, tree: Any) -> Any:
        """A tree with every dictionary of parameters in it (the optimiser's moments are such)
        packed."""
        return self._mapped(tree, self._names, self._packed)

    def unpack(self, tree: Any) -> Any:
        """The inverse of `pack`."""
        return self._mapped(tree, self._groups.keys(), self._unpacked)

    def is_packed(self, parameters: Mapping[str, Any]) -> bool:
        return parameters.keys() == self._groups.keys()

    def ready(self, packed: Parameters) -> Parameters:
        """Parameters by name, to compute with: weight-normed kernels are made together, and have no
        `weight_g` left."""
        packed = dict(packed)
        scales: dict[str, None] = {}
        for key, names in self._groups.items():
            if key.endswith(".weight_v") and len(names) > 1:
                packed[key] = weight_norm(packed[key], packed.pop(norm_name(key))).astype(
                    self._dtype
                )
                scales |= {norm_name(name): None for name in names}
        return self._unpacked(packed) | scales

    def _packed(self, parameters: Parameters) -> Parameters:
        return {
            key: jnp.stack([parameters[name] for name in names])
            if len(names) > 1
            else parameters[key]
            for key, names in self._groups.items()
        }

    def _unpacked(self, packed: Parameters) -> Parameters:
        parameters = {}
        for key, array in packed.items():
            names = self._groups[key]
            parameters |= zip(
                names, jnp.unstack(array) if len(names) > 1 else [array], strict=True
            )
        return parameters

    @staticmethod
    def _mapped(tree: Any, names: Any, function: Any) -> Any:
        is_parameters = lambda node: isinstance(node, dict) and node.keys() == names  # noqa: E731
        return jax.tree.map(
            lambda node: function(node) if is_parameters(node) else node,
            tree,
            is_leaf=is_parameters,
        )


def _key(names: list[str]) -> str:
    """It ends as the names do."""
    return names[0] if len(names) == 1 else f"{len(names)} as {names[0]}"
