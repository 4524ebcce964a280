"""Winograd convolutions: fewer multiplications (minimal filtering, arXiv 1509.09308), in 1-D.

A tile of `size` neighboring outputs of a kernel with `width` taps takes size + width - 1 products
instead of size * width. Inputs and kernel, read as polynomials, are evaluated at that many points
and multiplied point by point, and the tile is interpolated from the products. Between channels
each product is a matrix product, which is nearly all of the work.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

# Points to evaluate at, by how many are needed. Each counts with both signs; infinity is added and,
# for even numbers, 0. Among the fractions of whole numbers up to 8 these have the least rounding
# errors.
_POINTS: dict[int, tuple[float, ...]] = {
    3: (1,),
    4: (1,),
    5: (2 / 5, 5 / 4),
    6: (2 / 3, 3 / 2),
    7: (1 / 3, 6 / 7, 5 / 3),
    8: (1 / 2, 1, 2),
    9: (1 / 4, 2 / 3, 7 / 6, 2),
}
MAX_TAPS = 8
"""Width of the widest kernel."""
_MAX_TILE = 5  # larger tiles lose in their evaluation what they save in products


def winograd_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves without padding.

    x [batch, time, in], kernel [width, in, out] -> [batch, time - width + 1, out]. For float32
    only: rounding errors are up to ten times those of the plain sum.
    """
    batch = len(x)
    width = len(kernel)
    time = x.shape[1] - width + 1
    size = choose_tile_size(time, width)
    tiles = -(-time // size)
    blocks = tiles + (width - 2) // size + 1
    x = jnp.pad(x, ((0, 0), (0, blocks * size - x.shape[1]), (0, 0)))
    steps = jnp.unstack(x.reshape(batch, blocks, size, -1), axis=2)
    # window[i]: the i-th input of every tile.
    window = []
    for i in range(size + width - 1):
        first = i // size
        window.append(steps[i % size][:, first : first + tiles])
    # One axis for batch and tiles: over two, a product's gradient is slow on CPUs.
    window = [step.reshape(batch * tiles, -1) for step in window]
    taps = jnp.unstack(kernel)
    outputs, kernels, inputs = make_transforms(size, width)
    products = [
        _combine(input_factors, window) @ _combine(kernel_factors, taps)
        for input_factors, kernel_factors in zip(inputs, kernels, strict=True)
    ]
    y = jnp.stack([_combine(row, products) for row in outputs.T], axis=1)
    return y.reshape(batch, tiles * size, -1)[:, :time]


def choose_tile_size(time: int, width: int) -> int:
    """Returns the outputs per tile that need the fewest products.

    Among equals it is the smallest, which has the least rounding errors.
    """
    sizes = range(2, min(_MAX_TILE, max(_POINTS) - width + 1) + 1)
    return min(sizes, key=lambda size: -(-time // size) * (size + width - 1))


def _combine(factors: np.ndarray, arrays: Sequence[jax.Array]) -> jax.Array:
    """Returns the sum of the arrays, each times its factor."""
    pairs = zip(factors, arrays, strict=True)
    terms = [np.float32(factor) * array for factor, array in pairs if factor]
    return functools.reduce(jnp.add, terms)


@functools.cache
def make_transforms(size: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns matrices for outputs [points, size], kernel [points, width], inputs [points, points].

    A tile is `outputs.T @ ((kernel @ taps) * (inputs @ window))`: the transpose of multiplying two
    polynomials by their values.
    """
    number = size + width - 1
    points = [sign * point for point in _POINTS[number] for sign in (1, -1)]
    if number % 2 == 0:
        points.append(0.0)
    inputs = np.linalg.inv(_evaluate_powers(points, number)).T
    # Scale the rows of `inputs` to 1, so that the sums lose no precision.
    largest = np.abs(inputs).max(1, keepdims=True)
    outputs = _evaluate_powers(points, size)
    kernel = _evaluate_powers(points, width) * largest
    return outputs, kernel, inputs / largest


def _evaluate_powers(points: Sequence[float], number: int) -> np.ndarray:
    """Returns the first powers at each point, then at infinity, where only the highest counts."""
    at_infinity = np.eye(number)[-1]
    return np.vstack([np.vander(points, number, increasing=True), at_infinity])
