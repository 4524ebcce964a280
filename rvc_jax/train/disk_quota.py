"""The room that a run's folder may take: older checkpoints go before a new one would be too
much."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from rvc_jax.config import Preset, TrainConfig
from rvc_jax.errors import UserError
from rvc_jax.runs import checkpoint
from rvc_jax.storage.files import folder_bytes
from rvc_jax.train.state import abstract_state
from rvc_jax.train.step import build_networks

_GIGABYTE = 1e9
_RESERVE = 16e6
"""Bytes for the report, and for the history and TensorBoard's curves and sounds until the next
checkpoint."""
_FILES = 2e6
"""Bytes that a checkpoint takes beside its arrays: their names and shapes, the hashes."""


class DiskQuota:
    """Keeps a run's folder within `max_gigabytes`, with the checkpoint that is being written."""

    def __init__(self, run: Path, recipe: TrainConfig, say: Callable[[int, str], None]):
        """say: is told (step, sentence), once, when something goes that would have been kept."""
        self._run = run
        self._recipe = recipe
        self._say = say
        self._limit = recipe.max_gigabytes * _GIGABYTE
        self._lock = threading.Lock()  # two unfinished ones at once would be too much
        self._told = False

    @contextlib.contextmanager
    def reserve(self, step: int, arrays: int) -> Iterator[None]:
        """Room for a checkpoint with so many bytes of arrays, as long as it is being written.

        Raises UserError if there is none even without the older checkpoints.
        """
        if not self._limit:
            yield
            return
        with self._lock:
            self._make_room(step, arrays)
            yield

    def _make_room(self, step: int, arrays: int) -> None:
        older = self._checkpoints()[:-1]  # the oldest first: those that were kept for good
        while (needed := self._taken() + arrays + _FILES + _reserve(self._run)) > self._limit:
            if not older:
                raise UserError(
                    f"the checkpoint of step {step} does not fit in the {self._recipe.max_gigabytes:g} GB of "
                    f"--max-gigabytes: the run {self._run} would take {needed / _GIGABYTE:.2f} GB; the previous one "
                    "stands. Run the same command with more"
                )
            shutil.rmtree(older.pop(0), ignore_errors=True)
            if not self._told:
                self._told = True
                self._say(
                    step,
                    f"--max-gigabytes {self._recipe.max_gigabytes:g}: older checkpoints make room for new",
                )

    def _taken(self) -> float:
        """Bytes of the folder, with those of checkpoints of which only the hashes are here, the
        rest in the cloud."""
        folders = self._checkpoints()
        elsewhere = sum(checkpoint.is_remote_only(folder) for folder in folders)
        return folder_bytes(self._run) + (
            elsewhere * folder_bytes(folders[-1]) if elsewhere else 0
        )

    def _checkpoints(self) -> list[Path]:
        folder = self._run / "checkpoints"
        return [folder / str(step) for step in checkpoint.list_steps(folder)]


def check_quota(run: Path, settings: Preset, index_bytes: int) -> None:
    """Raises UserError, with the needed size, if `max_gigabytes` is too little for a run.

    A new checkpoint is written while the one before it and the best voice stand. index_bytes: of
    `index.npy`.
    """
    limit = settings.train.max_gigabytes
    if not limit:
        return
    networks = build_networks(settings, steps_per_epoch=1)
    parts = (networks.synthesizer, networks.discriminator, networks.optimizer)
    state = abstract_state(*parts, None, settings.train.ema > 0)
    counted = ("checkpoints", "best", "index.npy")
    others = sum(folder_bytes(path) for path in run.glob("*") if path.name not in counted)
    arrays = 2 * _bytes_of(state) + _bytes_of(state.generator.params)
    needed = (arrays + 3 * _FILES + others + 2 * index_bytes + _RESERVE) / _GIGABYTE
    if needed > limit:
        raise UserError(
            f"--max-gigabytes {limit:g} is too little for the run {run}: two checkpoints (one while the next is "
            f"written), the best voice and the rest need {needed + 0.005:.2f} GB"
        )


def _reserve(run: Path) -> float:
    """Bytes that must stay free: the index is written beside the old one when the run goes on."""
    return _RESERVE + folder_bytes(run / "index.npy")


def _bytes_of(shapes: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
