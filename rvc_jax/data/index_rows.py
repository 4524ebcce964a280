"""The rows of a retrieval index: content features of the training speech, at most 200,000.

A search takes longer in a larger index, and finds hardly more: neighboring frames resemble each
other. A larger dataset's rows are chosen evenly over its speakers, and over the speech of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from rvc_jax.data.dataset import VoiceDataset

MAX_ROWS = 200_000
"""67 minutes of speech, at 50 rows a second; 154 MB of 384 channels, 307 MB of 768."""
_CANDIDATES_PER_ROW = 4
"""Factor by which the rows to choose from are more: only a part of a large dataset is read."""
_BLOCK = 128
"""Windows that are read at once."""


class Choice(NamedTuple):
    """Rows of a window that belong to the index."""

    window: int
    rows: np.ndarray
    """Numbers of the rows [chosen]."""


def count_index_bytes(data: VoiceDataset) -> int:
    """Return the bytes of the features of a dataset's index."""
    rows = min(MAX_ROWS, int((data.train.lengths // 2).sum()))
    return 2 * data.info.content_channels * rows  # float16


def collect_index_rows(data: VoiceDataset, limit: int = MAX_ROWS) -> np.ndarray:
    """Return content features of the training windows: float16 [rows, channels].

    Args:
        data: The dataset; the rows are the same whether its windows are in memory or on disk.
        limit: The most rows.

    Raises:
        UserError: A record on disk can't be read.
    """
    choices = list(choose_rows(data.train.lengths, data.train.speaker, limit))
    total = sum(len(choice.rows) for choice in choices)
    index = np.empty((total, data.info.content_channels), np.float16)
    done = 0
    for first in range(0, len(choices), _BLOCK):
        block = choices[first : first + _BLOCK]
        windows = np.array([choice.window for choice in block])
        content = data.train.take(windows, ("content",))["content"]
        for choice, features in zip(block, content, strict=True):
            index[done : done + len(choice.rows)] = features[choice.rows]
            done += len(choice.rows)
    return index


def choose_rows(lengths: np.ndarray, speaker: np.ndarray, limit: int) -> Iterator[Choice]:
    """Yield what belongs to the index, by window: everything, if that is within the limit.

    Otherwise all speakers get as many rows, except those who have fewer.

    Args:
        lengths: Frames of every window that are not padding.
        speaker: Number of every window's speaker.
        limit: The most rows.
    """
    counts = lengths // 2  # one row for every two frames
    if counts.sum() <= limit:
        yield from (Choice(window, np.arange(count)) for window, count in enumerate(counts))
        return
    numbers, totals = np.unique(np.repeat(speaker, counts), return_counts=True)
    chosen: list[Choice] = []
    for number, share in zip(numbers, _divide(totals, limit), strict=True):
        if share:
            windows = np.flatnonzero(speaker == number)
            chosen += _choose_of_speaker(windows, counts, int(share))
    yield from sorted(chosen, key=lambda choice: choice.window)


def _divide(totals: np.ndarray, limit: int) -> np.ndarray:
    """Return how many rows each speaker gets, out of the `totals` that each has."""
    shares = np.zeros_like(totals)
    left = limit
    # From the speaker with the fewest: what one does not use, the others get.
    for place, speaker in enumerate(np.argsort(totals, kind="stable")):
        shares[speaker] = min(totals[speaker], left // (len(totals) - place))
        left -= shares[speaker]
    return shares


def _choose_of_speaker(windows: np.ndarray, counts: np.ndarray, share: int) -> list[Choice]:
    """Choose rows of one speaker at equal distances.

    Args:
        windows: Numbers of the speaker's windows.
        counts: Rows of every window of the dataset.
        share: How many rows to choose.
    """
    total = counts[windows].sum()
    kept = min(len(windows), -(-len(windows) * _CANDIDATES_PER_ROW * share // total))
    windows = windows[np.arange(kept) * len(windows) // kept]
    ends = np.cumsum(counts[windows])
    # Windows are of different lengths: those that were kept may have a few rows too few.
    share = min(share, int(ends[-1]))
    rows = np.arange(share) * ends[-1] // share
    owners = np.searchsorted(ends, rows, side="right")
    begins = ends - counts[windows]
    return [
        Choice(int(windows[owner]), rows[owners == owner] - begins[owner])
        for owner in np.unique(owners)
    ]
