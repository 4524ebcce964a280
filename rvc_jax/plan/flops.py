"""Counts the operations of a traced function, before the compiler changes them."""

from __future__ import annotations

import math
from typing import Any


def count_flops(jaxpr: Any) -> float:
    """Return the floating-point operations of all products and convolutions of a jaxpr.

    Those in loops count once per iteration."""
    total = 0.0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        parameters = equation.params
        if name == "dot_general":
            total += _product(equation)
        elif name == "conv_general_dilated":
            total += _convolution(equation)
        else:
            times = parameters.get("length", 1) if name == "scan" else 1
            total += times * sum(count_flops(inner) for inner in _inner(parameters))
    return total


def _inner(parameters: dict[str, Any]) -> list[Any]:
    """Return the functions that an operation calls."""
    values = [
        item
        for value in parameters.values()
        for item in (value if isinstance(value, tuple | list) else [value])
    ]
    closed = [getattr(value, "jaxpr", value) for value in values]
    return [value for value in closed if hasattr(value, "eqns")]


def _product(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * depth


def _convolution(equation: Any) -> float:
    """Return the operations of a convolution, without the taps that meet inserted zeros."""
    parameters = equation.params
    numbers = parameters["dimension_numbers"]
    kernel = equation.invars[1].aval.shape
    out = equation.outvars[0].aval.shape
    depth = math.prod(kernel) / kernel[numbers.rhs_spec[0]]
    return 2.0 * math.prod(out) * depth / math.prod(parameters["lhs_dilation"])
