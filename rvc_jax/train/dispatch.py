"""Many training steps in one call of the device: between them, nothing waits for the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rvc_jax.train.loader import Loader
from rvc_jax.train.networks import Networks
from rvc_jax.train.split_step import SplitStep
from rvc_jax.train.state import TrainState
from rvc_jax.train.step import Metrics, Step, make_step

Dispatch = Callable[[TrainState, Any, Any, Any], tuple[TrainState, Metrics]]
"""(state, resident windows, batch arguments, count) -> (state, metrics [steps])."""


def make_dispatch(
    networks: Networks, step: Step, loader: Loader | type[Loader], steps: int
) -> Dispatch:
    """Build the function (state, loader.resident, loader(...), count) -> (state, metrics [steps]).

    It takes the first `count` of up to `steps` steps; one program serves every count. The metrics
    of the others are 0. Jit it with the state donated.
    """

    def take_step(
        state: TrainState, resident: Any, batch_args: Any, i: jax.Array
    ) -> tuple[TrainState, Metrics]:
        return step(state, loader.take(resident, batch_args, i))

    def dispatch(
        state: TrainState, resident: Any, batch_args: Any, count: jax.Array
    ) -> tuple[TrainState, Metrics]:
        state = networks.pack(state)
        if steps == 1:  # without a loop: CPUs are slow in loops
            state, metrics = take_step(state, resident, batch_args, jnp.int32(0))
            return networks.unpack(state), jax.tree.map(lambda value: value[None], metrics)
        shapes = jax.eval_shape(take_step, state, resident, batch_args, count)[1]
        rows = jax.tree.map(lambda shape: jnp.zeros((steps, *shape.shape), shape.dtype), shapes)

        def body(i: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, rows = carry
            state, metrics = take_step(state, resident, batch_args, i)
            return state, jax.tree.map(lambda row, value: row.at[i].set(value), rows, metrics)

        state, rows = jax.lax.fori_loop(0, count, body, (state, rows))
        return networks.unpack(state), rows

    return dispatch


def compile_dispatch(networks: Networks, loader: Loader, steps: int, mesh: Mesh) -> Dispatch:
    """Jit the dispatch on a mesh, as one program or as four.

    It compiles when it is first called. The state is donated.
    """
    if networks.is_split:
        return SplitStep(networks, loader, steps, mesh)
    dispatch = jax.jit(
        make_dispatch(networks, make_step(networks), loader, steps),
        donate_argnums=0,
        compiler_options=networks.compiler_options,
    )

    def on_mesh(*arguments: Any) -> tuple[TrainState, Metrics]:
        with jax.set_mesh(mesh):
            return dispatch(*arguments)

    return on_mesh
