"""The step as four programs: known norms, sub-discriminators in turn, residuals."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_windows import PRESET, SPLIT_STEP, Row, one_device, random_batch, take_steps

from rvc_jax.train.loader import ResidentLoader
from rvc_jax.train.networks import Networks, build_networks
from rvc_jax.train.segments import draw_segments
from rvc_jax.train.split_step import StepFunctions, measure_norms
from rvc_jax.train.state import TrainState, init_state
from rvc_jax.train.step import forward


@pytest.fixture
def networks() -> Networks:
    return build_networks(PRESET, 3, SPLIT_STEP)


@pytest.fixture
def state(networks: Networks) -> TrainState:
    return networks.pack(
        init_state(networks.synthesizer, networks.discriminator, networks.optimizer, 0)
    )


@pytest.fixture(scope="module")
def one_by_one() -> tuple[TrainState, list[Row]]:
    return take_steps(ResidentLoader, 1, [1] * 5)


@pytest.mark.usefixtures("every_kernel_is_large")
def test_large_kernels_are_updated_as_all_others_are(
    one_by_one: tuple[TrainState, list[Row]],
) -> None:
    """By gradients that nothing has summed over, and those of one sub-discriminator before the
    next one's are known."""
    expected_state, expected = one_by_one
    state, rows = take_steps(ResidentLoader, 3, [3, 2], SPLIT_STEP)
    for row, other in zip(rows, expected, strict=True):
        # Gradient norms leave large kernels out.
        norms = [name for name in row if name.startswith("gradient_norm")]
        assert {n: row[n] for n in row.keys() - norms} == pytest.approx(
            {n: other[n] for n in other.keys() - norms}, rel=1e-4, abs=1e-5
        )
    for network in ("generator", "discriminator"):
        ours = getattr(state, network).params
        reference = getattr(expected_state, network).params
        for name, value in reference.items():
            if not name.endswith("conv_k.bias"):
                assert (np.abs(np.asarray(ours[name]) - value) > 1e-4).mean() < 0.01, name
    counts = [leaf for leaf in jax.tree.leaves(state.discriminator.opt_state) if leaf.ndim == 0]
    assert counts and all(int(count) == 5 for count in counts)


@pytest.mark.usefixtures("every_kernel_is_large")
@pytest.mark.parametrize("bad", ["wave", "weights"])
def test_what_is_not_finite_is_skipped(bad: str, networks: Networks, state: TrainState) -> None:
    """A bad wave leaves everything as it is. Bad weights leave their sub-discriminator's kernels
    as they are, and all parameters that are not of one sub-discriminator alone."""
    batch = random_batch(4).to_float()
    if bad == "wave":
        batch = dataclasses.replace(batch, wave=jnp.asarray(batch.wave).at[0].set(np.nan))
    else:
        name = "discriminators.1.convs.1.weight_v"
        params = state.discriminator.params
        params[name] = jnp.asarray(params[name]).at[0, 0, 0].set(np.nan)
    before = jax.device_get(state.discriminator)

    def render() -> object:
        segments, rng = draw_segments(PRESET, state.step, batch)
        return forward(networks, state.generator.params, segments, rng)[0]

    with jax.set_mesh(one_device()):
        rendered = jax.jit(render)()
    functions = StepFunctions(networks, lambda batch: batch)
    norms = measure_norms(state).discriminator
    after, _, metrics = jax.jit(functions.update_discriminator)(
        state.discriminator, norms, state.step, state.rate, rendered
    )
    assert float(metrics["skipped"]) == 1
    updated = {
        name
        for name in after.params
        if bad == "weights"
        and name.endswith("weight_v")
        and " as " not in name
        and "discriminators.1." not in name
    }
    for tree, old in (
        (after.params, before.params),
        (after.opt_state[0].mu, before.opt_state[0].mu),
    ):
        same = {name for name in tree if np.array_equal(tree[name], old[name], equal_nan=True)}
        assert same == tree.keys() - updated
        assert all(np.isfinite(tree[name]).all() for name in updated)


def test_a_resumed_run_goes_on_bit_for_bit() -> None:
    state, rows = take_steps(ResidentLoader, 3, [3, 2], SPLIT_STEP)
    saved, first = take_steps(ResidentLoader, 3, [3], SPLIT_STEP)
    again, last = take_steps(ResidentLoader, 3, [2], SPLIT_STEP, jax.device_get(saved))
    assert first + last == rows
    same = jax.tree.map(
        lambda a, b: bool((a == b).all()), jax.device_get(again), jax.device_get(state)
    )
    assert all(jax.tree.leaves(same))


def test_residuals_hold_no_copies_of_parameters(networks: Networks, state: TrainState) -> None:
    batch = random_batch(2)
    functions = StepFunctions(networks, lambda: batch)
    params = state.generator.params
    traced = jax.jit(functions.render).trace(params, measure_norms(state).generator, state.step)
    variables = {id(variable) for variable in traced.jaxpr.jaxpr.invars[: len(params)]}
    _, residuals = traced.out_info
    assert not variables & {id(variable) for variable in traced.jaxpr.jaxpr.outvars}
    others = sum(number is None for number in residuals.parameters)
    assert len(residuals.arrays) == others < len(residuals.parameters)
