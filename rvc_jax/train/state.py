"""What a training run carries from step to step, and how a checkpoint stores it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rvc_jax.models.parameters import Network, Parameters


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NetworkState:
    """One network under training."""

    params: Parameters
    opt_state: optax.OptState


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Both networks and the number of steps taken."""

    step: jax.Array
    """int32 scalar: steps taken."""
    rate: jax.Array
    """float32 scalar: factor on the learning rate; 1 unless the run was rolled back."""
    generator: NetworkState
    discriminator: NetworkState
    average: Parameters | None = None
    """Exponential moving average of the generator's parameters; None if the run keeps none."""


def create_state(
    generator: Parameters,
    discriminator: Parameters,
    transform: optax.GradientTransformation,
    with_average: bool = False,
) -> TrainState:
    """Build the state of step 0 around given parameters.

    Args:
      generator: parameters of the synthesizer.
      discriminator: parameters of the discriminator.
      transform: optimizer of both.
      with_average: also keep an average of the generator's parameters.
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        rate=jnp.ones((), jnp.float32),
        generator=NetworkState(generator, transform.init(generator)),
        discriminator=NetworkState(discriminator, transform.init(discriminator)),
        # A copy: the state is donated, and no buffer may be in it twice.
        average=jax.tree.map(jnp.copy, generator) if with_average else None,
    )


def init_state(
    generator: Network,
    discriminator: Network,
    transform: optax.GradientTransformation,
    seed: int,
) -> TrainState:
    """Build the state of step 0 with freshly drawn parameters."""
    return create_state(generator.init(seed), discriminator.init(seed), transform)


def abstract_state(
    generator: Network,
    discriminator: Network,
    transform: optax.GradientTransformation,
    sharding: jax.sharding.Sharding | None,
    with_average: bool = False,
) -> TrainState:
    """Build a state of `jax.ShapeDtypeStruct`, to restore a checkpoint into or to compile for."""
    generator_shapes, discriminator_shapes = (
        {
            name: jax.ShapeDtypeStruct(shape, jnp.float32)
            for name, shape in network.shapes.items()
        }
        for network in (generator, discriminator)
    )
    state = jax.eval_shape(
        lambda g, d: create_state(g, d, transform, with_average),
        generator_shapes,
        discriminator_shapes,
    )
    return shape_of(state, sharding)


def shape_of(tree: Any, sharding: jax.sharding.Sharding | None) -> Any:
    """Replace every array of a tree by its `jax.ShapeDtypeStruct` with the given sharding."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def to_saved_tree(state: TrainState) -> dict[str, Any]:
    """Arrange a state as checkpoints store it.

    The keys are the format on disk: every run since 0.1.0 restores by them, so they never change.
    """
    tree = {
        "step": state.step,
        "rate": state.rate,
        "generator": state.generator.params,
        "discriminator": state.discriminator.params,
        "generator_optimizer": state.generator.opt_state,
        "discriminator_optimizer": state.discriminator.opt_state,
    }
    if state.average is not None:
        tree["average"] = state.average
    return tree


def from_saved_tree(tree: dict[str, Any]) -> TrainState:
    """Build a state from the tree of a checkpoint; the inverse of `to_saved_tree`."""
    return TrainState(
        step=tree["step"],
        rate=tree["rate"],
        generator=NetworkState(tree["generator"], tree["generator_optimizer"]),
        discriminator=NetworkState(tree["discriminator"], tree["discriminator_optimizer"]),
        average=tree.get("average"),
    )


DEFAULTS_FOR_OLD_CHECKPOINTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "rate": lambda tree: jnp.ones((), jnp.float32),
    "average": lambda tree: jax.tree.map(jnp.copy, tree["generator"]),
}
"""Makes a key of the saved tree that a checkpoint lacks, from the keys that it has.

Arrays are copied, since a state is donated.
"""
