"""Both ways of bringing windows to the device, and many steps in one dispatch, train alike."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from micro import MICRO

from rvc_jax.config import Forms
from rvc_jax.data.dataset import Windows
from rvc_jax.train.batches import Batches
from rvc_jax.train.dispatch import make_dispatch
from rvc_jax.train.feed import CompactWindows, ResidentFeed, StreamingFeed, fits_on_device, widened
from rvc_jax.train.pieces import PiecewiseDispatch
from rvc_jax.train.state import TrainState, fresh_state
from rvc_jax.train.step import build_networks, make_step

FRAMES = 40
PRESET = dataclasses.replace(MICRO, train=dataclasses.replace(MICRO.train, learning_rate=1e-4))


def windows(count: int, seed: int = 0) -> Windows:
    random = np.random.default_rng(seed)
    return Windows(
        wave=(0.3 * random.standard_normal((count, FRAMES * PRESET.audio.hop))).astype(np.float32),
        content=random.standard_normal((count, FRAMES // 2, PRESET.generator.content_channels)).astype(np.float16),
        f0=random.uniform(80, 300, (count, FRAMES)).astype(np.float32),
        lengths=random.integers(FRAMES - 4, FRAMES + 1, count).astype(np.int32),
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
    kind: type, steps: int, counts: list[int], forms: Forms | None = None, saved: TrainState | None = None
) -> tuple[TrainState, list[dict[str, float]]]:
    """A run over random windows, cut into dispatches of the given numbers of steps; saved: to go on from."""
    compact = CompactWindows.of(windows(10))
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    feed = kind(compact, Batches(10, 4, seed=5), steps, mesh)
    networks = build_networks(PRESET, 3, forms)
    new = saved or fresh_state(networks.synthesizer, networks.discriminator, networks.optimizer, 0)
    state = jax.device_put(new, NamedSharding(mesh, PartitionSpec()))
    if networks.in_pieces:
        dispatch = PiecewiseDispatch(networks, feed, compact.scale, steps, mesh)
    else:
        dispatch = jax.jit(make_dispatch(networks, make_step(networks), feed, compact.scale, steps), donate_argnums=0)
    rows, step = [], int(new.step)
    for count in counts:
        state, metrics = dispatch(state, feed.held, feed(step, count), np.int32(count))
        metrics = jax.device_get(metrics)
        rows += [{name: float(values[i]) for name, values in metrics.items()} for i in range(count)]
        assert all((values[count:] == 0).all() for values in metrics.values())
        step += count
    feed.close()
    return state, rows


@pytest.fixture(scope="module")
def one_by_one() -> tuple[TrainState, list[dict[str, float]]]:
    return trained(ResidentFeed, 1, [1] * 5)


@pytest.mark.parametrize(
    ("kind", "steps", "counts", "forms"),
    [
        (ResidentFeed, 4, [4, 1], Forms(packed=True)),
        (StreamingFeed, 3, [2, 3], None),
        (ResidentFeed, 3, [3, 2], Forms(packed=True, pieces_from=1)),
    ],
    ids=["resident and packed", "streamed", "in four programs"],
)
def test_dispatches_are_the_steps_one_by_one(
    kind: type, steps: int, counts: list[int], forms: Forms | None, one_by_one: tuple
) -> None:
    state, rows = trained(kind, steps, counts, forms)
    expected_state, expected = one_by_one
    assert len(rows) == len(expected) == 5
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-5)
    assert int(state.step) == int(expected_state.step) == 5
    for name, value in expected_state.generator.items():
        if not name.endswith("conv_k.bias"):  # its gradient is zero: AdamW steps by the rounding's sign
            far = np.abs(np.asarray(state.generator[name]) - value) > 1e-4
            assert far.mean() < 0.01, name


def test_four_programs_go_on_bit_for_bit() -> None:
    forms = Forms(packed=True, pieces_from=1)
    state, rows = trained(ResidentFeed, 3, [3, 2], forms)
    saved, first = trained(ResidentFeed, 3, [3], forms)
    again, last = trained(ResidentFeed, 3, [2], forms, jax.device_get(saved))
    assert first + last == rows
    same = jax.tree.map(lambda a, b: bool((a == b).all()), jax.device_get(again), jax.device_get(state))
    assert all(jax.tree.leaves(same))


def test_streaming_is_bit_for_bit_what_the_device_holds(one_by_one: tuple) -> None:
    state, rows = trained(StreamingFeed, 1, [1] * 5)
    assert rows == one_by_one[1]
    assert all(np.array_equal(state.generator[name], value) for name, value in one_by_one[0].generator.items())


def test_a_step_without_a_finite_gradient_changes_nothing_and_says_so() -> None:
    networks = build_networks(PRESET, 3)
    state = fresh_state(networks.synthesizer, networks.discriminator, networks.optimizer, 0)
    compact = CompactWindows.of(windows(4))
    batch = widened(compact.arrays, compact.scale)
    step = jax.jit(make_step(networks))
    after, metrics = step(state, dict(batch, wave=jnp.asarray(batch["wave"]).at[0].set(np.nan)))
    assert float(metrics["skipped"]) == 1 and int(after.step) == 1
    for part in ("generator", "discriminator", "generator_optimizer", "discriminator_optimizer"):
        same = jax.tree.map(
            lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()), getattr(state, part), getattr(after, part)
        )
        assert all(jax.tree.leaves(same)), part
    after, metrics = step(state, batch)
    assert float(metrics["skipped"]) == 0
    slower, _ = step(dataclasses.replace(state, rate=state.rate * 0.5), batch)
    name = "dec.conv_pre.weight"
    moved, half = (np.asarray(each.generator[name]) - state.generator[name] for each in (after, slower))
    np.testing.assert_allclose(2 * half, moved, atol=5e-6)  # against a discriminator that moved half as far, too
