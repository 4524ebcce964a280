"""Pitch curves: properties of every curve, and pitch files that are malformed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.infer import f0_curve
from rvc_jax.infer.f0_curve import (
    F0Curve,
    F0Points,
    read_f0_points,
    replace_from_points,
    round_to_semitones,
    snap_to_scale,
)

PITCHES = st.lists(st.just(0.0) | st.floats(40, 1200), min_size=1, max_size=50).map(
    lambda values: np.array(values, np.float32)
)
KEYS = st.sampled_from(["C", "F#", "Bb", "B"])
SCALES = {
    "chromatic": range(12),
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
}
NUMBER_OF_KEY = {"C": 0, "F#": 6, "Bb": 10, "B": 11}


def notes_of(f0: np.ndarray) -> np.ndarray:
    return 69 + 12 * np.log2(f0.astype(np.float64) / 440)


@settings(max_examples=100, deadline=None)
@given(PITCHES, KEYS, st.sampled_from(list(SCALES)))
def test_full_autotune_gives_the_nearest_notes(f0: np.ndarray, key: str, scale: str) -> None:
    result = snap_to_scale(f0, 1.0, key, scale)
    assert result.dtype == np.float32 and ((result > 0) == (f0 > 0)).all()
    before = notes_of(f0[f0 > 0])
    after = notes_of(result[f0 > 0])
    assert np.abs(after - after.round()).max(initial=0) < 1e-4
    allowed = np.array(
        [n for n in range(140) if (n - NUMBER_OF_KEY[key]) % 12 in SCALES[scale]]
    )
    nearest = np.abs(before[:, None] - allowed).min(axis=1)
    assert np.abs(np.abs(after - before) - nearest).max(initial=0) < 1e-4
    assert np.isin(after.round(), allowed).all()
    np.testing.assert_allclose(
        snap_to_scale(result, 1.0, key, scale), result, rtol=1e-6
    )  # already in tune


@settings(max_examples=50, deadline=None)
@given(PITCHES, st.floats(0, 1), KEYS)
def test_autotune_strength_is_a_share_of_the_way(
    f0: np.ndarray, strength: float, key: str
) -> None:
    voiced = f0 > 0
    before, whole, some = (
        notes_of(curve[voiced])
        for curve in (
            f0,
            snap_to_scale(f0, 1, key, "major"),
            snap_to_scale(f0, strength, key, "major"),
        )
    )
    np.testing.assert_allclose(some, before + strength * (whole - before), atol=1e-4)


def test_autotune_on_known_notes() -> None:
    f0 = np.float32([0, 452.0, 427.0, 261.6, 277.0, 100.0])
    np.testing.assert_allclose(
        snap_to_scale(f0, 1.0),
        [0, 440, 440 * 2 ** (-1 / 12), 261.63, 277.18, 97.999],
        atol=0.01,
    )
    in_c = snap_to_scale(
        f0, 1.0, "C", "major"
    )  # 427 Hz is 52 cents under A: a G sharp if there is one
    np.testing.assert_allclose(in_c, [0, 440, 440, 261.63, 261.63, 97.999], atol=0.02)


@settings(max_examples=100, deadline=None)
@given(st.floats(50, 1100), st.floats(50, 1200))
def test_rounding_to_semitones(median: float, target: float) -> None:
    shift = round_to_semitones(median, target)
    assert shift == int(shift)
    assert abs(12 * np.log2(median * 2 ** (shift / 12) / target)) <= 0.5 + 1e-9


def test_choice_of_the_transpose() -> None:
    assert F0Curve(ConvertConfig(transpose=1.5)).choose_transpose(100, 200) == 1.5
    assert (
        F0Curve(ConvertConfig(transpose=1.5, auto_transpose=True)).choose_transpose(100, 200)
        == 13.5
    )
    assert F0Curve(ConvertConfig(proposed_pitch=True)).choose_transpose(110, 200) == 6
    proposed = ConvertConfig(proposed_pitch=True, proposed_pitch_threshold=255, transpose=-1)
    assert F0Curve(proposed).choose_transpose(110, 0) == 14
    for config in (ConvertConfig(auto_transpose=True), proposed):
        assert F0Curve(config).choose_transpose(0, 0) == config.transpose  # nothing is voiced


def test_autotune_comes_after_the_shift() -> None:
    f0 = F0Curve(ConvertConfig(autotune=True)).apply(np.float32([220, 0]), 0, 0.4)
    np.testing.assert_allclose(f0, [220, 0], rtol=1e-6)
    f0 = F0Curve(ConvertConfig(autotune=True)).apply(np.float32([220, 0]), 0, 0.6)
    np.testing.assert_allclose(f0, [220 * 2 ** (1 / 12), 0], rtol=1e-6)


def test_a_file_replaces_the_pitch(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("0.02,100\n0.06,400\n0.08,0\n0.1,200\n")
    f0 = np.full(16, 150, np.float32)
    f0 = F0Curve(ConvertConfig(f0_file=path, transpose=12)).apply(f0, -2, 12)
    expected = [300, 300, 300, 300, 100, 141.42, 200, 282.84, 400, 0, 0, 0, 200, 300, 300, 300]
    np.testing.assert_allclose(f0, expected, rtol=1e-4)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.just(0.0) | st.floats(50, 1100)),
        min_size=1,
        unique_by=lambda p: p[0],
    ),
    st.integers(1, 39),
)
def test_frames_are_independent(points: list[tuple[int, float]], cut: int) -> None:
    """Blocks give the same as the whole, and the curve passes through its points."""
    times, hz = (np.array(column, np.float64) for column in zip(*sorted(points), strict=True))
    curve = F0Points(times / 400, hz)
    f0 = np.full(100, 77, np.float32)
    whole = replace_from_points(f0, -10, curve)
    blocks = [
        replace_from_points(f0[:cut], -10, curve),
        replace_from_points(f0[cut:], cut - 10, curve),
    ]
    np.testing.assert_array_equal(whole, np.concatenate(blocks))
    for time, value in zip(times, hz, strict=True):
        if time % 4 == 0:
            assert whole[int(time) // 4 + 10] == pytest.approx(value, rel=1e-5)
    outside = (
        np.abs(np.arange(-10, 90) * 4 - (times[0] + times[-1]) / 2) > (times[-1] - times[0]) / 2
    )
    assert (whole[outside] == 77).all()
    assert ((whole == 0) | (whole > 49)).all() and whole.max() <= max(hz.max(), 77) * 1.0001


@pytest.mark.parametrize(
    "text",
    [
        "0,100\n0.5,200",
        "# made by hand\n\n0,100  # the first\n0.5,200\n",
        "\ufefftime,f0\r\n0,100\r\n0.5,200\r\n",
        "0\t100\n0.5 200\n",
        "0 ; 100\n.5 ; 2e2\n",
        "#" + "x" * 100_000 + "\n0,100\n0.5,200",
    ],
)
def test_spellings_of_pitch_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(text, encoding="utf-8")
    points = read_f0_points(path)
    assert points.seconds.tolist() == [0, 0.5] and points.hz.tolist() == [100, 200]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            b"0,100\n# x\n\n0.5;much\n",
            "line 4: '0.5;much' is not a point of a pitch curve: it must be seconds,Hz",
        ),
        (b"0,100\ntime,f0\n", "line 2: 'time,f0' is not a point"),
        (b"0,100\n0.5\n", "line 2: '0.5' is not a point"),
        (b"0,100,7\n", "line 1: '0,100,7' is not a point"),
        (b"0,100\n0,5;200\n", "line 2: '0,5;200' is not a point"),
        (b"0,100\n0.7,100\n0.5,100\n", "line 3: .*its time must be later than 0.7 s"),
        (b"0.7,100\n0.7,100\n", "line 2: .*its time must be later than 0.7 s"),
        (b"-1,100\n", "line 1: .*its time must be from 0 s to 24 hours"),
        (b"1e9,100\n", "line 1: .*its time must be from 0 s to 24 hours"),
        (b"nan,100\n1,100", "line 1: .*its time must be|line 1: .*not a point"),
        (b"0,nan9\n", "line 1: .*not a point"),
        (b"0,100\n1,nan\n", "line 2: .*its pitch must be 50 to 1100 Hz, or 0 for unvoiced"),
        (b"0,-1\n", "line 1: .*its pitch must be 50"),
        (b"0,5000\n", "line 1: .*its pitch must be 50"),
        (b"9" * 5000 + b"\n", "line 1: '9{40}\\.\\.\\.' is not a point"),
        (b"\x1b[2J,7\n", "line 1: '\\?\\[2J,7' is not a point"),
        (b"", "has no points in it"),
        (b"# nothing\n", "has no points in it"),
        (b"RIFF\xff\xfe\x00", "is not text"),
        (b"0,100\n1,100\n2,100\n3,100\n", "has more than 3 lines"),
    ],
)
def test_malformed_pitch_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes, message: str
) -> None:
    if b"3,100" in text:
        monkeypatch.setattr(f0_curve, "MAX_LINES", 3)
    path = tmp_path / "curve.csv"
    path.write_bytes(text)
    with pytest.raises(UserError, match=message) as raised:
        read_f0_points(path)
    assert str(path) in str(raised.value) and str(raised.value).isprintable()


def test_missing_pitch_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_f0_points(tmp_path / "gone.csv")
    with pytest.raises(UserError, match="is not a file"):
        read_f0_points(tmp_path)
