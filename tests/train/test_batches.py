"""Which windows a step sees."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rvc_jax.data.dataset import Windows
from rvc_jax.train.batches import BatchSampler, gather


def windows(count: int) -> Windows:
    numbers = np.arange(count)
    return Windows(
        wave=np.repeat(numbers[:, None], 4, axis=1).astype(np.float32),
        content=np.zeros((count, 2, 3), np.float16),
        f0=np.zeros((count, 4), np.float32),
        lengths=np.full(count, 4, np.int32),
        speaker=np.zeros(count, np.int32),
        source=[""] * count,
        start=np.zeros(count),
    )


@given(count=st.integers(1, 60), batch=st.integers(1, 24), epoch=st.integers(0, 3))
def test_an_epoch_holds_every_window(count: int, batch: int, epoch: int) -> None:
    batches = BatchSampler(count, batch, seed=1)
    first = epoch * batches.steps_per_epoch
    rows = np.concatenate([batches.rows(first + i) for i in range(batches.steps_per_epoch)])
    assert set(rows[:count]) == set(range(count))
    assert len(rows) == batches.steps_per_epoch * batch


def test_a_step_is_the_same_whenever_it_is_asked_for() -> None:
    batches, again = (BatchSampler(50, 8, seed=3) for _ in range(2))
    list(map(batches.rows, range(20)))
    np.testing.assert_array_equal(batches.rows(11), again.rows(11))
    assert not np.array_equal(batches.rows(0), batches.rows(batches.steps_per_epoch))
    assert not np.array_equal(batches.rows(0), BatchSampler(50, 8, seed=4).rows(0))


def test_a_batch_gathers_the_rows() -> None:
    batches = BatchSampler(10, 4, seed=0)
    np.testing.assert_array_equal(
        gather(windows(10), batches.rows(2))["wave"][:, 0], batches.rows(2)
    )
