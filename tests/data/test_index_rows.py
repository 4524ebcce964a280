"""Which rows an index has, and that they are the same from memory and from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rvc_jax.data.dataset import load_dataset, open_dataset
from rvc_jax.data.index_rows import (
    MAX_ROWS,
    choose_rows,
    collect_index_rows,
    count_index_bytes,
)


def test_a_small_dataset_gives_every_row_in_order(sample_dataset: Path) -> None:
    data = load_dataset(sample_dataset)
    train = data.train
    expected = np.concatenate(
        [train.content[i, : frames // 2] for i, frames in enumerate(train.lengths)]
    )
    index = collect_index_rows(data)
    np.testing.assert_array_equal(index, expected)
    assert index.dtype == np.float16 and index.nbytes == count_index_bytes(data)


@pytest.mark.parametrize("limit", [1, 50, 301])
def test_a_part_is_the_same_from_disk(sample_dataset: Path, limit: int) -> None:
    expected = collect_index_rows(load_dataset(sample_dataset), limit)
    assert len(expected) == limit
    with open_dataset(sample_dataset, memory_bytes=0) as data:
        np.testing.assert_array_equal(collect_index_rows(data, limit), expected)


def test_a_large_dataset_is_chosen_from_evenly() -> None:
    """50 hours of two speakers, and ten minutes of a third who is kept whole."""
    random = np.random.default_rng(0)
    lengths = random.integers(100, 337, 64_000)
    speaker = random.choice([0, 3, 4], len(lengths), p=[0.7, 0.2965, 0.0035])
    choices = list(choose_rows(lengths, speaker, MAX_ROWS))
    windows = np.array([choice.window for choice in choices])
    assert (np.diff(windows) > 0).all()
    rows = {number: 0 for number in (0, 3, 4)}
    for choice in choices:
        assert (np.diff(choice.rows) > 0).all()
        assert choice.rows[0] >= 0 and choice.rows[-1] < lengths[choice.window] // 2
        rows[speaker[choice.window]] += len(choice.rows)
    of_third = (lengths[speaker == 4] // 2).sum()
    assert rows[4] == of_third < MAX_ROWS // 3
    assert sum(rows.values()) == MAX_ROWS and abs(rows[0] - rows[3]) <= 1
    # A bounded part of the corpus is read, and all of it takes part.
    assert (lengths[windows] // 2).sum() < 5 * MAX_ROWS
    of_first = windows[speaker[windows] == 0]
    parts = np.histogram(of_first, bins=10, range=(0, len(lengths)))[0]
    assert parts.min() > 0.9 * parts.mean()


def test_shares_that_some_do_not_use_go_to_the_others() -> None:
    lengths = np.repeat([2, 200, 200], [3, 10, 10])
    speaker = np.repeat([0, 1, 2], [3, 10, 10])
    chosen = list(choose_rows(lengths, speaker, 203))
    rows = [sum(len(c.rows) for c in chosen if speaker[c.window] == n) for n in range(3)]
    assert rows == [3, 100, 100]
