"""Training windows on their way to the device: all of them held there, or the next few brought in
time.

Either way a step sees the same windows in the same precision, so a run may be continued the other
way.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rvc_jax.data.dataset import Windows
from rvc_jax.train.batches import BatchSampler
from rvc_jax.train.distributed import place_on_mesh

Batch = dict[str, jax.Array]
_SHARE_OF_MEMORY = 0.25


@dataclasses.dataclass(frozen=True)
class CompactWindows:
    """Windows as they are held for training: samples as int16, content as float16."""

    arrays: dict[str, np.ndarray]
    """wave int16 [windows, samples], content float16, f0 float32, lengths and speaker int32."""
    scale: float
    """What a wave's 1 stands for."""

    @classmethod
    def of(cls, windows: Windows) -> CompactWindows:
        loudest = max((float(np.abs(wave).max()) for wave in windows.wave), default=0.0)
        scale = max(loudest, 1e-9) / 32767
        wave = np.empty(windows.wave.shape, np.int16)
        for row, samples in enumerate(
            windows.wave
        ):  # one by one: a long dataset's difference would fill the memory
            wave[row] = np.rint(samples / scale)
        names = ("content", "f0", "lengths", "speaker")
        return cls({"wave": wave} | {name: getattr(windows, name) for name in names}, scale)

    @property
    def bytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())


def widened(batch: Batch, scale: float) -> Batch:
    """A batch of compact windows as the training step takes it: float32 samples."""
    return dict(batch, wave=batch["wave"].astype(jnp.float32) * scale)


class ResidentLoader:
    """All windows on every device; a dispatch takes only the numbers of its windows with it."""

    def __init__(self, windows: CompactWindows, batches: BatchSampler, steps: int, mesh: Mesh):
        self._batches = batches
        self._steps = steps
        self._mesh = mesh
        self.held = {name: place_on_mesh(array, mesh) for name, array in windows.arrays.items()}

    def __call__(self, step: int, count: int) -> Any:
        """The argument of a dispatch of `count` steps that begins with this one: int32 [steps,
        batch]."""
        return place_on_mesh(
            self._batches.rows_for_steps(step, self._steps), self._mesh, None, "data"
        )

    @staticmethod
    def batch(held: Batch, rows: jax.Array, i: jax.Array) -> Batch:
        """On the device: the windows of the dispatch's i-th step."""
        return {name: jnp.take(array, rows[i], axis=0) for name, array in held.items()}

    def close(self) -> None:
        pass


class StreamingLoader:
    """The windows of one dispatch at a time; the next one's are gathered while the device works.

    Every process gathers those of its own devices.
    """

    def __init__(self, windows: CompactWindows, batches: BatchSampler, steps: int, mesh: Mesh):
        self._windows = windows
        self._batches = batches
        self._steps = steps
        self._mesh = mesh
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._ready: dict[int, Any] = {}
        self.held: Batch = {}

    def __call__(self, step: int, count: int) -> Any:
        """The argument of a dispatch of `count` steps that begins with this one: arrays [steps,
        batch, ...]."""
        waiting = self._ready.pop(step, None) or self._pool.submit(self._gather, step)
        self._ready = {step + count: self._pool.submit(self._gather, step + count)}
        return waiting.result()

    @staticmethod
    def batch(held: Batch, arrays: Batch, i: jax.Array) -> Batch:
        """On the device: the windows of the dispatch's i-th step."""
        return {name: array[i] for name, array in arrays.items()}

    def _gather(self, step: int) -> Batch:
        rows = self._batches.rows_for_steps(step, self._steps)
        return {
            name: _gathered(array, rows, self._mesh)
            for name, array in self._windows.arrays.items()
        }

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def fits_on_device(windows: CompactWindows, device: jax.Device) -> bool:
    """Whether the windows take no more than a quarter of the device's memory; on CPUs they always
    do."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return limit is None or windows.bytes <= _SHARE_OF_MEMORY * limit


def _gathered(windows: np.ndarray, rows: np.ndarray, mesh: Mesh) -> jax.Array:
    """The windows of these numbers [steps, batch, ...], divided by batch; no process gathers
    another one's."""
    sharding = NamedSharding(mesh, PartitionSpec(None, "data"))
    shape = (*rows.shape, *windows.shape[1:])
    return jax.make_array_from_callback(shape, sharding, lambda index: windows[rows[index[:2]]])
