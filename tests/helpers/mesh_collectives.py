"""Prints every operation between devices in the program of a step that is divided among all."""

import re

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from micro import MICRO
from train_step import random_batch

from rvc_jax.train.networks import build_networks
from rvc_jax.train.state import abstract_state, shape_of
from rvc_jax.train.step import make_step

networks = build_networks(MICRO, steps_per_epoch=2)
mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
replicated = NamedSharding(mesh, PartitionSpec())
divided = NamedSharding(mesh, PartitionSpec("data"))
state = abstract_state(
    networks.synthesizer, networks.discriminator, networks.optimizer, replicated
)
batch = shape_of(random_batch(MICRO, 8, 64), divided)
with jax.set_mesh(mesh):
    step = jax.jit(make_step(networks), donate_argnums=0)
    text = step.lower(state, batch).compile().as_text()
collectives = re.findall(r" (all-\w+|collective-\w+|reduce-scatter)(?:-start)?\(", text)
print(*collectives, sep="\n")
