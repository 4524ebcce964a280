"""What a training run carries from step to step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rvc_jax.config import TrainConfig
from rvc_jax.models.parameters import Network, Parameters


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Both networks, both optimisers and the number of steps done."""

    step: jax.Array
    rate: jax.Array
    """Factor on the learning rate; 1 unless the run had to return to a checkpoint."""
    generator: Parameters
    discriminator: Parameters
    generator_optimizer: optax.OptState
    discriminator_optimizer: optax.OptState


def learning_rate(config: TrainConfig, steps_per_epoch: int) -> optax.Schedule:
    """The rate at a step: it decays by a factor once per epoch."""
    return lambda step: config.learning_rate * config.learning_rate_decay ** (step // steps_per_epoch)


def optimizer(config: TrainConfig, steps_per_epoch: int) -> optax.GradientTransformation:
    """AdamW as PyTorch defines it, decay on every parameter (arXiv 1711.05101)."""
    return optax.adamw(
        learning_rate(config, steps_per_epoch),
        b1=config.beta1,
        b2=config.beta2,
        eps=config.epsilon,
        weight_decay=config.weight_decay,
    )


def create_state(
    generator: Parameters, discriminator: Parameters, transform: optax.GradientTransformation
) -> TrainState:
    """A run's first state."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        rate=jnp.ones((), jnp.float32),
        generator=generator,
        discriminator=discriminator,
        generator_optimizer=transform.init(generator),
        discriminator_optimizer=transform.init(discriminator),
    )


def fresh_state(
    generator: Network, discriminator: Network, transform: optax.GradientTransformation, seed: int
) -> TrainState:
    """A run's first state, from scratch."""
    return create_state(generator.init(seed), discriminator.init(seed), transform)


def state_shapes(
    generator: Network, discriminator: Network, transform: optax.GradientTransformation, sharding: jax.sharding.Sharding
) -> TrainState:
    """A state of shapes instead of arrays, to restore a checkpoint into."""
    parameters = [
        {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in network.shapes.items()}
        for network in (generator, discriminator)
    ]
    state = jax.eval_shape(lambda g, d: create_state(g, d, transform), *parameters)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state)


STAND_INS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "rate": lambda fields: jnp.ones((), jnp.float32),
}
"""What a field is for a checkpoint made before it was there, from the other fields (as copies: a state is donated)."""
