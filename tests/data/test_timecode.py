"""Moments as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvc_jax.data.timecode import parse_time
from rvc_jax.errors import UserError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("62.5", 62.5),
        ("1:02.5", 62.5),
        ("1:02:03.5", 3723.5),
        ("0:00:00.25", 0.25),
        ("90", 90),
        ("75:00", 4500),
        ("100:00:00", 360000),
        (" 1:05 ", 65),
        ("1:5", 65),
        ("5.", 5),
        ("01:02:03", 3723),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-1",
        "+1",
        "1:60",
        "1:60:00",
        "1:2:3:4",
        "::",
        "1:",
        ":30",
        "1.5:00",
        "nan",
        "inf",
        "1e3",
        "1_000",
        "1,5",
        "0x10",
        "1h2m",
        "soon",
        "१:००",
        "1:02\n:03",
        "9" * 5000,
        "0:" * 5000,
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not a time") as error:
        parse_time(text)
    assert len(str(error.value)) < 160 and "\n" not in str(error.value)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 100 * 3600 * 1000 - 1), st.integers(1, 3))
def test_a_written_time_is_read_as_it_was_meant(milliseconds: int, fields: int) -> None:
    seconds, rest = divmod(milliseconds, 1000)
    minutes = seconds // 60
    hours = seconds // 3600
    text = {
        1: f"{seconds}.{rest:03d}",
        2: f"{minutes}:{seconds % 60:02d}.{rest:03d}",
        3: f"{hours}:{minutes % 60:02d}:{seconds % 60:02d}.{rest:03d}",
    }[fields]
    assert parse_time(text) == pytest.approx(milliseconds / 1000, abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789:.-+ eE_,naif", max_size=20))
def test_a_text_is_a_time_or_one_clear_line(text: str) -> None:
    try:
        assert 0 <= parse_time(text) < 1e11
    except UserError as error:
        assert "is not a time" in str(error)
