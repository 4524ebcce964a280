"""The state of a run, and the tree that checkpoints store."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rvc_jax.train.state import (
    DEFAULTS_FOR_OLD_CHECKPOINTS,
    TrainState,
    create_state,
    from_saved_tree,
    shape_of,
    to_saved_tree,
)

SAVED_KEYS = {
    "step",
    "rate",
    "generator",
    "discriminator",
    "generator_optimizer",
    "discriminator_optimizer",
}


def new_state(with_average: bool) -> TrainState:
    params = {"a": jnp.arange(3.0)}
    return create_state(params, {"b": jnp.ones(2)}, optax.adamw(1e-3), with_average)


@pytest.mark.parametrize("with_average", [False, True])
def test_a_saved_tree_becomes_the_state_again(with_average: bool) -> None:
    state = new_state(with_average)
    tree = to_saved_tree(state)
    assert set(tree) == SAVED_KEYS | ({"average"} if with_average else set())
    np.testing.assert_array_equal(tree["generator"]["a"], np.arange(3))
    again = from_saved_tree(tree)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, again, state)


def test_what_old_checkpoints_lack_is_filled_in() -> None:
    tree = to_saved_tree(new_state(with_average=False))
    tree |= {name: make(tree) for name, make in DEFAULTS_FOR_OLD_CHECKPOINTS.items()}
    state = from_saved_tree(tree)
    assert float(state.rate) == 1
    assert state.average["a"] is not state.generator.params["a"]
    np.testing.assert_array_equal(state.average["a"], state.generator.params["a"])


def test_no_buffer_is_in_a_state_twice() -> None:
    state = new_state(with_average=True)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(pointers) == len(set(pointers))


def test_shapes_stand_for_arrays() -> None:
    shapes = shape_of(new_state(with_average=True), None)
    assert shapes.average["a"] == jax.ShapeDtypeStruct((3,), jnp.float32)
