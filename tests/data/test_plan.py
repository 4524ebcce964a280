import time

import numpy as np
import pytest
import soundfile

from rvc_jax.config import PrepareConfig
from rvc_jax.data.plan import ahead, make_plan
from rvc_jax.data.sources import bundled_sample
from rvc_jax.errors import UserError

CONFIG = PrepareConfig(preset="nano")
RATE = 16000


@pytest.fixture(scope="module")
def speech():
    return soundfile.read(bundled_sample("voice") / "zrtp-enroll_confirmed.flac", dtype="float32")


def test_the_sample_is_planned_to_the_last_sample(sample_voice):
    told = []
    plan = make_plan(sample_voice, CONFIG, told.append)
    assert [(p.stage, p.done, p.total) for p in told] == [("read", i + 1, 6) for i in range(6)]
    assert [p.message for p in told] == list(plan.sources.names)
    seconds = sum(soundfile.info(path).duration for path in plan.sources.paths)
    assert plan.files == 6
    assert plan.source_seconds == pytest.approx(seconds, abs=0.01)
    assert 0.8 * seconds < plan.speech_seconds <= plan.source_seconds
    planned = sum(piece.stop - piece.start for pieces in plan.splits.values() for piece in pieces)
    assert planned == round(plan.speech_seconds * RATE)
    assert plan.holdout_seconds == pytest.approx(plan.speech_seconds / 5, abs=1.65)


def test_useless_speech_is_never_held_out(tmp_path, speech):
    wave, rate = speech
    wave = wave.copy()
    wave[: 6 * rate][:: rate // 10] = np.nan  # a NaN in every tenth of a second of the first half
    soundfile.write(tmp_path / "a.wav", wave, rate, "FLOAT")
    plan = make_plan(tmp_path, CONFIG)
    assert plan.splits["holdout"]
    assert all(piece.start > 5.9 * RATE for piece in plan.splits["holdout"])
    assert plan.speech_seconds < 7


def test_short_and_unreadable_files_are_named(tmp_path, speech):
    wave, rate = speech
    soundfile.write(tmp_path / "good.wav", wave, rate)
    soundfile.write(tmp_path / "cough.wav", wave[rate : rate + rate // 5], rate)
    soundfile.write(tmp_path / "silence.wav", np.zeros(5 * rate), rate)
    (tmp_path / "text.wav").write_text("This is not a recording. " * 40)
    plan = make_plan(tmp_path, CONFIG)
    assert [(drop.file, drop.seconds, drop.reason) for drop in plan.dropped] == [
        ("cough.wav", 0.0, "shorter than 0.4 s"),
        ("silence.wav", None, "silent"),
        ("text.wav", None, "not audio"),
    ]
    assert plan.files == 3


@pytest.mark.parametrize(("window", "overlap"), [(3.2, 0.3), (3.0, 3.0), (3.0, -0.1)])
def test_windows_that_do_not_fit_are_refused(sample_voice, window, overlap):
    with pytest.raises(UserError, match="impossible"):
        make_plan(sample_voice, PrepareConfig(preset="nano", window=window, overlap=overlap))


def test_ahead_keeps_the_order_and_works_beforehand_but_not_far():
    started = []

    def work(item):
        started.append(item)
        time.sleep(0.01 * (item % 2))
        return item

    results = ahead(work, range(20))
    assert next(results) == 0
    time.sleep(0.1)
    assert 1 < len(started) <= 4
    assert list(results) == list(range(1, 20))
