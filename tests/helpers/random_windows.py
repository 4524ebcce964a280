"""Windows of noise for MICRO, and runs over them."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from micro import MICRO

from rvc_jax.config import Preset
from rvc_jax.data.windows import Windows, quantize_windows
from rvc_jax.models.kernels.options import KernelConfig
from rvc_jax.train.dispatch import compile_dispatch
from rvc_jax.train.loader import Batch, BatchSampler, Loader, as_batch
from rvc_jax.train.networks import build_networks
from rvc_jax.train.state import TrainState, init_state

FRAMES = 40
PRESET = dataclasses.replace(MICRO, train=dataclasses.replace(MICRO.train, learning_rate=1e-4))
SPLIT_STEP = KernelConfig(pack_parameters=True, split_step_from=1)
Row = dict[str, float]


def random_windows(count: int, seed: int = 0, frames: int = FRAMES) -> Windows:
    """Windows with float32 samples, nearly as long as there is room."""
    random = np.random.default_rng(seed)
    wave = 0.3 * random.standard_normal((count, frames * PRESET.audio.hop))
    content = random.standard_normal((count, frames // 2, PRESET.generator.content_channels))
    return Windows(
        wave=wave.astype(np.float32),
        content=content.astype(np.float16),
        f0=random.uniform(80, 300, (count, frames)).astype(np.float32),
        lengths=random.integers(frames - 4, frames + 1, count).astype(np.int32),
        speaker=np.zeros(count, np.int32),
        source=[""] * count,
        start=np.zeros(count),
    )


def random_batch(count: int) -> Batch:
    """The same windows with int16 samples, as a batch."""
    return as_batch(quantize_windows(random_windows(count)))


def one_device() -> Mesh:
    """A mesh of the first device."""
    return jax.make_mesh(
        (1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1]
    )


def take_steps(
    kind: type[Loader],
    steps: int,
    counts: list[int],
    kernels: KernelConfig | None = None,
    saved: TrainState | None = None,
    preset: Preset = PRESET,
) -> tuple[TrainState, list[Row]]:
    """Train on random windows, in dispatches of the given numbers of steps.

    steps: most steps of a dispatch. saved: state to go on from. Returns the state and a row of
    metrics for every step.
    """
    mesh = one_device()
    loader = kind(
        quantize_windows(random_windows(10)), BatchSampler(10, 4, seed=5), steps, mesh
    )
    networks = build_networks(preset, 3, kernels)
    first = saved or init_state(
        networks.synthesizer, networks.discriminator, networks.optimizer, 0
    )
    state = jax.device_put(first, NamedSharding(mesh, PartitionSpec()))
    dispatch = compile_dispatch(networks, loader, steps, mesh)
    rows: list[Row] = []
    step = int(first.step)
    for count in counts:
        state, metrics = dispatch(state, loader.resident, loader(step, count), np.int32(count))
        metrics = jax.device_get(metrics)
        rows += [
            {name: float(values[i]) for name, values in metrics.items()} for i in range(count)
        ]
        assert all((values[count:] == 0).all() for values in metrics.values())
        step += count
    loader.close()
    return state, rows
