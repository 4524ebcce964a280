import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rvc_jax.config import PrepareConfig
from rvc_jax.data import holdout
from rvc_jax.data.holdout import Piece

RATE = 1000
LONGEST = 3300
BLOCK = 3000
MIN_PIECE = 400


@st.composite
def pieces(draw):
    """Pieces of several files, with silences between them; some touch."""
    result = []
    for file in range(draw(st.integers(1, 6))):
        position = 0
        for _ in range(draw(st.integers(0, 8))):
            position += draw(st.integers(0, 2000))
            length = draw(st.integers(MIN_PIECE, 40000))
            result.append(Piece(file, position, position + length))
            position += length
    return result


def divide(pieces):
    atoms = holdout.divide(pieces, LONGEST)
    lengths = [atom.stop - atom.start for atom in atoms]
    target = holdout.target_seconds(sum(lengths) / RATE, PrepareConfig()) * RATE
    held = holdout.choose(lengths, target, BLOCK)
    return atoms, lengths, target, held


@settings(deadline=None, max_examples=200)
@given(pieces())
def test_every_sample_is_on_exactly_one_side(pieces):
    atoms, _, _, held = divide(pieces)
    train, held_out = holdout.join(pieces, atoms, ~held), holdout.join(pieces, atoms, held)
    ranges = sorted([*train, *held_out])
    assert sum(stop - start for _, start, stop in ranges) == sum(stop - start for _, start, stop in pieces)
    for (file, start, stop), (next_file, next_start, _) in zip(ranges, ranges[1:], strict=False):
        assert start < stop
        assert file < next_file or stop <= next_start
    for file, start, stop in ranges:  # within one piece: silence is not let in again
        assert any(p.file == file and p.start <= start and stop <= p.stop for p in pieces)


@settings(deadline=None, max_examples=200)
@given(pieces())
def test_no_part_of_a_piece_is_a_crumb(pieces):
    atoms, _, _, held = divide(pieces)
    for side in (held, ~held):
        for file, start, stop in holdout.join(pieces, atoms, side):
            whole = Piece(file, start, stop) in pieces
            assert whole or stop - start >= LONGEST // 2


@settings(deadline=None, max_examples=200)
@given(pieces())
def test_the_size_is_the_wanted_one_within_half_an_atom(pieces):
    atoms, lengths, target, held = divide(pieces)
    size = sum(length for length, is_held in zip(lengths, held, strict=True) if is_held)
    if len(atoms) < 2:
        assert size == 0
    else:
        assert held.any() and not held.all()
        assert abs(size - target) <= max(lengths) / 2 or size == min(lengths)


def test_the_target_has_bounds():
    config = PrepareConfig()
    assert holdout.target_seconds(20, config) == 4  # a fifth
    assert holdout.target_seconds(100, config) == 10  # holdout_min
    assert holdout.target_seconds(600, config) == 30  # holdout
    assert holdout.target_seconds(36000, config) == 60  # holdout_max


def test_one_long_recording_gives_four_blocks_spread_over_it():
    recording = [Piece(0, 0, 1200 * RATE)]
    atoms, _, _, held = divide(recording)
    blocks = [(start / RATE, stop / RATE) for _, start, stop in holdout.join(recording, atoms, held)]
    assert len(blocks) == holdout.MAX_BLOCKS
    centres = [(start + stop) / 2 for start, stop in blocks]
    np.testing.assert_allclose(centres, [150, 450, 750, 1050], atol=4)
    np.testing.assert_allclose([stop - start for start, stop in blocks], 15, atol=3.3)


def test_short_pieces_go_to_one_side_as_a_whole():
    words = [Piece(file, 0, 800) for file in range(500)]
    atoms, _, _, held = divide(words)
    held_out = holdout.join(words, atoms, held)
    assert set(held_out) < set(words)
    assert len(held_out) == 25  # 5 % of 400 s
    files = np.array([piece.file for piece in held_out])
    assert (np.diff(files) > 1).sum() == holdout.MAX_BLOCKS - 1


def test_no_holdout_when_none_is_wanted():
    assert not holdout.choose([3000, 3000, 3000], 0, BLOCK).any()
