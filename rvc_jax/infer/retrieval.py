"""Content features drawn towards those of the training speech: RVC's retrieval, with an exact search."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

NEIGHBOURS = 8
_QUERIES_AT_ONCE = 512
_ROWS_AT_ONCE = 8192
_NEAREST = 1e-6


class Index:
    """Rows of training features that can be searched."""

    def __init__(self, rows: np.ndarray):
        """rows: [rows, channels], any float type, at least NEIGHBOURS of them."""
        self._count = len(rows)
        blocks = -(-len(rows) // _ROWS_AT_ONCE)
        padded = np.zeros((blocks * _ROWS_AT_ONCE, rows.shape[1]), np.float32)
        padded[: len(rows)] = rows
        self._blocks = jnp.asarray(padded.reshape(blocks, _ROWS_AT_ONCE, -1))

    def retrieve(self, features: np.ndarray) -> np.ndarray:
        """Mean of the nearest rows of each feature: float32 [features, channels] of [features, channels].

        Rows weigh (1 / d)^2, where d is the squared distance, as faiss reports it to RVC.
        """
        results = []
        for begin in range(0, len(features), _QUERIES_AT_ONCE):
            some = features[begin : begin + _QUERIES_AT_ONCE]
            queries = np.zeros((_QUERIES_AT_ONCE, features.shape[1]), np.float32)
            queries[: len(some)] = some
            results.append(np.asarray(_mean_of_nearest(self._blocks, self._count, queries))[: len(some)])
        return np.concatenate(results)


def mix(content: np.ndarray, found: np.ndarray, voiced: np.ndarray, rate: float, protect: float) -> np.ndarray:
    """Content drawn towards what was found for it by `rate`; where unvoiced, by `rate * protect` (RVC's protection).

    content, found: [frames, channels]; voiced: bool [frames]. A protect of 0.5 protects nothing.
    """
    share = np.where(voiced | (protect >= 0.5), rate, rate * protect).astype(np.float32)[:, None]
    return (content + share * (found - content)).astype(content.dtype)


@jax.jit
def _mean_of_nearest(blocks: jax.Array, count: int, queries: jax.Array) -> jax.Array:
    """blocks [blocks, rows, channels], of which the first `count` rows are real; queries [queries, channels]."""
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)

    def search(best: tuple[jax.Array, jax.Array], block: tuple[jax.Array, jax.Array]):
        rows, first = block
        number = first + jnp.arange(len(rows))
        closeness = 2 * product(queries, rows.T) - jnp.sum(rows**2, axis=-1)  # the query's own norm ranks nothing
        closeness = jnp.where(number < count, closeness, -jnp.inf)
        found, places = jax.lax.top_k(closeness, NEIGHBOURS)
        both = [jnp.concatenate(pair, axis=-1) for pair in zip(best, (found, number[places]), strict=True)]
        kept, places = jax.lax.top_k(both[0], NEIGHBOURS)
        return (kept, jnp.take_along_axis(both[1], places, axis=-1)), None

    none = (jnp.full((len(queries), NEIGHBOURS), -jnp.inf), jnp.zeros((len(queries), NEIGHBOURS), jnp.int32))
    firsts = jnp.arange(len(blocks)) * blocks.shape[1]
    (_, numbers), _ = jax.lax.scan(search, none, (blocks, firsts))
    neighbours = blocks.reshape(-1, blocks.shape[-1])[numbers]
    distance = jnp.sum((neighbours - queries[:, None]) ** 2, axis=-1)
    weights = jnp.square(1 / jnp.maximum(distance, _NEAREST))
    return jnp.sum(neighbours * (weights / weights.sum(-1, keepdims=True))[..., None], axis=1)
