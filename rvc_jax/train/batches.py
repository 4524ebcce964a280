"""Which windows a step trains on: a pure function of the step, so that a resumed run sees what it would have seen."""

from __future__ import annotations

import math

import numpy as np

from rvc_jax.data.dataset import Windows


class Batches:
    """Every window once per epoch, in a new order each; the last batch is filled from the same order's beginning."""

    def __init__(self, windows: Windows, batch: int, seed: int):
        self._windows, self._batch, self._seed = windows, batch, seed
        self._count = len(windows.lengths)
        self.steps_per_epoch = math.ceil(self._count / batch)

    def rows(self, step: int) -> np.ndarray:
        """Numbers of the windows of a step [batch]."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self._seed, epoch]).permutation(self._count)
        return np.take(order, np.arange(position * self._batch, (position + 1) * self._batch), mode="wrap")

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        """The arrays of a step, by the names that the training step expects."""
        return gather(self._windows, self.rows(step))


def gather(windows: Windows, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The windows of the given numbers as a batch."""
    return {
        "wave": windows.wave[rows],
        "content": windows.content[rows],
        "f0": windows.f0[rows],
        "lengths": windows.lengths[rows],
        "speaker": windows.speaker[rows],
    }
