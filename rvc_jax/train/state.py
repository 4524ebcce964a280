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
    average: Parameters | None = None
    """The generator's parameters, averaged over the steps; None if they are not."""


_LAST_OF_COSINE = 0.01


def last_step(config: TrainConfig, steps_per_epoch: int) -> int:
    """The step at which a run ends: by its epochs, or before by its steps."""
    steps = config.epochs * steps_per_epoch
    return min(steps, config.steps) if config.steps else steps


_CLASSIC_BATCH = 8
"""Windows per step that the classic learning rate is for."""


def scale_learning_rate(config: TrainConfig, batch: int) -> TrainConfig:
    """The recipe with its learning rate for a step of `batch` windows on all devices together.

    Linear: arXiv 1706.02677; by the root, as suits optimisers that divide by the gradient's size:
    arXiv 2205.10287.
    """
    times = max(batch / _CLASSIC_BATCH, 1.0)
    factor = {"none": 1.0, "sqrt": times**0.5, "linear": times}[config.scale_learning_rate]
    return dataclasses.replace(config, learning_rate=factor * config.learning_rate)


def learning_rate(config: TrainConfig, steps_per_epoch: int) -> optax.Schedule:
    """The rate at a step: by default it decays by a factor once per epoch."""
    courses: dict[str, optax.Schedule] = {
        "classic": lambda step: (
            config.learning_rate * config.learning_rate_decay ** (step // steps_per_epoch)
        ),
        "constant": optax.constant_schedule(config.learning_rate),
        "cosine": optax.cosine_decay_schedule(
            config.learning_rate, last_step(config, steps_per_epoch), _LAST_OF_COSINE
        ),
    }
    course = courses[config.schedule]
    if not config.warmup_steps:
        return course
    return lambda step: course(step) * jnp.minimum((step + 1) / config.warmup_steps, 1.0)


def optimizer(
    config: TrainConfig, steps_per_epoch: int, every: int = 1
) -> optax.GradientTransformation:
    """By default AdamW as PyTorch defines it, decay on every parameter (arXiv 1711.05101).

    every: steps of the run per update, for the learning rate's course.
    """
    course = learning_rate(config, steps_per_epoch)
    decays = (
        {"weight_decay": config.weight_decay}
        if config.optimizer in ("adamw", "nadamw", "lion")
        else {}
    )
    divides = {} if config.optimizer == "lion" else {"eps": config.epsilon}
    return getattr(optax, config.optimizer)(
        course if every == 1 else lambda count: course(count * every),
        b1=config.beta1,
        b2=config.beta2,
        **decays,
        **divides,
    )


def create_state(
    generator: Parameters,
    discriminator: Parameters,
    transform: optax.GradientTransformation,
    averaged: bool = False,
) -> TrainState:
    """A run's first state; averaged: with an average of the generator's parameters."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        rate=jnp.ones((), jnp.float32),
        generator=generator,
        discriminator=discriminator,
        generator_optimizer=transform.init(generator),
        discriminator_optimizer=transform.init(discriminator),
        average=jax.tree.map(jnp.copy, generator) if averaged else None,
    )


def init_state(
    generator: Network,
    discriminator: Network,
    transform: optax.GradientTransformation,
    seed: int,
) -> TrainState:
    """A run's first state, from scratch."""
    return create_state(generator.init(seed), discriminator.init(seed), transform)


def averaged(
    average: Parameters,
    new: Parameters,
    step: jax.Array,
    decay: float,
    is_good: jax.Array | float = 1.0,
) -> Parameters:
    """The average after one more step: of all steps alike at first, so that it doesn't remember the
    beginning.

    is_good: 0 for a step that is left out.
    """
    kept = 1.0 - is_good * (1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step)))
    return jax.tree.map(lambda old, now: kept * old + (1.0 - kept) * now, average, new)


def abstract_state(
    generator: Network,
    discriminator: Network,
    transform: optax.GradientTransformation,
    sharding: jax.sharding.Sharding,
    averaged: bool = False,
) -> TrainState:
    """A state of shapes instead of arrays, to restore a checkpoint into."""
    parameters = [
        {
            name: jax.ShapeDtypeStruct(shape, jnp.float32)
            for name, shape in network.shapes.items()
        }
        for network in (generator, discriminator)
    ]
    state = jax.eval_shape(lambda g, d: create_state(g, d, transform, averaged), *parameters)
    return shape_of(state, sharding)


def shape_of(tree: Any, sharding: jax.sharding.Sharding | None) -> Any:
    """Shapes in the place of arrays or other shapes."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


DEFAULTS_FOR_OLD_CHECKPOINTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "rate": lambda fields: jnp.ones((), jnp.float32),
    "average": lambda fields: jax.tree.map(jnp.copy, fields["generator"]),
}
"""What a field is for a checkpoint made before it was there, from the other fields (as copies: a
state is donated)."""
