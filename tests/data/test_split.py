"""Training, hold-out, or dropped: every slice is accounted for."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvc_jax.config import PrepareConfig
from rvc_jax.data.cut import Cut
from rvc_jax.data.dataset import Drop
from rvc_jax.data.extraction import BLOCK, Analysis, Slice, count_slice_frames
from rvc_jax.data.sources import Sources
from rvc_jax.data.split import check_settings, split_slices
from rvc_jax.errors import UserError

CONFIG = PrepareConfig(preset="nano").resolved()
RATE = 16000
STRIDE = round(2.7 * RATE)
WINDOW = 3 * RATE


def source(name, *slices, speaker="ann", key=None, error=None):
    seconds = max((item.stop for item in slices), default=0) / RATE
    return Analysis(Cut(Path(name), name, speaker), key or name, seconds, slices, error=error)


def windows(count, start=0):
    return [Slice(start + i * STRIDE, start + i * STRIDE + WINDOW, None) for i in range(count)]


def plan_of(*analyses):
    return split_slices(
        Sources(Path("speech"), tuple(a.cut for a in analyses)), CONFIG, analyses
    )


def ranges(plan, split, number):
    return [(item.start, item.stop) for item in plan.assigned[number] if item.split == split]


def test_a_training_slice_gives_up_what_it_shares_with_the_holdout():
    plan = plan_of(source("a", *windows(30)))
    held = ranges(plan, "holdout", 0)
    assert [stop - start for start, stop in held] == [WINDOW] * len(held)
    train = ranges(plan, "train", 0)
    assert not any(a < d and c < b for (a, b), (c, d) in itertools.product(train, held))
    lengths = {stop - start for start, stop in train}
    assert lengths == {WINDOW, STRIDE}  # the neighbors of the hold-out are 0.3 s shorter
    assert plan.count("train") + plan.count("holdout") == 30
    assert plan.speech_seconds == pytest.approx(29 * 2.7 + 3)
    assert plan.holdout_seconds == pytest.approx(10, abs=2)
    for item in plan.assigned[0]:
        assert (item.start - plan.analyses[0].slices[item.number].start) % (2 * 160) == 0


def test_every_speaker_gives_his_share_of_the_holdout():
    speakers = [
        source(f"{name}/{i}", *windows(10), speaker=name)
        for name in ("ann", "bob")
        for i in range(3)
    ]
    plan = plan_of(*speakers)
    for name in ("ann", "bob"):
        mine = [n for n, analysis in enumerate(plan.analyses) if analysis.cut.speaker == name]
        held = sum(len(ranges(plan, "holdout", n)) for n in mine)
        assert 1 <= held <= 3


def test_useless_slices_are_dropped_with_their_reason_and_never_held_out():
    bad = [Slice(*item[:2], "clipped") for item in windows(10)]
    plan = plan_of(
        source("a", *bad, *windows(5, 40 * RATE)), source("b", error="not audio"), source("c")
    )
    assert [drop.reason for drop in plan.dropped] == ["clipped"] * 10 + ["not audio", "silent"]
    assert plan.dropped[1] == Drop("a", 2.7, "clipped")
    assert all(item.number >= 10 for item in plan.assigned[0])
    assert plan.count("train") + plan.count("holdout") == 5
    assert plan.assigned[1:] == ((), ())


def test_the_same_sound_under_two_names_is_used_once():
    plan = plan_of(source("a", *windows(5)), source("b", *windows(5), key="a"))
    assert plan.assigned[1] == ()
    assert plan.dropped == (Drop("b", None, "the same sound as a"),)
    assert plan.speech_seconds == pytest.approx(4 * 2.7 + 3)


def test_a_rest_within_the_holdout_is_named():
    slices = [*windows(4), Slice(4 * STRIDE - 5000, 4 * STRIDE + 1500, None)]
    plan = plan_of(source("a", *windows(20)), source("b", *slices))
    total = plan.count("train") + plan.count("holdout") + len(plan.dropped)
    assert total == 25
    assert {drop.reason for drop in plan.dropped} <= {"within the hold-out"}


def test_no_usable_speech_is_refused_with_reasons():
    silent = source("a")
    short = source("b", Slice(0, 3000, "shorter than 0.4 s"))
    with pytest.raises(
        UserError,
        match=r"0\.2 s of sound in 3 files: silent \(1\), shorter than 0.4 s \(1\), not",
    ):
        plan_of(silent, short, source("c", error="not audio"))


BAD_SETTINGS = [
    {"chunk_len": 3.2, "overlap_len": 0.3},
    {"overlap_len": 3.0},
    {"overlap_len": -0.1},
    {"min_slice": 0.0},
    {"holdout": 1.5},
    {"clean_strength": -1.0},
    {"vad_threshold": 2.0},
    {"feature_batch": 0},
    {"high_pass_hz": 5000.0},
    {"loudness_lufs": 3.0},
]


@pytest.mark.parametrize("values", BAD_SETTINGS, ids=str)
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(UserError, match=r"impossible|too short|not between"):
        check_settings(PrepareConfig(preset="nano", **values))


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=30),
        min_size=1,
        max_size=5,
    )
)
def test_no_sample_is_on_both_sides_and_every_slice_is_accounted_for(files):
    analyses = []
    for number, file in enumerate(files):
        slices = []
        position = 0
        for gap, good in file:
            position += gap * 1000
            slices.append(Slice(position, position + WINDOW, None if good else "clipped"))
            position += STRIDE
        analyses.append(source(str(number), *slices))
    if not any(analysis.good for analysis in analyses):
        return
    plan = plan_of(*analyses)
    for number, analysis in enumerate(analyses):
        train = ranges(plan, "train", number)
        held = ranges(plan, "holdout", number)
        assert not any(a < d and c < b for (a, b), (c, d) in itertools.product(train, held))
        dropped = [
            drop
            for drop in plan.dropped
            if drop.file == analysis.cut.name and drop.seconds is not None
        ]
        assert len(train) + len(held) + len(dropped) == len(analysis.slices)


def test_blocks_hold_the_good_slices_in_order():
    analysis = source("a", Slice(0, 9, "clipped"), *windows(BLOCK + 1))
    assert analysis.blocks() == [list(range(1, BLOCK + 1)), [BLOCK + 1]]


def test_frames_are_an_even_number_and_no_more_than_a_window():
    assert count_slice_frames(0, 3 * RATE, RATE) == 300
    assert count_slice_frames(5, 5 + 160 * 41 + 159, RATE) == 40
    assert count_slice_frames(0, 10 * RATE, RATE) == 336
