"""Prints the metrics of three steps on random data, with a global batch of 8 on however many devices there are."""

import json

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from micro import MICRO
from train_step import random_batch

from rvc_jax.train.state import fresh_state
from rvc_jax.train.step import build_networks, make_step

networks = build_networks(MICRO, steps_per_epoch=2)
mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
state = fresh_state(networks.synthesizer, networks.discriminator, networks.optimizer, 0)
state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
batch = jax.device_put(random_batch(MICRO, 8, 64), NamedSharding(mesh, PartitionSpec("data")))
step = jax.jit(make_step(networks), donate_argnums=0)
for _ in range(3):
    with jax.set_mesh(mesh):
        state, metrics = step(state, batch)
    print(json.dumps({"devices": jax.device_count()} | {name: float(value) for name, value in metrics.items()}))
