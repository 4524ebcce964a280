"""Which windows a step sees, and how they come to the device."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_windows import one_device, random_windows, take_steps

from rvc_jax.data.dataset import load_dataset, open_dataset
from rvc_jax.data.windows import Windows, quantize_windows
from rvc_jax.train.loader import (
    BatchSampler,
    Loader,
    ResidentLoader,
    StreamingLoader,
    as_batch,
    fits_on_device,
    gather,
    make_loader,
)


def numbered_windows(count: int) -> Windows:
    numbers = np.arange(count)
    return Windows(
        wave=np.repeat(numbers[:, None], 4, axis=1).astype(np.int16),
        content=np.zeros((count, 2, 3), np.float16),
        f0=np.zeros((count, 4), np.float32),
        lengths=np.full(count, 4, np.int32),
        speaker=np.zeros(count, np.int32),
        source=[""] * count,
        start=np.zeros(count),
        scale=0.5,
    )


@given(count=st.integers(1, 60), batch=st.integers(1, 24), epoch=st.integers(0, 3))
def test_an_epoch_holds_every_window(count: int, batch: int, epoch: int) -> None:
    sampler = BatchSampler(count, batch, seed=1)
    first = epoch * sampler.steps_per_epoch
    rows = np.concatenate([sampler.rows(first + i) for i in range(sampler.steps_per_epoch)])
    assert set(rows[:count]) == set(range(count))
    assert len(rows) == sampler.steps_per_epoch * batch


def test_a_step_is_the_same_whenever_it_is_asked_for() -> None:
    sampler, again = (BatchSampler(50, 8, seed=3) for _ in range(2))
    list(map(sampler.rows, range(20)))
    np.testing.assert_array_equal(sampler.rows(11), again.rows(11))
    assert not np.array_equal(sampler.rows(0), sampler.rows(sampler.steps_per_epoch))
    assert not np.array_equal(sampler.rows(0), BatchSampler(50, 8, seed=4).rows(0))


def test_gather_takes_the_rows() -> None:
    sampler = BatchSampler(10, 4, seed=0)
    batch = gather(numbered_windows(10), sampler.rows(2))
    np.testing.assert_array_equal(batch.wave[:, 0], sampler.rows(2))
    assert batch.scale == 0.5


def test_samples_become_float_once() -> None:
    batch = as_batch(numbered_windows(10)).to_float()
    assert batch.wave.dtype == jnp.float32 and batch.scale == 1
    np.testing.assert_array_equal(batch.wave[:, 0], 0.5 * np.arange(10))
    np.testing.assert_array_equal(batch.to_float().wave, batch.wave)


@pytest.mark.parametrize("kind", [ResidentLoader, StreamingLoader])
def test_a_loader_brings_the_rows_of_its_sampler(kind: type[Loader]) -> None:
    windows = quantize_windows(random_windows(10))
    sampler = BatchSampler(10, 4, seed=5)
    loader = kind(windows, sampler, 3, one_device())
    batch_args = loader(4, 2)
    for i in range(3):
        batch = loader.take(loader.resident, batch_args, i)
        jax.tree.map(np.testing.assert_array_equal, batch, gather(windows, sampler.rows(4 + i)))
    loader.close()


def test_resident_windows_are_counted_in_bytes() -> None:
    windows = quantize_windows(random_windows(3))
    assert fits_on_device(windows, jax.devices("cpu")[0])

    class Device:
        size = sum(array.nbytes for array in jax.tree.leaves(as_batch(windows)))

        def memory_stats(self) -> dict[str, int]:
            return {"bytes_limit": self.limit}

    device = Device()
    device.limit = 4 * device.size
    assert fits_on_device(windows, device)
    device.limit -= 4
    assert not fits_on_device(windows, device)


def test_windows_on_disk_come_in_the_same_batches(sample_dataset: Path) -> None:
    """Whatever is asked for: one step after the other, several at once, and again from before."""
    resident = load_dataset(sample_dataset).train
    sampler = BatchSampler(len(resident), 4, seed=5)
    with open_dataset(sample_dataset, memory_bytes=0) as data:
        for steps, asked in ((1, [0, 1, 2, 3, 1, 2, 9, 40]), (3, [0, 2, 5, 0])):
            loaders = [
                make_loader(windows, sampler, steps, one_device(), "auto")
                for windows in (data.train, resident)
            ]
            for step in asked:
                batches = [loader(step, min(steps, 2)) for loader in loaders]
                jax.tree.map(np.testing.assert_array_equal, *batches)
                rows = sampler.rows_for_steps(step, steps)
                jax.tree.map(np.testing.assert_array_equal, batches[0], gather(resident, rows))
            for loader in loaders:
                loader.close()


@pytest.mark.parametrize("on_device", ["yes", "no", "auto"])
def test_what_is_on_disk_is_never_resident(sample_dataset: Path, on_device: str) -> None:
    with open_dataset(sample_dataset, memory_bytes=0) as data:
        sampler = BatchSampler(len(data.train), 4, seed=5)
        loader = make_loader(data.train, sampler, 1, one_device(), on_device)
        assert isinstance(loader, StreamingLoader)
        loader.close()
    resident = load_dataset(sample_dataset).train
    loader = make_loader(resident, sampler, 1, one_device(), on_device)
    assert isinstance(loader, ResidentLoader) == (on_device == "yes")


def test_streaming_is_bit_for_bit_what_the_device_holds() -> None:
    state, rows = take_steps(StreamingLoader, 1, [1] * 5)
    resident, expected = take_steps(ResidentLoader, 1, [1] * 5)
    assert rows == expected
    for name, value in resident.generator.params.items():
        np.testing.assert_array_equal(state.generator.params[name], value)
