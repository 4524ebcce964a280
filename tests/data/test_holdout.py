"""The hold-out: its size, its place, and what it leaves to the training."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rvc_jax.config import PrepareConfig
from rvc_jax.data import holdout

BLOCK = 3000
lengths_of_slices = st.lists(st.integers(400, 3300), max_size=120)


def choose(lengths):
    target = holdout.target_holdout_seconds(sum(lengths) / 1000, PrepareConfig()) * 1000
    return target, holdout.choose_holdout(lengths, target, BLOCK)


@settings(deadline=None, max_examples=200)
@given(lengths_of_slices)
def test_the_size_is_the_wanted_one_within_half_a_slice(lengths):
    target, held = choose(lengths)
    size = sum(length for length, is_held in zip(lengths, held, strict=True) if is_held)
    if len(lengths) < 2:
        assert size == 0
    else:
        assert held.any() and not held.all()
        assert abs(size - target) <= max(lengths) / 2 or size == min(lengths)


def test_the_target_has_bounds():
    config = PrepareConfig()
    assert holdout.target_holdout_seconds(20, config) == 4  # a fifth
    assert holdout.target_holdout_seconds(100, config) == 10  # holdout_min
    assert holdout.target_holdout_seconds(600, config) == 30  # holdout
    assert holdout.target_holdout_seconds(36000, config) == 60  # holdout_max


def test_a_long_recording_gives_four_blocks_spread_over_it():
    lengths = [2700] * 444  # twenty minutes
    _, held = choose(lengths)
    edges = np.flatnonzero(np.diff(held.astype(int), prepend=0, append=0)) * 2.7
    starts = edges[::2]
    stops = edges[1::2]
    assert len(starts) == holdout.MAX_BLOCKS
    np.testing.assert_allclose((starts + stops) / 2, [150, 450, 750, 1050], atol=4)
    np.testing.assert_allclose(stops - starts, 15, atol=2.7)


def test_no_holdout_when_none_is_wanted():
    assert not holdout.choose_holdout([3000, 3000, 3000], 0, BLOCK).any()


ranges = st.lists(
    st.tuples(st.integers(0, 500), st.integers(1, 200)).map(lambda r: (r[0], r[0] + r[1])),
    max_size=5,
)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 300), st.integers(1, 300), ranges, st.integers(1, 20))
def test_what_is_left_is_free_of_the_holdout_on_the_grid_and_the_longest(
    start, length, held, step
):
    stop = start + length
    begin, end = holdout.find_longest_free_range(start, stop, held, step)
    assert start <= begin <= end <= stop
    assert not any(a < end and b > begin for a, b in held) or begin == end
    assert (begin - start) % step == 0
    assert end == stop or (end - begin) % step == 0
    free = np.ones(stop - start, bool)
    for a, b in held:
        free[max(a - start, 0) : max(b - start, 0)] = False
    edges = np.flatnonzero(np.diff(free.astype(int), prepend=0, append=0))
    longest = max((b - a for a, b in zip(edges[::2], edges[1::2], strict=True)), default=0)
    assert longest - 2 * (step - 1) <= end - begin <= longest


def test_without_a_holdout_everything_is_left():
    assert holdout.find_longest_free_range(7, 100, [(0, 7), (100, 120)], 10) == (7, 100)
    assert holdout.find_longest_free_range(0, 100, [(95, 200)], 10) == (0, 90)
    assert holdout.find_longest_free_range(0, 100, [(0, 5)], 10) == (10, 100)
    assert holdout.find_longest_free_range(10, 20, [(0, 100)], 5) == (10, 10)
