"""What both converters share of a voice."""

from __future__ import annotations

import numpy as np
import pytest
from micro import MICRO, MICRO_SMALL
from untrained_voices import untrained_voice

from rvc_jax.config import ConvertConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.engine import Engine


@pytest.fixture(scope="module")
def engine() -> Engine:
    rows = np.random.default_rng(0).standard_normal((40, 384)).astype(np.float32)
    model = untrained_voice(MICRO, index=rows, median_f0=(200.0,))
    return Engine.from_model(model, ConvertConfig())


def test_other_options_share_everything_that_is_loaded(engine: Engine) -> None:
    other = engine.with_config(ConvertConfig(transpose=3, index_rate=0))
    assert other.voice is engine.voice and other.content is engine.content
    assert other.pitch is engine.pitch and other.config.transpose == 3
    assert engine.config.transpose == 0


def test_options_are_checked_first(engine: Engine) -> None:
    with pytest.raises(UserError, match="--protect 2 is out of range"):
        engine.with_config(ConvertConfig(protect=2))


def test_the_transpose_meets_the_median_of_the_voice(engine: Engine) -> None:
    automatic = engine.with_config(ConvertConfig(auto_transpose=True, transpose=1))
    f0 = np.float32([0, 100, 100, 100, 0])
    assert automatic.choose_transpose(f0) == 13
    assert automatic.choose_transpose(0 * f0) == 1  # nothing is voiced
    assert engine.choose_transpose(f0) == 0


def test_content_is_mixed_at_the_frame_rate(engine: Engine) -> None:
    """Unvoiced frames, and those without a pitch, get less of the index."""
    content = np.random.default_rng(1).standard_normal((3, 384)).astype(np.float32)
    plain = np.repeat(content, 2, axis=0)
    without_index = engine.with_config(ConvertConfig(index_rate=0))
    np.testing.assert_array_equal(without_index.mix_index(content, np.ones(6)), plain)
    f0 = np.float32([100, 100, 0, 0])
    moved = np.abs(engine.mix_index(content, f0) - plain).mean(axis=1)
    assert moved.shape == (6,) and (moved[:2] > 0).all()
    voiced = np.abs(engine.mix_index(content, np.ones(6)) - plain).mean(axis=1)
    np.testing.assert_allclose(moved[2:], 0.33 * voiced[2:], rtol=1e-3)


def test_voices_of_the_small_preset_are_not_mixed_unless_asked(engine: Engine) -> None:
    small = untrained_voice(MICRO_SMALL, index=engine.voice.model.index)
    content = np.random.default_rng(1).standard_normal((3, 384)).astype(np.float32)
    plain = np.repeat(content, 2, axis=0)
    by_default = Engine.from_model(small, ConvertConfig())
    np.testing.assert_array_equal(by_default.mix_index(content, np.ones(6)), plain)
    asked = by_default.with_config(ConvertConfig(index_rate=0.3))
    moved = asked.mix_index(content, np.ones(6))
    # The share of the other voices, whose default it is.
    np.testing.assert_allclose(moved, engine.mix_index(content, np.ones(6)), rtol=1e-5)
    assert np.abs(moved - plain).mean() > 0.01
