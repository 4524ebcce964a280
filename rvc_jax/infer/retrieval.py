"""Retrieval of content features from the training speech, as RVC does it, by an exact search."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.errors import UserError

NEIGHBORS = 8
"""Rows that are averaged for each feature."""

_QUERIES_AT_ONCE = (64, 512)  # the shapes that are compiled
_ROWS_AT_ONCE = 2048
_GROUP = 8  # rows of which only the nearest is kept in the first pass
_GROUPS_KEPT = NEIGHBORS + 2
_QUERIES_COMPARED = 32
_MIN_DISTANCE = 1e-6

_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class Index:
    """Rows of training features to search in, as float32 in the memory of the device.

    The search is exact and takes two passes. The first computes the distance of a feature to every
    row by a matrix product, and keeps the smallest of each group of rows: the NEIGHBORS nearest
    rows are in at most as many groups. The second compares the rows of the nearest groups, and of a
    few more, one by one, so that the rounding of the product decides nothing.
    """

    def __init__(self, rows: np.ndarray):
        """Move rows to the device.

        Args:
          rows: [rows, channels], at least one, of any float type.

        Raises:
          UserError: there are no rows, or some of them are not finite.
        """
        if not len(rows):
            raise UserError(
                "the index holds no rows: make it anew, or convert with --index-rate 0"
            )
        count = len(rows)
        self.channels = rows.shape[1]
        self._mean = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        self._used_blocks = -(-count // _ROWS_AT_ONCE)
        capacity = _round_up_blocks(self._used_blocks) * _ROWS_AT_ONCE
        padded = np.zeros((capacity, self.channels), np.float32)
        padded[:count] = rows
        half_norms = np.full(capacity, np.inf, np.float32)  # padding is infinitely far away
        with np.errstate(invalid="ignore", over="ignore"):
            padded[:count] -= self._mean  # small numbers lose less to rounding
            half_norms[:count] = np.einsum("rc,rc->r", padded[:count], padded[:count]) / 2
        if not np.isfinite(half_norms[:count]).all():
            raise UserError(
                "the index holds NaN or infinity: make it anew, or convert with --index-rate 0"
            )
        self._blocks = jnp.asarray(padded.reshape(-1, _ROWS_AT_ONCE, self.channels))
        self._half_norms = jnp.asarray(half_norms.reshape(-1, _ROWS_AT_ONCE))

    def retrieve(self, features: np.ndarray) -> np.ndarray:
        """The weighted mean of the rows nearest to each feature.

        The NEIGHBORS nearest rows, or all if there are fewer, are weighted by (1 / d)^2. As in RVC,
        d is the squared distance, which is what faiss returns.

        Args:
          features: [features, channels].

        Returns: float32 [features, channels].

        Raises:
          UserError: the features are not as wide as the rows.
        """
        if features.shape[1] != self.channels:
            raise UserError(
                f"the index has rows of {self.channels} channels, the voice's content features "
                f"have {features.shape[1]}: it belongs to another voice"
            )
        found = np.empty((len(features), self.channels), np.float32)
        begin = 0
        while begin < len(features):
            rest = len(features) - begin
            fitting = [size for size in _QUERIES_AT_ONCE if size >= rest]
            size = fitting[0] if fitting else _QUERIES_AT_ONCE[-1]
            batch = features[begin : begin + size]
            queries = np.zeros((size, self.channels), np.float32)
            queries[: len(batch)] = batch - self._mean
            means = average_nearest(self._blocks, self._half_norms, self._used_blocks, queries)
            found[begin : begin + size] = np.asarray(means)[: len(batch)] + self._mean
            begin += size
        return found


def mix(
    content: np.ndarray, found: np.ndarray, voiced: np.ndarray, rate: float, protect: float
) -> np.ndarray:
    """Mix content with what was found for it.

    Args:
      content, found: [frames, channels].
      voiced: bool [frames].
      rate: Share of what was found, in voiced frames.
      protect: RVC's protection of unvoiced frames, whose share is `rate * protect`; 0.5 or more
        is off.

    Returns: [frames, channels], of the type of `content`.
    """
    share = np.where(voiced | (protect >= 0.5), rate, rate * protect).astype(np.float32)
    return (content + share[:, None] * (found - content)).astype(content.dtype)


def _round_up_blocks(blocks: int) -> int:
    """One of a few numbers of blocks, so that indices of about the same size share a program."""
    if blocks <= 4:
        return blocks
    step = max(1, 1 << ((blocks - 1).bit_length() - 3))
    return -(-blocks // step) * step


@jax.jit
def average_nearest(
    blocks: jax.Array, half_norms: jax.Array, used_blocks: int, queries: jax.Array
) -> jax.Array:
    """The weighted means that `Index.retrieve` returns, without the rows' mean.

    Args:
      blocks: Rows [blocks, rows, channels].
      half_norms: Half of each row's squared length [blocks, rows]; infinite for padding.
      used_blocks: Number of blocks that hold rows.
      queries: [queries, channels].

    Returns: [queries, channels].
    """
    groups = _find_nearest_groups(blocks, half_norms, used_blocks, queries)
    rows = blocks.reshape(-1, _GROUP, blocks.shape[-1])
    is_padding = jnp.isinf(half_norms).reshape(-1, _GROUP)
    ones = jnp.ones(blocks.shape[-1])

    def compare(batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        queries, groups = batch
        near = rows[groups].reshape(len(queries), -1, rows.shape[-1])
        # A sum over channels, written as a product: that is fast on a CPU.
        distance = _product(jnp.square(near - queries[:, None]), ones)
        distance = jnp.where(
            is_padding[groups].reshape(distance.shape),
            jnp.inf,
            jnp.maximum(distance, _MIN_DISTANCE),
        )
        negative, places = jax.lax.top_k(-distance, NEIGHBORS)
        weights = jnp.square(negative[:, :1] / negative)  # nearest row: 1; padding: 0
        weights /= weights.sum(axis=-1, keepdims=True)
        nearest = jnp.take_along_axis(near, places[..., None], axis=1)
        return jnp.einsum("qn,qnc->qc", weights, nearest)

    batches = (
        queries.reshape(-1, _QUERIES_COMPARED, queries.shape[-1]),
        groups.reshape(-1, _QUERIES_COMPARED, _GROUPS_KEPT),
    )
    return jax.lax.map(compare, batches).reshape(queries.shape)


def _find_nearest_groups(
    blocks: jax.Array, half_norms: jax.Array, used_blocks: int, queries: jax.Array
) -> jax.Array:
    """Numbers of the groups that have the nearest rows: [queries, _GROUPS_KEPT]."""
    groups = blocks.shape[1] // _GROUP

    def search(number: jax.Array, best: jax.Array) -> jax.Array:
        # The squared distance is |row|^2 - 2 row.query + |query|^2; the last term ranks nothing.
        closeness = _product(blocks[number], queries.T) - half_norms[number][:, None]
        largest = closeness.reshape(groups, _GROUP, -1).max(axis=1)
        return jax.lax.dynamic_update_slice(best, largest, (number * groups, 0))

    nothing = jnp.full((len(blocks) * groups, len(queries)), -jnp.inf)
    best = jax.lax.fori_loop(0, used_blocks, search, nothing)
    return jax.lax.top_k(best.T, _GROUPS_KEPT)[1]
