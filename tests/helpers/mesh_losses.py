"""Prints the metrics of three steps on random data, with a global batch of 8 on all devices: in one
program and, on several devices, in four."""

import dataclasses
import json
from collections.abc import Callable

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from micro import MICRO
from train_step import random_batch

from rvc_jax.models.kernels.options import KERNEL_CONFIGS
from rvc_jax.train.networks import Networks, build_networks
from rvc_jax.train.split_step import compile_split_step, measure_norms
from rvc_jax.train.state import TrainState, init_state
from rvc_jax.train.step import Metrics, make_step

TakeStep = Callable[[TrainState], tuple[TrainState, Metrics]]

mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
batch = jax.device_put(random_batch(MICRO, 8, 64), NamedSharding(mesh, PartitionSpec("data")))


def whole(networks: Networks, state: TrainState) -> TakeStep:
    step = jax.jit(make_step(networks), donate_argnums=0)
    return lambda state: step(state, batch)


def split(networks: Networks, state: TrainState) -> TakeStep:
    assert networks.is_split
    step = compile_split_step(networks, lambda batch: batch, mesh, state, batch)
    norms = measure_norms(state)

    def take_step(state: TrainState) -> tuple[TrainState, Metrics]:
        nonlocal norms
        state, norms, metrics = step(state, norms, batch)
        return state, metrics

    return take_step


for form in [whole, split][: 1 + (jax.device_count() > 1)]:
    kernels = dataclasses.replace(KERNEL_CONFIGS["cpu"], split_step_from=1)
    networks = build_networks(MICRO, 2, kernels)
    state = init_state(networks.synthesizer, networks.discriminator, networks.optimizer, 0)
    with jax.set_mesh(mesh):
        state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
        take_step = form(networks, state)
        for _ in range(3):
            state, metrics = take_step(state)
            values = {name: float(value) for name, value in metrics.items()}
            line = {"devices": jax.device_count(), "form": form.__name__} | values
            print(json.dumps(line))
