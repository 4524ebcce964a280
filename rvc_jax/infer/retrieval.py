"""Content features drawn towards those of the training speech: RVC's retrieval, with an exact
search."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.errors import UserError

NEIGHBORS = 8
_QUERIES_AT_ONCE = (64, 512)
_ROWS_AT_ONCE = 2048
_GROUP = 8
_GROUPS_KEPT = NEIGHBORS + 2
_QUERIES_COMPARED = 32
_NEAREST = 1e-6

_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class Index:
    """Rows of training features that can be searched. They lie in the device's memory as float32.

    The search is exact. The matrix product of all rows with the features tells how close they are,
    and of that only the largest value of each group of rows is kept: the NEIGHBOURS nearest rows
    are in as many groups. The rows of a few more groups are then compared one by one, so that the
    product's rounding decides nothing.
    """

    def __init__(self, rows: np.ndarray):
        """rows: [rows, channels], any float type, at least one.

        Raises:
          UserError: if there are none, or some are not finite.
        """
        if not len(rows):
            raise UserError(
                "the index holds no rows: make it anew, or convert with --index-rate 0"
            )
        self.channels = rows.shape[1]
        self._mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._used = -(-len(rows) // _ROWS_AT_ONCE)
        padded = np.zeros((_padded(self._used) * _ROWS_AT_ONCE, self.channels), np.float32)
        padded[: len(rows)] = rows
        half_norms = np.full(len(padded), np.inf, np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            padded[: len(rows)] -= self._mean  # rounding counts for less between small numbers
            half_norms[: len(rows)] = (
                np.einsum("rc,rc->r", padded[: len(rows)], padded[: len(rows)]) / 2
            )
        if not np.isfinite(half_norms[: len(rows)]).all():
            raise UserError(
                "the index holds NaN or infinity: make it anew, or convert with --index-rate 0"
            )
        self._blocks = jnp.asarray(padded.reshape(-1, _ROWS_AT_ONCE, self.channels))
        self._half_norms = jnp.asarray(half_norms.reshape(-1, _ROWS_AT_ONCE))

    def retrieve(self, features: np.ndarray) -> np.ndarray:
        """Mean of the nearest rows of each feature: float32 [features, channels] of [features,
        channels].

        The NEIGHBOURS nearest, or as many as there are, weigh (1 / d)^2, where d is the squared
        distance, as faiss reports it to RVC.

        Raises:
          UserError: if the features are not as wide as the rows.
        """
        if features.shape[1] != self.channels:
            raise UserError(
                f"the index has rows of {self.channels} channels, the voice's content features have "
                f"{features.shape[1]}: it belongs to another voice"
            )
        found = np.empty((len(features), self.channels), np.float32)
        begin = 0
        while begin < len(features):
            size = next(
                (size for size in _QUERIES_AT_ONCE if size >= len(features) - begin),
                _QUERIES_AT_ONCE[-1],
            )
            some = features[begin : begin + size]
            queries = np.zeros((size, self.channels), np.float32)
            queries[: len(some)] = some - self._mean
            means = _average_nearest(self._blocks, self._half_norms, self._used, queries)
            found[begin : begin + size] = np.asarray(means)[: len(some)] + self._mean
            begin += size
        return found


def mix(
    content: np.ndarray, found: np.ndarray, voiced: np.ndarray, rate: float, protect: float
) -> np.ndarray:
    """Content drawn towards what was found for it by `rate`; where unvoiced, by `rate * protect`
    (RVC's protection).

    content, found: [frames, channels]; voiced: bool [frames]. A protect of 0.5 protects nothing.
    """
    share = np.where(voiced | (protect >= 0.5), rate, rate * protect).astype(np.float32)[
        :, None
    ]
    return (content + share * (found - content)).astype(content.dtype)


def _padded(blocks: int) -> int:
    """Blocks to make room for: one of a few numbers, so that voices of about the same size share a
    program."""
    step = max(1, 1 << (max(blocks - 1, 1).bit_length() - 3)) if blocks > 4 else 1
    return -(-blocks // step) * step


@jax.jit
def _average_nearest(
    blocks: jax.Array, half_norms: jax.Array, used: int, queries: jax.Array
) -> jax.Array:
    """[queries, channels] of blocks [blocks, rows, channels], of which the first `used` hold rows.

    half_norms: half of each row's squared length, infinite for what is no row: [blocks, rows].
    """
    groups = _find_nearest_groups(blocks, half_norms, used, queries)
    rows = blocks.reshape(-1, _GROUP, blocks.shape[-1])
    is_none = jnp.isinf(half_norms).reshape(-1, _GROUP)
    ones = jnp.ones(blocks.shape[-1])

    def compare(some: tuple[jax.Array, jax.Array]) -> jax.Array:
        queries, groups = some
        near = rows[groups].reshape(len(queries), -1, rows.shape[-1])
        distance = _product(
            jnp.square(near - queries[:, None]), ones
        )  # a sum; as a product it is fast on a CPU
        distance = jnp.where(
            is_none[groups].reshape(distance.shape), jnp.inf, jnp.maximum(distance, _NEAREST)
        )
        negative, places = jax.lax.top_k(-distance, NEIGHBORS)
        weights = jnp.square(
            negative[:, :1] / negative
        )  # 1 for the nearest, 0 for what is no row
        weights /= weights.sum(axis=-1, keepdims=True)
        return jnp.einsum(
            "qn,qnc->qc", weights, jnp.take_along_axis(near, places[..., None], axis=1)
        )

    parts = (
        queries.reshape(-1, _QUERIES_COMPARED, queries.shape[-1]),
        groups.reshape(-1, _QUERIES_COMPARED, _GROUPS_KEPT),
    )
    return jax.lax.map(compare, parts).reshape(queries.shape)


def _find_nearest_groups(
    blocks: jax.Array, half_norms: jax.Array, used: int, queries: jax.Array
) -> jax.Array:
    """Numbers of the groups of rows with the nearest ones: [queries, _GROUPS_KEPT]."""
    groups = blocks.shape[1] // _GROUP

    def search(number: jax.Array, best: jax.Array) -> jax.Array:
        closeness = (
            _product(blocks[number], queries.T) - half_norms[number][:, None]
        )  # a query's length ranks nothing
        largest = closeness.reshape(groups, _GROUP, -1).max(axis=1)
        return jax.lax.dynamic_update_slice(best, largest, (number * groups, 0))

    nothing = jnp.full((len(blocks) * groups, len(queries)), -jnp.inf)
    return jax.lax.top_k(jax.lax.fori_loop(0, used, search, nothing).T, _GROUPS_KEPT)[1]
