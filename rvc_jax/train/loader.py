"""Training windows on their way from the dataset to a step.

A sampler decides which windows a step sees. A loader brings them to the device: all windows stay
there, or those of the next dispatches arrive in time, from memory or from disk. All of these give a
step the same windows in the same precision, so a run can continue with another one.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rvc_jax.data.windows import FIELDS, TrainingWindows, Windows
from rvc_jax.train.distributed import place_on_mesh

_MEMORY_SHARE = 0.25
"""Share of the device's memory that resident windows may take."""
_STEPS_AHEAD = 8
"""Steps whose windows wait on the host, if a dispatch has fewer."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Windows side by side, from the loader to the losses; NumPy arrays on the host."""

    content: jax.Array
    """float16 [batch, frames / 2, channels]."""
    f0: jax.Array
    """float32 [batch, frames] in Hz; 0 is unvoiced."""
    lengths: jax.Array
    """int32 [batch]: frames that are not padding."""
    speaker: jax.Array
    """int32 [batch]."""
    wave: jax.Array
    """int16 [batch, frames * hop], as in `Windows`; float32 after `to_float`."""
    # Static: the compiled step holds it as a constant.
    scale: float = dataclasses.field(default=1.0, metadata={"static": True})
    """Amplitude of 1 in `wave`."""

    def to_float(self) -> Batch:
        """Return the batch with its samples as float32 of full scale 1. This is the only place
        in training where stored samples become sound."""
        wave = jnp.asarray(self.wave).astype(jnp.float32) * self.scale
        return dataclasses.replace(self, wave=wave, scale=1.0)


def as_batch(windows: Windows) -> Batch:
    """View all windows of a dataset as one batch; nothing is copied."""
    arrays: dict[str, Any] = {name: getattr(windows, name) for name in FIELDS}
    return Batch(**arrays, scale=windows.scale)


def gather(windows: TrainingWindows, rows: np.ndarray) -> Batch:
    """Collect the windows of the given numbers [...] as a batch of NumPy arrays."""
    arrays: dict[str, Any] = windows.take(rows)
    return Batch(**arrays, scale=windows.scale)


class BatchSampler:
    """Decides which windows a step sees: every window once per epoch, in a new order each time.

    The choice is a pure function of the step, so a resumed run sees what an uninterrupted one
    would have seen. The last batch of an epoch is filled up from the beginning of its order.
    """

    def __init__(self, windows: int, batch: int, seed: int):
        """windows: number of windows; batch: windows per step, over all devices."""
        self._count = windows
        self._batch = batch
        self._seed = seed
        self.steps_per_epoch = math.ceil(windows / batch)
        # A large dataset's order takes longer to draw than a fast step takes.
        self._order = functools.lru_cache(maxsize=2)(self._draw_order)

    def rows(self, step: int) -> np.ndarray:
        """Return the numbers of the windows of a step [batch]."""
        epoch, position = divmod(step, self.steps_per_epoch)
        places = np.arange(position * self._batch, (position + 1) * self._batch)
        return np.take(self._order(epoch), places, mode="wrap")

    def _draw_order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, epoch]).permutation(self._count)

    def rows_for_steps(self, step: int, steps: int) -> np.ndarray:
        """Return the numbers of the windows of `steps` steps from `step` on: int32 [steps,
        batch]."""
        return np.stack([self.rows(step + i) for i in range(steps)]).astype(np.int32)


class ResidentLoader:
    """Keeps all windows on every device; a dispatch brings only the numbers of its windows."""

    def __init__(self, windows: Windows, sampler: BatchSampler, steps: int, mesh: Mesh):
        """steps: most steps of a dispatch."""
        self._sampler = sampler
        self._steps = steps
        self._mesh = mesh
        self.resident = jax.tree.map(
            lambda array: place_on_mesh(array, mesh), as_batch(windows)
        )
        """What stays on the devices, the first argument of `take`."""

    def __call__(self, step: int, count: int) -> jax.Array:
        """Return the batch arguments of a dispatch of `count` steps from `step` on.

        They are the rows, int32 [steps, batch].
        """
        rows = self._sampler.rows_for_steps(step, self._steps)
        return place_on_mesh(rows, self._mesh, None, "data")

    @staticmethod
    def take(resident: Batch, rows: jax.Array, i: jax.Array) -> Batch:
        """Take the batch of a dispatch's i-th step. Runs on the device."""
        return jax.tree.map(lambda array: jnp.take(array, rows[i], axis=0), resident)

    def close(self) -> None:
        """Do nothing: no thread is running."""


