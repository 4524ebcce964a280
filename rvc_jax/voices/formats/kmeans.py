"""k-means on the device: the centres of the cells that a faiss index files its rows in."""

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
_ALL_PASSES = 10

_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def kmeans(
    rows: np.ndarray, clusters: int, seed: int = 0, rows_per_cluster: int = 40
) -> np.ndarray:
    """Centres of clusters: float32 [clusters, channels] of finite rows [rows, channels], rows >=
    clusters >= 1.

    Lloyd's passes, most of them over the rows' principal components: those cost a sixth of a pass
    over 768 channels, and leave little to do for the last ones. A cluster that comes out empty
    starts again at some row of a large one.

    rows_per_cluster: of more rows, so many are drawn for each cluster, and the rest is left aside.
    """
    random = np.random.default_rng(seed)
    if len(rows) > rows_per_cluster * clusters:
        rows = rows[
            np.sort(random.choice(len(rows), rows_per_cluster * clusters, replace=False))
        ]
    count = len(rows)
    first = random.choice(len(rows), clusters, replace=False)
    key = jax.random.key(seed)
    rows, mean = _centred(rows)
    blocks = _blocks(rows)
    centers = jnp.asarray(rows[first])
    passes = _ALL_PASSES
    del rows
    if min(blocks.shape[-1], count) > _COARSE_CHANNELS:
        axes = _principal_axes(blocks)
        numbers = _lloyd(
            _product(blocks, axes), count, _product(centers, axes), key, _COARSE_PASSES
        )[1]
        centers = _means(blocks, numbers, count, clusters, key)
        passes = _FINE_PASSES
    return np.asarray(_lloyd(blocks, count, centers, key, passes)[0]) + mean


def assign(rows: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Number of the nearest centre of each row: int32 [rows]."""
    centers, mean = _centred(centers)
    at_once = min(_BLOCKS_AT_ONCE, -(-len(rows) // _ROWS_AT_ONCE)) * _ROWS_AT_ONCE
    numbers = []
    for begin in range(0, len(rows), max(at_once, 1)):
        some = np.zeros((at_once, rows.shape[1]), np.float32)
        part = rows[begin : begin + at_once]
        some[: len(part)] = part - mean
        numbers.append(
            np.asarray(_nearest(_blocks(some), jnp.asarray(centers)).reshape(-1))[: len(part)]
        )
    return np.concatenate(numbers) if numbers else np.zeros(0, np.int32)


def _centred(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows without their mean, and the mean: distances between small numbers are the more exact in
    float32."""
    mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    return np.asarray(rows, np.float32) - mean, mean


def _principal_axes(blocks: jax.Array) -> np.ndarray:
    """float32 [channels, _COARSE_CHANNELS], of centred rows; the zeros after them change
    nothing."""
    covariance = np.asarray(
        jnp.einsum("brc,brd->cd", blocks, blocks, precision=jax.lax.Precision.HIGHEST)
    )
    return np.linalg.eigh(covariance.astype(np.float64))[1][
        :, : -_COARSE_CHANNELS - 1 : -1
    ].astype(np.float32)


def _blocks(rows: np.ndarray) -> jax.Array:
    """[blocks, _ROWS_AT_ONCE, channels], with zeros at the end."""
    blocks = -(-len(rows) // _ROWS_AT_ONCE)
    padded = np.zeros((blocks * _ROWS_AT_ONCE, rows.shape[1]), np.float32)
    padded[: len(rows)] = rows
    return jnp.asarray(padded.reshape(blocks, _ROWS_AT_ONCE, -1))


@jax.jit
def _nearest(blocks: jax.Array, centers: jax.Array) -> jax.Array:
    """Number of each row's centre, the first of equal ones: int32 [blocks, rows]."""
    half_norms = jnp.sum(centers**2, axis=-1)[:, None] / 2
    numbers = jnp.arange(len(centers), dtype=jnp.int32)[:, None]

    def search(_: None, block: jax.Array) -> tuple[None, jax.Array]:
        closeness = _product(centers, block.T) - half_norms
        is_nearest = closeness == closeness.max(axis=0)  # twice as fast as argmax on a CPU
        return None, jnp.where(is_nearest, numbers, len(centers)).min(axis=0)

    return jax.lax.scan(search, None, blocks)[1]


@functools.partial(jax.jit, static_argnames="clusters")
def _means(
    blocks: jax.Array, numbers: jax.Array, count: int, clusters: int, key: jax.Array
) -> jax.Array:
    """Mean of each cluster's rows; for one without rows, some row of a large one: [clusters,
    channels]."""
    rows = blocks.reshape(-1, blocks.shape[-1])
    numbers = numbers.reshape(-1)
    numbers = jnp.where(jnp.arange(len(rows)) < count, numbers, clusters)
    sizes = jnp.zeros(clusters + 1).at[numbers].add(1)
    sums = jnp.zeros((clusters + 1, rows.shape[-1])).at[numbers].add(rows)
    draw = jax.random.uniform(key, (len(rows),)) * sizes.at[clusters].set(0)[numbers]
    others = jnp.argsort(-draw)[jnp.minimum(jnp.cumsum(sizes[:-1] == 0) - 1, len(rows) - 1)]
    return jnp.where(
        sizes[:-1, None] > 0, sums[:-1] / jnp.maximum(sizes[:-1, None], 1), rows[others]
    )


@functools.partial(jax.jit, static_argnames="passes")
def _lloyd(
    blocks: jax.Array, count: int, centers: jax.Array, key: jax.Array, passes: int
) -> tuple[jax.Array, jax.Array]:
    """Centres [clusters, channels] after so many passes, and each row's number before the last one
    was made."""

    def one_pass(
        state: tuple[jax.Array, jax.Array], key: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        numbers = _nearest(blocks, state[0])
        return (_means(blocks, numbers, count, len(centers), key), numbers), None

    start = (centers, jnp.zeros(blocks.shape[:2], jnp.int32))
    return jax.lax.scan(one_pass, start, jax.random.split(key, passes))[0]
