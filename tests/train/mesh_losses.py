"""Prints the metrics of three steps on random data, with a global batch of 8 on however many
devices there are: in one program and, on several devices, in four."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from micro import MICRO
from train_step import random_batch

from rvc_jax.config import KERNEL_CONFIGS
from rvc_jax.train.split_step import compile_split_step, measure_norms
from rvc_jax.train.state import TrainState, init_state
from rvc_jax.train.step import Batch, Metrics, Networks, build_networks, make_step

mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
batch = jax.device_put(random_batch(MICRO, 8, 64), NamedSharding(mesh, PartitionSpec("data")))


def whole(
    networks: Networks, state: TrainState
) -> Callable[[TrainState], tuple[TrainState, Metrics]]:
    step = jax.jit(make_step(networks), donate_argnums=0)
    return lambda state: step(state, batch)


def is_split(
    networks: Networks, state: TrainState
) -> Callable[[TrainState], tuple[TrainState, Metrics]]:
    assert networks.is_split
    as_it_is: Callable[[Batch], Batch] = lambda batch: batch  # noqa: E731
    step = compile_split_step(networks, as_it_is, mesh, state, batch)
    norms: list[Any] = [measure_norms(state)]

    def stepped(state: TrainState) -> tuple[TrainState, Metrics]:
        state, norms[0], metrics = step(state, norms[0], batch)
        return state, metrics

    return stepped


for name, form in [("whole", whole), ("in pieces", is_split)][: 1 + (jax.device_count() > 1)]:
    networks = build_networks(
        MICRO, 2, dataclasses.replace(KERNEL_CONFIGS["cpu"], split_step_from=1)
    )
    state = init_state(networks.synthesizer, networks.discriminator, networks.optimizer, 0)
    with jax.set_mesh(mesh):
        state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
        step = form(networks, state)
        for _ in range(3):
            state, metrics = step(state)
            values = {name: float(value) for name, value in metrics.items()}
            print(json.dumps({"devices": jax.device_count(), "form": name} | values))