class StreamingLoader:
    """Brings the windows of one dispatch at a time, and gathers the next ones meanwhile.

    Every process gathers the windows of its own devices only.
    """

    resident: None = None
    """Nothing stays on the devices."""

    def __init__(self, windows: TrainingWindows, sampler: BatchSampler, steps: int, mesh: Mesh):
        """steps: most steps of a dispatch."""
        self._windows = windows
        self._sampler = sampler
        self._steps = steps
        self._mesh = mesh
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._ready: dict[int, Future[Batch]] = {}

    def __call__(self, step: int, count: int) -> Batch:
        """Return the batch arguments of a dispatch of `count` steps from `step` on.

        They are the windows: a batch of arrays [steps, batch, ...].

        Raises:
            UserError: A record on disk can't be read.
        """
        waiting = self._ready.pop(step, None) or self._pool.submit(self._gather, step)
        # Queued behind this dispatch's windows, so gathered while the device works on them.
        ahead = range(max(1, _STEPS_AHEAD // self._steps))
        wanted = [step + count + self._steps * i for i in ahead]
        for other in self._ready.keys() - set(wanted):
            self._ready.pop(other).cancel()
        for start in wanted:
            if start not in self._ready:
                self._ready[start] = self._pool.submit(self._gather, start)
        return waiting.result()

    @staticmethod
    def take(resident: None, batches: Batch, i: jax.Array) -> Batch:
        """Take the batch of a dispatch's i-th step. Runs on the device."""
        return jax.tree.map(lambda array: array[i], batches)

    def _gather(self, step: int) -> Batch:
        """Gather the windows of all steps of a dispatch, divided over devices by batch."""
        rows = self._sampler.rows_for_steps(step, self._steps)
        sharding = NamedSharding(self._mesh, PartitionSpec(None, "data"))
        # This process places the parts of its own devices only.
        indices = sharding.addressable_devices_indices_map(rows.shape)
        parts = [gather(self._windows, rows[index]) for index in indices.values()]

        def place(*arrays: np.ndarray) -> jax.Array:
            shape = (*rows.shape, *arrays[0].shape[2:])
            pieces = [
                jax.device_put(array, device)
                for array, device in zip(arrays, indices, strict=True)
            ]
            return jax.make_array_from_single_device_arrays(shape, sharding, pieces)

        return jax.tree.map(place, *parts)

    def close(self) -> None:
        """Stop the thread; what it has gathered is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


Loader = ResidentLoader | StreamingLoader


def make_loader(
    windows: TrainingWindows, sampler: BatchSampler, steps: int, mesh: Mesh, on_device: str
) -> Loader:
    """Choose how windows come to the devices.

    Args:
        windows: The windows. Those on disk are streamed.
        sampler: Decides which of them a step sees.
        steps: Most steps of a dispatch.
        mesh: The devices.
        on_device: Whether the devices keep windows that are in memory: yes, no or auto.
    """
    is_resident = on_device == "yes"
    if isinstance(windows, Windows) and on_device == "auto":
        device = mesh.devices.flat[0]
        # On a CPU, NumPy gathers windows faster than XLA.
        is_resident = device.platform != "cpu" and fits_on_device(windows, device)
    if isinstance(windows, Windows) and is_resident:
        return ResidentLoader(windows, sampler, steps, mesh)
    return StreamingLoader(windows, sampler, steps, mesh)


def fits_on_device(windows: Windows, device: Any) -> bool:
    """Whether the windows take at most a quarter of a device's memory; always true on CPUs.

    device: a `jax.Device`.
    """
    limit = (device.memory_stats() or {}).get("bytes_limit")
    size = sum(array.nbytes for array in jax.tree.leaves(as_batch(windows)))
    return limit is None or size <= _MEMORY_SHARE * limit
