"""Many training steps in one call of the device: between them, nothing waits for the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rvc_jax.train.loader import Batch, widened
from rvc_jax.train.split_step import SplitStep
from rvc_jax.train.state import TrainState
from rvc_jax.train.step import Metrics, Networks, Step, make_step

Dispatch = Callable[[TrainState, Batch, Any, jax.Array], tuple[TrainState, Metrics]]


def make_dispatch(
    networks: Networks, step: Step, feed: Any, scale: float, steps: int
) -> Dispatch:
    """The function (state, what the feed holds, what the feed gives, count) -> (state, metrics
    [steps]).

    It takes the first `count` of up to `steps` steps; one program serves every count. The metrics
    of the others are 0. Jit it with the state donated.
    """

    def one(
        state: TrainState, held: Batch, given: Any, i: jax.Array
    ) -> tuple[TrainState, Metrics]:
        return step(state, widened(feed.batch(held, given, i), scale))

    def dispatch(
        state: TrainState, held: Batch, given: Any, count: jax.Array
    ) -> tuple[TrainState, Metrics]:
        if steps == 1:  # CPUs are slow in loops
            state, metrics = one(networks.packed(state), held, given, jnp.int32(0))
            return networks.unpacked(state), jax.tree.map(lambda value: value[None], metrics)
        state = networks.packed(state)
        shapes = jax.eval_shape(one, state, held, given, count)[1]
        metrics = jax.tree.map(
            lambda shape: jnp.zeros((steps, *shape.shape), shape.dtype), shapes
        )

        def body(i: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, metrics = carry
            state, new = one(state, held, given, i)
            return state, jax.tree.map(lambda row, value: row.at[i].set(value), metrics, new)

        state, metrics = jax.lax.fori_loop(0, count, body, (state, metrics))
        return networks.unpacked(state), metrics

    return dispatch


def compile_dispatch(
    networks: Networks, feed: Any, scale: float, steps: int, mesh: Mesh
) -> Dispatch:
    """That function on a mesh, as one program or as four, compiled when it is first called; the
    state is used up."""
    if networks.is_split:
        return SplitStep(networks, feed, scale, steps, mesh)
    dispatch = make_dispatch(networks, make_step(networks), feed, scale, steps)
    dispatch = jax.jit(dispatch, donate_argnums=0, compiler_options=networks.compiler_options)

    def on_mesh(*arguments: Any) -> tuple[TrainState, Metrics]:
        with jax.set_mesh(mesh):
            return dispatch(*arguments)

    return on_mesh
