"""Both ways of bringing windows to the device, and many steps in one dispatch, train alike."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from micro import MICRO

from rvc_jax.config import WINDOW_FRAMES, KernelConfig
from rvc_jax.data.dataset import Windows
from rvc_jax.train.batches import BatchSampler
from rvc_jax.train.dispatch import compile_dispatch
from rvc_jax.train.evaluator import Evaluator
from rvc_jax.train.loader import (
    CompactWindows,
    ResidentLoader,
    StreamingLoader,
    fits_on_device,
    widened,
)
from rvc_jax.train.split_step import Functions, measure_norms
from rvc_jax.train.state import TrainState, init_state
from rvc_jax.train.step import build_networks, make_step, render

FRAMES = 40
PRESET = dataclasses.replace(MICRO, train=dataclasses.replace(MICRO.train, learning_rate=1e-4))


def windows(count: int, seed: int = 0, frames: int = FRAMES) -> Windows:
    random = np.random.default_rng(seed)
    return Windows(
        wave=(0.3 * random.standard_normal((count, frames * PRESET.audio.hop))).astype(
            np.float32
        ),
        content=random.standard_normal(
            (count, frames // 2, PRESET.generator.content_channels)
        ).astype(np.float16),
        f0=random.uniform(80, 300, (count, frames)).astype(np.float32),
        lengths=random.integers(frames - 4, frames + 1, count).astype(np.int32),
        speaker=np.zeros(count, np.int32),
        source=[""] * count,
        start=np.zeros(count),
    )


def test_samples_keep_sixteen_bits_whatever_their_level() -> None:
    for level in (1.0, 1e-3, 7.0):
        speech = dataclasses.replace(windows(3), wave=level * windows(3).wave)
        compact = CompactWindows.of(speech)
        back = widened({"wave": compact.arrays["wave"]}, compact.scale)["wave"]
        assert np.abs(back - speech.wave).max() <= np.abs(speech.wave).max() / 65000
    silence = CompactWindows.of(dataclasses.replace(windows(2), wave=0 * windows(2).wave))
    assert not silence.arrays["wave"].any() and np.isfinite(silence.scale)
    assert compact.bytes == sum(array.nbytes for array in compact.arrays.values())
    assert fits_on_device(compact, jax.devices("cpu")[0])


def trained(
    kind: type,
    steps: int,
    counts: list[int],
    forms: KernelConfig | None = None,
    saved: TrainState | None = None,
) -> tuple[TrainState, list[dict[str, float]]]:
    """A run over random windows, cut into dispatches of the given numbers of steps; saved: to go on
    from."""
    compact = CompactWindows.of(windows(10))
    mesh = jax.make_mesh(
        (1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1]
    )
    feed = kind(compact, BatchSampler(10, 4, seed=5), steps, mesh)
    networks = build_networks(PRESET, 3, forms)
    new = saved or init_state(
        networks.synthesizer, networks.discriminator, networks.optimizer, 0
    )
    state = jax.device_put(new, NamedSharding(mesh, PartitionSpec()))
    dispatch = compile_dispatch(networks, feed, compact.scale, steps, mesh)
    rows = []
    step = int(new.step)
    for count in counts:
        state, metrics = dispatch(state, feed.held, feed(step, count), np.int32(count))
        metrics = jax.device_get(metrics)
        rows += [
            {name: float(values[i]) for name, values in metrics.items()} for i in range(count)
        ]
        assert all((values[count:] == 0).all() for values in metrics.values())
        step += count
    feed.close()
    return state, rows


@pytest.fixture(scope="module")
def one_by_one() -> tuple[TrainState, list[dict[str, float]]]:
    return trained(ResidentLoader, 1, [1] * 5)


@pytest.mark.parametrize(
    ("kind", "steps", "counts", "forms"),
    [
        (ResidentLoader, 4, [4, 1], KernelConfig(packed=True)),
        (StreamingLoader, 3, [2, 3], None),
        (ResidentLoader, 3, [3, 2], KernelConfig(packed=True, split_step_from=1)),
    ],
    ids=["resident and packed", "streamed", "in four programs"],
)
def test_dispatches_are_the_steps_one_by_one(
    kind: type, steps: int, counts: list[int], forms: KernelConfig | None, one_by_one: tuple
) -> None:
    state, rows = trained(kind, steps, counts, forms)
    expected_state, expected = one_by_one
    assert len(rows) == len(expected) == 5
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-5)
    assert int(state.step) == int(expected_state.step) == 5
    for name, value in expected_state.generator.items():
        if not name.endswith(
            "conv_k.bias"
        ):  # its gradient is zero: AdamW steps by the rounding's sign
            far = np.abs(np.asarray(state.generator[name]) - value) > 1e-4
            assert far.mean() < 0.01, name


@pytest.mark.usefixtures("every_kernel_is_large")
def test_large_kernels_are_updated_as_all_others_are(one_by_one: tuple) -> None:
    """By gradients that nothing has summed over, and those of one sub-discriminator before the next
    one's are known."""
    state, rows = trained(
        ResidentLoader, 3, [3, 2], KernelConfig(packed=True, split_step_from=1)
    )
    expected_state, expected = one_by_one
    for row, other in zip(rows, expected, strict=True):
        norms = [
            name for name in row if name.startswith("gradient_norm")
        ]  # they leave large kernels out
        assert {n: row[n] for n in row.keys() - norms} == pytest.approx(
            {n: other[n] for n in other.keys() - norms}, rel=1e-4, abs=1e-5
        )
    for network in ("generator", "discriminator"):
        ours = getattr(state, network)
        plain = getattr(expected_state, network)
        for name, value in plain.items():
            if not name.endswith("conv_k.bias"):
                assert (np.abs(np.asarray(ours[name]) - value) > 1e-4).mean() < 0.01, name
    counts = [leaf for leaf in jax.tree.leaves(state.discriminator_optimizer) if leaf.ndim == 0]
    assert counts and all(int(count) == 5 for count in counts)


