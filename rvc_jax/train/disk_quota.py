"""The limit on the size of a run's folder: older checkpoints are removed to make room for new
ones."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from rvc_jax.config import Preset, TrainConfig
from rvc_jax.errors import UserError
from rvc_jax.reporter import Reporter
from rvc_jax.runs import checkpoint
from rvc_jax.storage.files import folder_bytes
from rvc_jax.train.networks import build_networks
from rvc_jax.train.state import abstract_state

_GIGABYTE = 1e9
_RESERVE = 16e6
"""Bytes for the report, and for what history and TensorBoard add until the next checkpoint."""
_FILES = 2e6
"""Bytes of a checkpoint besides its arrays: their names and shapes, the hashes."""


class DiskQuota:
    """Keeps a run's folder within `max_gigabytes`, including a checkpoint that is being written."""

    def __init__(
        self, run: Path, recipe: TrainConfig, reporter: Reporter, index_bytes: int = 0
    ):
        """Limit the folder's size as the recipe says.

        Args:
            run: The run's folder.
            recipe: Has the limit.
            reporter: Receives one message when the first checkpoint is removed for this reason.
            index_bytes: Size of the index, which is written after the first checkpoint.
        """
        self._run = run
        self._recipe = recipe
        self._reporter = reporter
        self._limit = recipe.max_gigabytes * _GIGABYTE
        self._index_bytes = index_bytes
        self._lock = threading.Lock()
        self._has_warned = False

    @contextlib.contextmanager
    def reserve(self, step: int, arrays: int) -> Iterator[None]:
        """Make room for a checkpoint, and hold it while the block writes it.

        Args:
            step: The checkpoint's step.
            arrays: Bytes of its arrays.

        Raises:
            UserError: It does not fit even without the older checkpoints.
        """
        if not self._limit:
            yield
            return
        # One at a time: a best voice and a checkpoint that are written together could exceed the
        # limit although each of them fits.
        with self._lock:
            self._make_room(step, arrays)
            yield

    def _make_room(self, step: int, arrays: int) -> None:
        # The oldest first: permanent checkpoints are the oldest. The newest always stays.
        removable = self._checkpoints()[:-1]
        while True:
            needed = self._used_bytes() + arrays + _FILES + self._reserved_bytes()
            if needed <= self._limit:
                return
            limit = f"{self._recipe.max_gigabytes:g}"
            if not removable:
                raise UserError(
                    f"the checkpoint of step {step} does not fit in the {limit} GB of "
                    f"--max-gigabytes: the run {self._run} would take {needed / _GIGABYTE:.2f} GB; "
                    "the previous one stands. Run the same command with more"
                )
            shutil.rmtree(removable.pop(0), ignore_errors=True)
            if not self._has_warned:
                self._has_warned = True
                text = f"--max-gigabytes {limit}: older checkpoints make room for new"
                self._reporter.message(f"step {step}: {text}")

    def _reserved_bytes(self) -> float:
        """Return the bytes to keep free."""
        missing = max(0, self._index_bytes - folder_bytes(self._run / "index.npy"))
        return _RESERVE + missing

    def _used_bytes(self) -> float:
        """Return the folder's size, with checkpoints that are only at the run's URL counted as
        well.

        Of these, only the hashes are here; they are as large as the newest checkpoint.
        """
        folders = self._checkpoints()
        remote_only = sum(checkpoint.is_remote_only(folder) for folder in folders)
        used = folder_bytes(self._run)
        return used + remote_only * folder_bytes(folders[-1]) if remote_only else used

    def _checkpoints(self) -> list[Path]:
        folder = self._run / "checkpoints"
        return [folder / str(step) for step in checkpoint.list_steps(folder)]


def check_quota(run: Path, settings: Preset, index_bytes: int) -> None:
    """Check that `max_gigabytes` is enough for a run.

    A run needs room for two checkpoints, because one stands while the next is written, and for the
    best voice.

    Args:
        run: The run's folder.
        settings: The run's preset.
        index_bytes: Size of its `index.npy`.

    Raises:
        UserError: The limit is too low; the message has the size that is needed.
    """
    limit = settings.train.max_gigabytes
    if not limit:
        return
    networks = build_networks(settings, steps_per_epoch=1)
    state = abstract_state(
        networks.synthesizer,
        networks.discriminator,
        networks.optimizer,
        None,
        with_average=settings.train.ema > 0,
    )
    counted = ("checkpoints", "best", "index.npy")
    others = sum(folder_bytes(path) for path in run.glob("*") if path.name not in counted)
    arrays = 2 * _count_bytes(state) + _count_bytes(state.generator.params)
    index = max(index_bytes, folder_bytes(run / "index.npy"))
    needed = (arrays + 3 * _FILES + others + index + _RESERVE) / _GIGABYTE
    if needed > limit:
        raise UserError(
            f"--max-gigabytes {limit:g} is too little for the run {run}: two checkpoints (one "
            f"while the next is written), the best voice and the rest need "
            f"{needed + 0.005:.2f} GB"
        )


def _count_bytes(shapes: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
