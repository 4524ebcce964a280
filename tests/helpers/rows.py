"""Batches of rows that end early."""

import numpy as np


def cut_rows(windows: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The first windows [n, samples] cut to those lengths, zeros behind: as one batch, and each
    alone [1, samples].

    Alone, a row is filled up to a multiple of 320 samples only.
    """
    batch = np.where(np.arange(windows.shape[1]) < lengths[:, None], windows[: len(lengths)], 0)
    return batch, [
        row[None, : -(-length // 320) * 320] for row, length in zip(batch, lengths, strict=True)
    ]
