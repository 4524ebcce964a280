"""Advice on what preparation drops."""

from __future__ import annotations

from rvc_jax.config import PrepareConfig
from rvc_jax.data.drop_advice import advise_on_drops


def test_every_kind_of_reason_is_advised_on_once() -> None:
    config = PrepareConfig(silence_db=-30, max_peak=3)
    reasons = ["silent", "silent", "shorter than 0.4 s", "too loud", "the same sound as a.wav"]
    silent, loud, short = advise_on_drops(reasons, config)
    assert silent.startswith("silent: nothing in it is above --silence-db -30")
    assert "--max-peak 3" in loud and "--min-slice" in short
    assert not advise_on_drops(["within the hold-out", None], config)
