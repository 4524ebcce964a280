"""Chunks and lookahead of a stream in frames, and the options that it refuses."""

from __future__ import annotations

import math

import pytest

from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.streaming.options import (
    EXACT,
    LOW_LATENCY,
    StreamingConfig,
    check_streaming,
    plan_frames,
)


def test_exact_looks_ahead_as_the_whole_recording() -> None:
    plan = plan_frames(EXACT, prior_context=170, high_pass_hz=48.0)
    assert (plan.chunk, plan.fade) == (240, 4)
    assert (plan.render_ahead, plan.prior_ahead, plan.content_ahead) == (52, 170, 48)
    assert plan.filter_ahead == 5000  # 15 s Hz / 48 Hz at 16 kHz
    assert plan_frames(EXACT, prior_context=170, high_pass_hz=0.0).filter_ahead == 0


def test_a_short_lookahead_goes_to_the_decoder_first() -> None:
    plan = plan_frames(LOW_LATENCY, prior_context=170, high_pass_hz=48.0)
    assert (plan.chunk, plan.ahead, plan.render_ahead, plan.filter_ahead) == (16, 32, 32, 0)
    longer = StreamingConfig(lookahead_seconds=0.8)
    plan = plan_frames(longer, prior_context=170, high_pass_hz=48.0)
    assert (plan.render_ahead, plan.prior_ahead, plan.content_ahead) == (52, 14, 14)


def test_the_prior_is_computed_in_multiples_of_the_attention_radius() -> None:
    plan = plan_frames(LOW_LATENCY, prior_context=170, high_pass_hz=48.0)
    assert plan.prior % 168 == 0 and plan.prior >= 120 + 48 + 16 + 32


@pytest.mark.parametrize(
    "options",
    [{"auto_transpose": True}, {"volume_envelope": 0.5}, {"stereo": "keep-side"}],
    ids=["auto-transpose", "volume-envelope", "stereo"],
)
def test_options_that_need_the_whole_recording_are_refused(
    options: dict[str, object],
) -> None:
    with pytest.raises(
        UserError,
        match=f"--{next(iter(options)).replace('_', '-')} can't be followed in a stream",
    ):
        check_streaming(ConvertConfig(**options), EXACT, 16000)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"chunk_seconds": 0.0},
            "chunk_seconds 0 is out of range: it must be from 0.02 to 2.4",
        ),
        ({"chunk_seconds": math.nan}, "chunk_seconds nan is out of range"),
        ({"context_seconds": 0.1}, "context_seconds 0.1 is out of range"),
        ({"lookahead_seconds": -1.0}, "lookahead_seconds -1 is out of range"),
        ({"crossfade_seconds": 3.0}, "crossfade_seconds 3 is out of range"),
        ({"gain_db": 100.0}, "gain_db 100 is out of range"),
        (
            {"lookahead_seconds": 0.1, "crossfade_seconds": 0.2},
            "is longer than lookahead_seconds 0.1",
        ),
    ],
)
def test_bad_streaming_configurations_are_refused(
    setting: dict[str, float], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_streaming(ConvertConfig(), StreamingConfig(**setting), 16000)