@pytest.mark.usefixtures("every_kernel_is_large")
@pytest.mark.parametrize("bad", ["wave", "weights"])
def test_four_programs_skip_what_is_not_finite(bad: str) -> None:
    """A wave makes everything stay; weights that are not finite make their sub-discriminator's
    kernels stay, and all others that are not of one sub-discriminator alone."""
    networks = build_networks(PRESET, 3, KernelConfig(packed=True, split_step_from=1))
    state = networks.packed(
        init_state(networks.synthesizer, networks.discriminator, networks.optimizer, 0)
    )
    compact = CompactWindows.of(windows(4))
    batch = widened(compact.arrays, compact.scale)
    if bad == "wave":
        batch["wave"] = jnp.asarray(batch["wave"]).at[0].set(np.nan)
    else:
        name = "discriminators.1.convs.1.weight_v"
        state.discriminator[name] = (
            jnp.asarray(state.discriminator[name]).at[0, 0, 0].set(np.nan)
        )
    mesh = jax.make_mesh(
        (1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1]
    )
    before = jax.device_get(state)
    with jax.set_mesh(mesh):
        rendered = jax.jit(lambda: render(networks, state.generator, state.step, batch)[0])()
    functions = Functions(networks, lambda batch: batch)
    given = (
        state.discriminator,
        measure_norms(state).discriminator,
        state.discriminator_optimizer,
        state.step,
        state.rate,
    )
    parameters, _, optimizer, metrics = jax.jit(functions.update_discriminator)(
        *given, rendered
    )
    assert float(metrics["skipped"]) == 1
    own = {
        name
        for name in parameters
        if bad == "weights"
        and name.endswith("weight_v")
        and " as " not in name
        and "discriminators.1." not in name
    }
    for tree, old in (
        (parameters, before.discriminator),
        (optimizer[0].mu, before.discriminator_optimizer[0].mu),
    ):
        same = {name for name in tree if np.array_equal(tree[name], old[name], equal_nan=True)}
        assert same == tree.keys() - own
        assert all(np.isfinite(tree[name]).all() for name in own)


