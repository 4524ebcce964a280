"""k-means on the device: the centers of the cells in which a faiss index stores its rows.

This is not scikit-learn's `MiniBatchKMeans`, because that takes longer. On 2 CPU cores, 10,000
clusters of 200,000 x 768 rows took 89 s here and 231 s there, set up as RVC does, with mean squared
distances of 0.304 and 0.307 of the rows' variance (`tests/benchmarks/kmeans_speed.py`). An
accelerator is faster still.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

_ROWS_AT_ONCE = 1024
_BLOCKS_AT_ONCE = 64
_COARSE_CHANNELS = 128
_COARSE_PASSES = 12
_FINE_PASSES = 2
_ALL_PASSES = 10  # without coarse ones

_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def kmeans(
    rows: np.ndarray, clusters: int, seed: int = 0, rows_per_cluster: int = 40
) -> np.ndarray:
    """Find the centers of clusters by Lloyd's algorithm.

    Most passes are over the rows' principal components: those cost a sixth of a pass over 768
    channels, and leave little to do for the last passes. An empty cluster starts again at a row of
    a large one.

    Args:
      rows: Finite rows [rows, channels], at least as many as clusters.
      rows_per_cluster: With more rows than this for each cluster, this many are drawn, and the rest
        is ignored.

    Returns:
      float32 [clusters, channels].
    """
    random = np.random.default_rng(seed)
    if len(rows) > rows_per_cluster * clusters:
        drawn = random.choice(len(rows), rows_per_cluster * clusters, replace=False)
        rows = rows[np.sort(drawn)]
    count = len(rows)
    first = random.choice(len(rows), clusters, replace=False)
    key = jax.random.key(seed)
    rows, mean = _center(rows)
    blocks = _to_blocks(rows)
    centers = jnp.asarray(rows[first])
    passes = _ALL_PASSES
    del rows
    if min(blocks.shape[-1], count) > _COARSE_CHANNELS:
        axes = _principal_axes(blocks)
        coarse_rows = _product(blocks, axes)
        coarse_centers = _product(centers, axes)
        numbers = _lloyd(coarse_rows, count, coarse_centers, key, _COARSE_PASSES)[1]
        centers = _means(blocks, numbers, count, clusters, key)
        passes = _FINE_PASSES
    return np.asarray(_lloyd(blocks, count, centers, key, passes)[0]) + mean


def assign(rows: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Return the number of the nearest center of each row: int32 [rows]."""
    centers, mean = _center(centers)
    at_once = min(_BLOCKS_AT_ONCE, -(-len(rows) // _ROWS_AT_ONCE)) * _ROWS_AT_ONCE
    numbers = []
    for begin in range(0, len(rows), max(at_once, 1)):
        part = rows[begin : begin + at_once]
        # Every part has the same shape, so that it is compiled once.
        padded = np.zeros((at_once, rows.shape[1]), np.float32)
        padded[: len(part)] = part - mean
        nearest = _nearest(_to_blocks(padded), jnp.asarray(centers)).reshape(-1)
        numbers.append(np.asarray(nearest)[: len(part)])
    return np.concatenate(numbers) if numbers else np.zeros(0, np.int32)


def _center(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Subtract the mean, and return both: float32 is more exact for distances of small numbers."""
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    return np.asarray(rows, np.float32) - mean, mean


def _principal_axes(blocks: jax.Array) -> np.ndarray:
    """Return the first principal axes of centered rows: float32 [channels, _COARSE_CHANNELS].

    Zeros after the rows change nothing.
    """
    covariance = jnp.einsum("brc,brd->cd", blocks, blocks, precision=jax.lax.Precision.HIGHEST)
    axes = np.linalg.eigh(np.asarray(covariance).astype(np.float64))[1]
    # eigh sorts the axes by their variance, the largest last.
    return axes[:, : -_COARSE_CHANNELS - 1 : -1].astype(np.float32)


def _to_blocks(rows: np.ndarray) -> jax.Array:
    """Split rows into [blocks, _ROWS_AT_ONCE, channels], with zeros at the end."""
    blocks = -(-len(rows) // _ROWS_AT_ONCE)
    padded = np.zeros((blocks * _ROWS_AT_ONCE, rows.shape[1]), np.float32)
    padded[: len(rows)] = rows
    return jnp.asarray(padded.reshape(blocks, _ROWS_AT_ONCE, -1))


@jax.jit
def _nearest(blocks: jax.Array, centers: jax.Array) -> jax.Array:
    """Return the number of each row's center, the first of equal ones: int32 [blocks, rows]."""
    half_norms = jnp.sum(centers**2, axis=-1)[:, None] / 2
    numbers = jnp.arange(len(centers), dtype=jnp.int32)[:, None]

    def search(_: None, block: jax.Array) -> tuple[None, jax.Array]:
        # |row - center|^2 / 2 = |row|^2 / 2 - closeness
        closeness = _product(centers, block.T) - half_norms
        is_nearest = closeness == closeness.max(axis=0)  # twice as fast as argmax on a CPU
        return None, jnp.where(is_nearest, numbers, len(centers)).min(axis=0)

    return jax.lax.scan(search, None, blocks)[1]


@functools.partial(jax.jit, static_argnames="clusters")
def _means(
    blocks: jax.Array, numbers: jax.Array, count: int, clusters: int, key: jax.Array
) -> jax.Array:
    """Return the mean of each cluster's rows [clusters, channels].

    A cluster without rows gets a row of a large one, drawn at random.
    """
    rows = blocks.reshape(-1, blocks.shape[-1])
    numbers = numbers.reshape(-1)
    # The padding is a cluster of its own, behind all others.
    numbers = jnp.where(jnp.arange(len(rows)) < count, numbers, clusters)
    sizes = jnp.zeros(clusters + 1).at[numbers].add(1)
    sums = jnp.zeros((clusters + 1, rows.shape[-1])).at[numbers].add(rows)
    means = sums[:-1] / jnp.maximum(sizes[:-1, None], 1)
    draw = jax.random.uniform(key, (len(rows),)) * sizes.at[clusters].set(0)[numbers]
    is_empty = sizes[:-1] == 0
    others = jnp.argsort(-draw)[jnp.minimum(jnp.cumsum(is_empty) - 1, len(rows) - 1)]
    return jnp.where(is_empty[:, None], rows[others], means)


@functools.partial(jax.jit, static_argnames="passes")
def _lloyd(
    blocks: jax.Array, count: int, centers: jax.Array, key: jax.Array, passes: int
) -> tuple[jax.Array, jax.Array]:
    """Run Lloyd's algorithm.

    Returns:
      The centers [clusters, channels] after the last pass, and each row's number before it
      [blocks, rows].
    """

    def one_pass(
        state: tuple[jax.Array, jax.Array], key: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        numbers = _nearest(blocks, state[0])
        return (_means(blocks, numbers, count, len(centers), key), numbers), None

    start = (centers, jnp.zeros(blocks.shape[:2], jnp.int32))
    return jax.lax.scan(one_pass, start, jax.random.split(key, passes))[0]
