"""Slicing: a frame-by-frame reference of the slicer, and properties that hold for any recording."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvc_jax.audio import blocks
from rvc_jax.audio.loudness import rms
from rvc_jax.audio.slicing import find_speech, slice_evenly, slice_recording, split_evenly
from rvc_jax.config import PrepareConfig

CONFIG = PrepareConfig()
RATE = 4000
HOP = round(CONFIG.silence_hop * RATE)


def recording(stretches: list[tuple[float, float]], seed: int = 0) -> np.ndarray:
    """Noise of given (seconds, level) stretches; level 0 is a silence with a little noise in it."""
    random = np.random.default_rng(seed)
    parts = [
        random.normal(size=round(seconds * RATE)) * max(level, 1e-4)
        for seconds, level in stretches
    ]
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)


recordings = st.builds(
    recording,
    st.lists(
        st.tuples(st.floats(0.01, 4), st.sampled_from([0.0, 0.1, 0.3, 0.006])),
        min_size=1,
        max_size=12,
    ),
    st.integers(0, 1000),
)


def levels_of(wave: np.ndarray) -> np.ndarray:
    return rms(wave, min(round(CONFIG.silence_min_interval * RATE), 4 * HOP), HOP)


def slices_frame_by_frame(wave: np.ndarray) -> list[tuple[int, int]]:
    """The slicer as a state machine over frames, as it is usually written."""
    levels = levels_of(wave)
    # 1.5 s, 0.4 s, 0.5 s in frames of 15 ms
    min_length = 100
    min_interval = 27
    kept = 33
    cuts = []
    silence = None
    piece = 0
    for i, level in enumerate(levels):
        if level < 10 ** (CONFIG.silence_db / 20):
            silence = i if silence is None else silence
            continue
        if silence is None:
            continue
        begin = silence
        silence = None
        if not (begin == 0 and i > kept) and not (
            i - begin >= min_interval and i - piece >= min_length
        ):
            continue
        left = begin + int(np.argmin(levels[begin : begin + kept + 1]))
        right = (
            i - kept + int(np.argmin(levels[max(i - kept, 0) : i + 1])) if i >= kept else None
        )
        if i - begin <= kept:
            left = right = begin + int(np.argmin(levels[begin : i + 1]))
        elif i - begin <= 2 * kept and begin > 0:
            middle = i - kept + int(np.argmin(levels[i - kept : begin + kept + 1]))
            left = min(left, middle)
            right = max(right, middle)
        cuts.append((0 if begin == 0 else left, right))
        piece = right
    if silence is not None and len(levels) - silence >= min_interval:
        cuts.append(
            (silence + int(np.argmin(levels[silence : silence + kept + 1])), len(levels))
        )
    edges = [0, *[frame for cut in cuts for frame in cut], len(levels)]
    pairs = [
        (edges[i] * HOP, min(edges[i + 1] * HOP, len(wave))) for i in range(0, len(edges), 2)
    ]
    return [(start, stop) for start, stop in pairs if start < stop]


@settings(max_examples=150, deadline=None)
@given(recordings)
def test_equals_the_state_machine(wave):
    threshold = 10 ** (CONFIG.silence_db / 20)
    expected = slices_frame_by_frame(wave) if (levels_of(wave) >= threshold).any() else []
    assert find_speech(wave, RATE, CONFIG) == expected


@settings(max_examples=150, deadline=None)
@given(recordings)
def test_pieces_are_ordered_and_only_silence_is_dropped(wave):
    pieces = find_speech(wave, RATE, CONFIG)
    edges = [edge for piece in pieces for edge in piece]
    assert edges == sorted(edges) and all(start < stop for start, stop in pieces)
    assert all(0 <= edge <= len(wave) for edge in edges)
    kept = np.zeros(len(wave), bool)
    for start, stop in pieces:
        kept[start:stop] = True
    levels = levels_of(wave)
    frames = np.arange(len(levels)) * HOP
    dropped = levels[(frames < len(wave)) & ~kept[np.minimum(frames, len(wave) - 1)]]
    assert (dropped < 10 ** (CONFIG.silence_db / 20)).all()


@settings(max_examples=30, deadline=None)
@given(recordings, st.integers(1, 5000))
def test_a_wave_that_is_metered_in_blocks_has_the_same_pieces(wave, block):
    expected = find_speech(wave, RATE, CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", block)
        assert find_speech(wave, RATE, CONFIG) == expected


def test_silence_has_no_pieces():
    assert find_speech(np.zeros(0, np.float32), RATE, CONFIG) == []
    assert find_speech(np.zeros(10 * RATE, np.float32), RATE, CONFIG) == []
    assert find_speech(recording([(10, 0.0)]), RATE, CONFIG) == []


def test_a_short_wave_is_one_piece():
    assert find_speech(recording([(1.0, 0.2)]), RATE, CONFIG) == [(0, RATE)]


def test_two_sentences_with_a_long_pause():
    pieces = find_speech(recording([(3, 0), (4, 0.2), (3, 0), (5, 0.2), (3, 0)]), RATE, CONFIG)
    assert len(pieces) == 2
    for (start, stop), (speech_start, speech_stop) in zip(
        pieces, [(3, 7), (10, 15)], strict=True
    ):
        assert (
            0 <= speech_start - start / RATE <= 0.55 and 0 <= stop / RATE - speech_stop <= 0.55
        )


@pytest.mark.parametrize("rate", [16000, 32000, 40000, 44100, 48000])
@settings(max_examples=60, deadline=None)
@given(start=st.integers(0, 10**7), seconds=st.floats(0, 60))
def test_windows_cover_the_piece(rate, start, seconds):
    stop = start + int(seconds * rate)
    result = split_evenly(start, stop, rate, CONFIG)
    assert all(0 < b - a <= round(3.3 * rate) for a, b in result)
    assert all(b - a == 3 * rate for a, b in result[:-1])
    assert all(
        later[0] - earlier[0] == round(2.7 * rate)
        for earlier, later in itertools.pairwise(result)
    )
    if stop > start:
        assert result[0][0] == start and result[-1][1] == stop
        assert all(later[0] < earlier[1] for earlier, later in itertools.pairwise(result))
    else:
        assert result == []


def test_a_rest_up_to_the_overlap_is_kept_whole():
    assert split_evenly(0, 132000, 40000, CONFIG) == [(0, 132000)]
    assert split_evenly(0, 132001, 40000, CONFIG) == [(0, 120000), (108000, 132001)]


@pytest.mark.parametrize("rate", [16000, 40000, 44100, 48000])
@settings(max_examples=60, deadline=None)
@given(samples=st.integers(0, 3000000), overlap=st.sampled_from([0.0, 0.1, 0.3, 1.5]))
def test_chunks_are_equally_long_and_the_last_one_is_kept(rate, samples, overlap):
    config = dataclasses.replace(CONFIG, overlap_len=overlap)
    result = slice_evenly(samples, rate, config)
    assert result[0][0] == 0 and result[-1][1] == samples
    assert all(stop - start == round(3 * rate) for start, stop in result[:-1])
    assert 0 <= result[-1][1] - result[-1][0] <= round(3 * rate)
    stride = round((3 - overlap) * rate)
    assert all(later[0] - earlier[0] == stride for earlier, later in itertools.pairwise(result))
    assert all(later[1] > earlier[1] for earlier, later in itertools.pairwise(result))


def test_the_ways_of_cutting():
    def cuts(wave, slicing):
        return [
            (a / RATE, b / RATE)
            for a, b in slice_recording(
                wave, RATE, dataclasses.replace(CONFIG, slicing=slicing)
            )
        ]

    two_sentences = recording([(2, 0.2), (2, 0.0), (4, 0.2)])
    (first, *_, last) = cuts(two_sentences, "auto")
    assert first[0] == 0 and 2 <= first[1] <= 2.6 and last[1] == 8
    assert sum(stop - start for start, stop in cuts(two_sentences, "auto")) < 7.5
    assert cuts(two_sentences, "simple") == [(0, 3), (2.7, 5.7), (5.4, 8)]
    assert cuts(two_sentences, "skip") == [(0, 3), (2.7, 5.7), (5.4, 8)]
    for seconds, expected in ((3.36, [(0, 3.36)]), (3.4, [(0, 3), (2.7, 3.4)])):
        assert cuts(recording([(seconds, 0.2)]), "skip") == expected
    assert cuts(recording([(3.2, 0.2)]), "simple") == [(0, 3), (2.7, 3.2)]
    assert cuts(recording([(9, 0.0)]), "auto") == []
    assert cuts(recording([(3, 0.0)]), "skip") == [(0, 3)]