def test_four_programs_go_on_bit_for_bit() -> None:
    forms = KernelConfig(packed=True, split_step_from=1)
    state, rows = trained(ResidentLoader, 3, [3, 2], forms)
    saved, first = trained(ResidentLoader, 3, [3], forms)
    again, last = trained(ResidentLoader, 3, [2], forms, jax.device_get(saved))
    assert first + last == rows
    same = jax.tree.map(
        lambda a, b: bool((a == b).all()), jax.device_get(again), jax.device_get(state)
    )
    assert all(jax.tree.leaves(same))


def test_what_is_kept_for_the_gradient_holds_no_copies_of_parameters() -> None:
    networks = build_networks(PRESET, 3, KernelConfig(packed=True, split_step_from=1))
    state = networks.packed(
        init_state(networks.synthesizer, networks.discriminator, networks.optimizer, 0)
    )
    compact = CompactWindows.of(windows(2))
    functions = Functions(networks, lambda: widened(compact.arrays, compact.scale))
    traced = jax.jit(functions.render).trace(
        state.generator, measure_norms(state).generator, state.step
    )
    parameters = {
        id(variable) for variable in traced.jaxpr.jaxpr.invars[: len(state.generator)]
    }
    _, kept = traced.out_info
    assert not parameters & {id(variable) for variable in traced.jaxpr.jaxpr.outvars}
    assert (
        len(kept.arrays)
        == sum(number is None for number in kept.parameters)
        < len(kept.parameters)
    )


@pytest.mark.parametrize("split_step_from", [0, 1], ids=["one program", "four"])
def test_a_chips_options_reach_the_compiler(split_step_from: int) -> None:
    """One that has no such memory says so."""
    forms = KernelConfig(scoped_vmem_kib=4096, split_step_from=split_step_from)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_tpu_scoped_vmem_limit_kib"):
        trained(ResidentLoader, 1, [1], forms)


def test_a_chips_options_reach_the_compiler_of_the_evaluation() -> None:
    networks = build_networks(PRESET, 3, KernelConfig(scoped_vmem_kib=4096))
    evaluator = Evaluator(networks, windows(2, frames=WINDOW_FRAMES))
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_tpu_scoped_vmem_limit_kib"):
        evaluator(networks.synthesizer.init(0))


def test_streaming_is_bit_for_bit_what_the_device_holds(one_by_one: tuple) -> None:
    state, rows = trained(StreamingLoader, 1, [1] * 5)
    assert rows == one_by_one[1]
    assert all(
        np.array_equal(state.generator[name], value)
        for name, value in one_by_one[0].generator.items()
    )


def test_a_step_without_a_finite_gradient_changes_nothing_and_says_so() -> None:
    networks = build_networks(PRESET, 3)
    state = init_state(networks.synthesizer, networks.discriminator, networks.optimizer, 0)
    compact = CompactWindows.of(windows(4))
    batch = widened(compact.arrays, compact.scale)
    step = jax.jit(make_step(networks))
    after, metrics = step(state, dict(batch, wave=jnp.asarray(batch["wave"]).at[0].set(np.nan)))
    assert float(metrics["skipped"]) == 1 and int(after.step) == 1
    for part in (
        "generator",
        "discriminator",
        "generator_optimizer",
        "discriminator_optimizer",
    ):
        same = jax.tree.map(
            lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()),
            getattr(state, part),
            getattr(after, part),
        )
        assert all(jax.tree.leaves(same)), part
    after, metrics = step(state, batch)
    assert float(metrics["skipped"]) == 0
    slower, _ = step(dataclasses.replace(state, rate=state.rate * 0.5), batch)
    name = "dec.conv_pre.weight"
    moved, half = (
        np.asarray(each.generator[name]) - state.generator[name] for each in (after, slower)
    )
    np.testing.assert_allclose(
        2 * half, moved, atol=5e-6
    )  # against a discriminator that moved half as far, too
