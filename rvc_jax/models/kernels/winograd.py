"""Convolutions with fewer multiplications: Winograd's minimal filtering (arXiv 1509.09308), in one
dimension.

A tile of `size` neighbouring outputs of a kernel of `width` taps takes size + width - 1 products
instead of size * width. Inputs and kernel are evaluated, as polynomials, at as many points,
multiplied point by point, and the tile is read off the products. Between channels each product is a
matrix product, and nearly all of the work.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

_POINTS: dict[int, tuple[float, ...]] = {
    3: (1,),
    4: (1,),
    5: (2 / 5, 5 / 4),
    6: (2 / 3, 3 / 2),
    7: (1 / 3, 6 / 7, 5 / 3),
    8: (1 / 2, 1, 2),
    9: (1 / 4, 2 / 3, 7 / 6, 2),
}
"""By their number: each counts with both signs, and infinity and, if the number is even, 0 come to
them. Of fractions of whole numbers up to 8 those with the least rounding errors."""
MAX_TAPS = 8
"""Taps of a kernel, at the most."""
_LARGEST_TILE = 5
"""Above it, evaluating costs what the products save."""


def winograd_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A convolution without edges: x [batch, time, in], kernel [width, in, out] -> [batch, time -
    width + 1, out].

    Its rounding errors are up to ten times those of the plain sum: for float32.
    """
    batch = len(x)
    width = len(kernel)
    time = x.shape[1] - width + 1
    size = tile_size(time, width)
    tiles = -(-time // size)
    blocks = tiles + (width - 2) // size + 1
    x = jnp.pad(x, ((0, 0), (0, blocks * size - x.shape[1]), (0, 0)))
    steps = jnp.unstack(x.reshape(batch, blocks, size, -1), axis=2)
    window = [
        steps[i % size][:, i // size : i // size + tiles] for i in range(size + width - 1)
    ]
    window = [
        step.reshape(batch * tiles, -1) for step in window
    ]  # a product's gradient is slow on CPUs over two axes
    taps = jnp.unstack(kernel)
    outputs, kernels, inputs = _transforms(size, width)
    products = [
        _combined(of_input, window) @ _combined(of_kernel, taps)
        for of_input, of_kernel in zip(inputs, kernels, strict=True)
    ]
    y = jnp.stack([_combined(row, products) for row in outputs.T], axis=1)
    return y.reshape(batch, tiles * size, -1)[:, :time]


def tile_size(time: int, width: int) -> int:
    """Outputs per tile that take the fewest products; of equals the least, whose rounding errors
    are."""
    sizes = range(2, min(_LARGEST_TILE, max(_POINTS) - width + 1) + 1)
    return min(sizes, key=lambda size: -(-time // size) * (size + width - 1))


def _combined(factors: np.ndarray, arrays: Sequence[jax.Array]) -> jax.Array:
    """The sum of the arrays times the factors."""
    terms = [
        np.float32(factor) * array
        for factor, array in zip(factors, arrays, strict=True)
        if factor
    ]
    return functools.reduce(jnp.add, terms)


@functools.cache
def _transforms(size: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices that evaluate outputs [points, size], kernel [points, width] and inputs [points,
    points].

    A tile is transpose(outputs) @ ((kernel @ taps) * (inputs @ window)): the transpose of finding
    the product of two polynomials from its values.
    """
    number = size + width - 1
    points = [sign * point for point in _POINTS[number] for sign in (1, -1)] + [0.0] * (
        number % 2 == 0
    )
    inputs = np.linalg.inv(_powers(points, number)).T
    largest = np.abs(inputs).max(1, keepdims=True)
    return _powers(points, size), _powers(points, width) * largest, inputs / largest


def _powers(points: Sequence[float], number: int) -> np.ndarray:
    """The first powers at each point, the last of which is infinity, where only the highest
    counts."""
    return np.vstack([np.vander(points, number, increasing=True), np.eye(number)[-1]])
