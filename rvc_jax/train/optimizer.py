"""The optimiser's step: of all parameters at once, or of some before the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rvc_jax.config import TrainConfig
from rvc_jax.models.kernels.weight_norm import is_large
from rvc_jax.models.parameters import Parameters


def updated(
    recipe: TrainConfig,
    transform: optax.GradientTransformation,
    rate: jax.Array,
    loss: jax.Array,
    grads: Parameters,
    parameters: Parameters,
    optimizer_state: optax.OptState,
) -> tuple[Parameters, optax.OptState, jax.Array, jax.Array]:
    """Parameters, optimiser, the gradient's norm and 1.0; without a finite gradient: as they were,
    the norm, and 0.0.

    The norm is that of `gradient_norm`, unless the gradient is clipped by it: then it is the whole
    gradient's.
    """
    frozen = _frozen(recipe)
    grads = {
        name: jnp.zeros_like(grad) if name.startswith(frozen) else grad
        for name, grad in grads.items()
    }
    norm = optax.tree.norm(grads) if recipe.clip_norm else gradient_norm(grads)
    if recipe.clip_norm:
        grads = optax.tree.scale(jnp.minimum(1.0, recipe.clip_norm / (norm + 1e-6)), grads)
    is_good = jnp.isfinite(norm) & jnp.isfinite(loss)
    return (
        *stepped(recipe, transform, rate, grads, parameters, optimizer_state, is_good),
        norm,
        is_good.astype(jnp.float32),
    )


def gradient_norm(grads: Parameters) -> jax.Array:
    """Norm of a gradient without weight-normed and other large kernels.

    What is not finite in one of these is not in its scale's or its bias's either, which sum over
    the same, and most of the gradient need not be written and read again.
    """
    return optax.tree.norm(
        {name: grad for name, grad in grads.items() if not _is_left_out(name, grad)}
    )


def _is_left_out(name: str, grad: jax.Array) -> bool:
    is_alone = " as " not in name  # not several in one array (`models.packing`)
    return name.endswith(".weight_v") or (
        name.endswith(".weight") and is_alone and is_large(grad.size)
    )


def stepped(
    recipe: TrainConfig,
    transform: optax.GradientTransformation,
    rate: jax.Array,
    grads: Parameters,
    parameters: Parameters,
    optimizer_state: optax.OptState,
    is_good: jax.Array,
) -> tuple[Parameters, optax.OptState]:
    """Parameters and optimiser after a step, or as they were.

    Every optimiser's step is proportional to the learning rate, so a factor on the rate is one on
    the step.
    """
    frozen = _frozen(recipe)
    updates, new_state = transform.update(grads, optimizer_state, parameters)
    updates = {
        name: jnp.zeros_like(update) if name.startswith(frozen) else rate * update
        for name, update in updates.items()
    }
    new = (optax.apply_updates(parameters, updates), new_state)
    return jax.tree.map(
        lambda new, old: jnp.where(is_good, new, old), new, (parameters, optimizer_state)
    )


def _frozen(recipe: TrainConfig) -> tuple[str, ...]:
    return tuple(f"{part}." for part in recipe.frozen_parts)


def only(tree: Any, parameters: Parameters, names: Iterable[str]) -> Any:
    """A tree of which every dictionary of parameters (the optimiser's moments are such) has these
    alone."""
    is_parameters = lambda node: isinstance(node, dict) and node.keys() == parameters.keys()  # noqa: E731
    part = lambda node: {name: node[name] for name in names} if is_parameters(node) else node  # noqa: E731
    return jax.tree.map(part, tree, is_leaf=is_parameters)


def joined(trees: list[Any]) -> Any:
    """The inverse of `only`, of all parts; what is in no dictionary is the last one's."""

    def together(*nodes: Any) -> Any:
        return (
            {name: value for node in nodes for name, value in node.items()}
            if isinstance(nodes[0], dict)
            else nodes[-1]
        )

    return jax.tree.map(together, *trees, is_leaf=lambda node: isinstance(node, dict))
