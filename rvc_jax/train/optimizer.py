"""Learning rate schedules, optimizers, and their step: of all parameters at once, or part by
part."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rvc_jax.config import TrainConfig
from rvc_jax.models.kernels.weight_norm import is_large
from rvc_jax.models.parameters import Parameters
from rvc_jax.train.state import NetworkState

_COSINE_END = 0.01
"""Learning rate at the end of the cosine schedule, as a share of that at its beginning."""

_CLASSIC_BATCH = 8
"""Windows per step that the classic learning rate was chosen for."""

# Schedules


def scale_learning_rate(config: TrainConfig, batch: int) -> TrainConfig:
    """Return the recipe with its learning rate scaled for a global batch of `batch` windows.

    Linear scaling: arXiv 1706.02677. Square root, which suits optimizers that divide by the
    gradient's magnitude: arXiv 2205.10287.
    """
    ratio = max(batch / _CLASSIC_BATCH, 1.0)
    factors = {"none": 1.0, "sqrt": ratio**0.5, "linear": ratio}
    factor = factors[config.scale_learning_rate]
    return dataclasses.replace(config, learning_rate=factor * config.learning_rate)


def make_schedule(config: TrainConfig, steps_per_epoch: int) -> optax.Schedule:
    """Build the learning rate schedule; by default the rate decays by a factor once per epoch."""

    def classic(step: Any) -> Any:
        return config.learning_rate * config.learning_rate_decay ** (step // steps_per_epoch)

    def cosine() -> optax.Schedule:
        steps = config.total_steps(steps_per_epoch)
        assert steps is not None  # `resume.check_recipe`
        return optax.cosine_decay_schedule(config.learning_rate, steps, _COSINE_END)

    schedules: dict[str, Callable[[], optax.Schedule]] = {
        "classic": lambda: classic,
        "constant": lambda: optax.constant_schedule(config.learning_rate),
        "cosine": cosine,
    }
    schedule = schedules[config.schedule]()
    if not config.warmup_steps:
        return schedule
    return lambda step: schedule(step) * jnp.minimum((step + 1) / config.warmup_steps, 1.0)


def make_optimizer(
    config: TrainConfig, steps_per_epoch: int, every: int = 1
) -> optax.GradientTransformation:
    """Build the optimizer of a recipe.

    The default is AdamW as PyTorch defines it, with decay on every parameter (arXiv 1711.05101).

    Args:
      config: the recipe.
      steps_per_epoch: for the schedule.
      every: training steps per update of this optimizer. It counts its own updates, and the
        schedule counts training steps.
    """
    schedule = make_schedule(config, steps_per_epoch)
    options: dict[str, float] = {"b1": config.beta1, "b2": config.beta2}
    if config.optimizer in ("adamw", "nadamw", "lion"):
        options["weight_decay"] = config.weight_decay
    if config.optimizer != "lion":
        options["eps"] = config.epsilon
    learning_rate = schedule if every == 1 else lambda count: schedule(count * every)
    return getattr(optax, config.optimizer)(learning_rate, **options)


# Updates


def clip_and_apply(
    recipe: TrainConfig,
    transform: optax.GradientTransformation,
    rate: jax.Array,
    loss: jax.Array,
    grads: Parameters,
    state: NetworkState,
) -> tuple[NetworkState, jax.Array, jax.Array]:
    """Update a network, unless its loss or gradient is not finite.

    Args:
      recipe: clipping and frozen parts.
      transform: the optimizer.
      rate: factor on the learning rate, scalar.
      loss: scalar.
      grads: gradient of the loss with respect to the parameters.
      state: parameters and optimizer state before the update.

    Returns:
      The new state (the old one if the update was skipped), the gradient's norm, and 1.0, or 0.0
      for a skipped update. The norm is that of `gradient_norm`; with clipping it is the norm of
      the whole gradient.
    """
    frozen = _frozen_prefixes(recipe)
    grads = {
        name: jnp.zeros_like(grad) if name.startswith(frozen) else grad
        for name, grad in grads.items()
    }
    norm = optax.tree.norm(grads) if recipe.clip_norm else gradient_norm(grads)
    if recipe.clip_norm:
        grads = optax.tree.scale(jnp.minimum(1.0, recipe.clip_norm / (norm + 1e-6)), grads)
    is_good = jnp.isfinite(norm) & jnp.isfinite(loss)
    state = apply_gradients(recipe, transform, rate, grads, state, is_good)
    return state, norm, is_good.astype(jnp.float32)


def gradient_norm(grads: Parameters) -> jax.Array:
    """Compute the norm of a gradient without its weight-normed and other large kernels.

    A value in one of those that is not finite also shows in the gradient of the kernel's norm or
    bias, which sum over the same terms. Leaving the kernels out spares writing most of the
    gradient to memory and reading it again.
    """
    return optax.tree.norm(
        {name: grad for name, grad in grads.items() if not _is_left_out(name, grad)}
    )


def _is_left_out(name: str, grad: jax.Array) -> bool:
    is_alone = " as " not in name  # else several parameters share the array (`kernels.packing`)
    return name.endswith(".weight_v") or (
        name.endswith(".weight") and is_alone and is_large(grad.size)
    )


def apply_gradients(
    recipe: TrainConfig,
    transform: optax.GradientTransformation,
    rate: jax.Array,
    grads: Parameters,
    state: NetworkState,
    is_good: jax.Array,
) -> NetworkState:
    """Take one optimizer step, or return the state unchanged where `is_good` is false.

    The step of every optimizer is proportional to the learning rate, so `rate` multiplies it.
    """
    frozen = _frozen_prefixes(recipe)
    steps: Any  # a dictionary as `grads` is; optax's types allow for any tree
    steps, opt_state = transform.update(grads, state.opt_state, state.params)
    steps = {
        name: jnp.zeros_like(step) if name.startswith(frozen) else rate * step
        for name, step in steps.items()
    }
    params: Any = optax.apply_updates(state.params, steps)
    new = NetworkState(params, opt_state)
    return jax.tree.map(lambda new, old: jnp.where(is_good, new, old), new, state)


def ema_update(
    average: Parameters,
    new: Parameters,
    step: jax.Array,
    decay: float,
    is_good: jax.Array | float = 1.0,
) -> Parameters:
    """Move an average one step towards new parameters.

    The decay starts low, so that all steps count alike at first and the average soon forgets the
    initial parameters. A step with `is_good` = 0 is left out.
    """
    weight = 1.0 - is_good * (1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step)))
    return jax.tree.map(lambda old, now: weight * old + (1.0 - weight) * now, average, new)


def _frozen_prefixes(recipe: TrainConfig) -> tuple[str, ...]:
    return tuple(f"{part}." for part in recipe.frozen_parts)


# Updates of a part of the parameters


def select(tree: Any, parameters: Parameters, names: Iterable[str]) -> Any:
    """Keep only `names` in every dictionary of parameters in a tree.

    The optimizer's moments are such dictionaries, too: they have the keys of `parameters`.
    """
    names = list(names)

    def is_parameters(node: Any) -> bool:
        return isinstance(node, dict) and node.keys() == parameters.keys()

    def keep(node: Any) -> Any:
        return {name: node[name] for name in names} if is_parameters(node) else node

    return jax.tree.map(keep, tree, is_leaf=is_parameters)


def merge(trees: list[Any]) -> Any:
    """Join all parts that `select` has made; the inverse of it.

    What is in no dictionary (the optimizer's count) comes from the last part.
    """

    def join(*nodes: Any) -> Any:
        if not isinstance(nodes[0], dict):
            return nodes[-1]
        return {name: value for node in nodes for name, value in node.items()}

    return jax.tree.map(join, *trees, is_leaf=lambda node: isinstance(node, dict))
