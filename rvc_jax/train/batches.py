"""Which windows a step trains on: a pure function of the step, so that a resumed run sees what it
would have seen."""

from __future__ import annotations

import math

import numpy as np

from rvc_jax.data.dataset import Windows


class BatchSampler:
    """Every window once per epoch, in a new order each; the last batch is filled from the same
    order's beginning."""

    def __init__(self, windows: int, batch: int, seed: int):
        """windows: how many there are."""
        self._count = windows
        self._batch = batch
        self._seed = seed
        self.steps_per_epoch = math.ceil(windows / batch)

    def rows(self, step: int) -> np.ndarray:
        """Numbers of the windows of a step [batch]."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self._seed, epoch]).permutation(self._count)
        return np.take(
            order, np.arange(position * self._batch, (position + 1) * self._batch), mode="wrap"
        )

    def rows_for_steps(self, step: int, steps: int) -> np.ndarray:
        """Those of the steps that begin with one: int32 [steps, batch]."""
        return np.stack([self.rows(step + i) for i in range(steps)]).astype(np.int32)


def gather(windows: Windows, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The windows of the given numbers as a batch."""
    return {
        "wave": windows.wave[rows],
        "content": windows.content[rows],
        "f0": windows.f0[rows],
        "lengths": windows.lengths[rows],
        "speaker": windows.speaker[rows],
    }
