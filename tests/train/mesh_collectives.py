"""Prints every operation between devices in the program of a step that is divided among all there
are."""

import re

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from micro import MICRO
from train_step import random_batch

from rvc_jax.train.state import abstract_state
from rvc_jax.train.step import build_networks, make_step

networks = build_networks(MICRO, steps_per_epoch=2)
mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
everywhere, divided = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
state = abstract_state(
    networks.synthesizer, networks.discriminator, networks.optimizer, everywhere
)
arrays = random_batch(MICRO, 8, 64)
batch = {
    name: jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=divided)
    for name, array in arrays.items()
}
with jax.set_mesh(mesh):
    text = (
        jax.jit(make_step(networks), donate_argnums=0).lower(state, batch).compile().as_text()
    )
print(*re.findall(r" (all-\w+|collective-\w+|reduce-scatter)(?:-start)?\(", text), sep="\n")
