"""Silence by timestamps."""

from __future__ import annotations

import pytest

from rvc_jax.audio.timeline import Timeline

FRAME = 0.02


def total(times: list[float], start: float = 0.0, is_stream: bool = False) -> float:
    """Seconds of sound and silence of frames with these timestamps."""
    timeline = Timeline(start, is_stream)
    position = 0.0
    for time in times:
        position += timeline.find_gap(time, FRAME, position) + FRAME
    return position


def frames(first: float, last: float) -> list[float]:
    return [first + FRAME * number for number in range(round((last - first) / FRAME))]


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        (frames(0, 1), 1.0),
        (frames(0.5, 1), 1.0),
        (frames(0, 1) + frames(3, 4), 4.0),
        (frames(0, 1) + frames(1.02, 2.02), 2.02),
        (frames(0, 1) + frames(0, 1), 2.0),
        (frames(0, 2) + frames(1, 3) + frames(3.5, 4), 5.0),
        (frames(0, 1) + frames(9000, 9001), 2.0),
        ([time + 0.004 * (-1) ** number for number, time in enumerate(frames(0, 10))], 10.0),
    ],
)
def test_gaps_jumps_and_jitter(times: list[float], seconds: float) -> None:
    assert total(times) == pytest.approx(seconds, abs=0.011)


def test_a_stream_sets_its_clock_anew() -> None:
    jump = frames(5, 6) + frames(30, 31)
    assert total(jump, 5, is_stream=True) == pytest.approx(2)
    assert total(jump, 5) == pytest.approx(26)


def test_a_clock_that_runs_fast_is_followed() -> None:
    drifting = [1.001 * time for time in frames(0, 600)]
    assert total(drifting) == pytest.approx(600.6, abs=0.13)
