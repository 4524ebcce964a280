"""What an audit advises."""

from __future__ import annotations

import dataclasses

import pytest
from audits import advice_by_topic, audit_files, describe_dataset, make_records

from rvc_jax.data.audit.advice import advise, name_note, recommend_preset
from rvc_jax.data.audit.audit import Audit, measure
from rvc_jax.data.dataset import Drop


def test_a_preset_that_the_speech_fills_is_right(speech):
    found = audit_files(speech, "32k")
    advice = advice_by_topic(found)["sample rate and preset"]
    assert (advice.verdict, recommend_preset(found)) == ("good", "32k")
    assert "may hold more" in advice.reason
    of_v1 = dataclasses.replace(found, preset="48k-v1", sample_rate=48000)
    assert recommend_preset(of_v1) == "32k-v1"
    for preset in ("nano", "small"):
        assert recommend_preset(dataclasses.replace(found, preset=preset)) is None


def test_a_small_preset_is_for_minutes_of_training(clean):
    advice = advice_by_topic(dataclasses.replace(clean, preset="small", bandwidth_hz=8000.0))
    assert advice["sample rate and preset"].verdict == "good"
    assert "small is made for a first voice" in advice["sample rate and preset"].text
    assert "on a CPU" in advice["epochs"].reason


@pytest.mark.parametrize(
    ("hz", "name"), [(440, "A4"), (261.63, "C4"), (27.5, "A0"), (466, "A#4"), (1046.5, "C6")]
)
def test_names_of_notes(hz, name):
    assert name_note(hz) == name


@pytest.mark.parametrize(
    ("minutes", "verdict"),
    [(2, "problem"), (7, "notice"), (20, "good"), (45, "good"), (200, "good")],
)
def test_how_much_speech_is_enough(clean, minutes, verdict):
    voices = (dataclasses.replace(clean.voices[0], minutes=minutes),)
    advice = advice_by_topic(dataclasses.replace(clean, voices=voices))["amount of speech"]
    assert advice.verdict == verdict
    assert ("more than a voice needs" in advice.text) == (minutes > 60)


def test_many_speakers_share_one_line(clean):
    voices = tuple(
        dataclasses.replace(clean.voices[0], name=f"s{i}", minutes=3.0 * i) for i in range(6)
    )
    advice = advice_by_topic(dataclasses.replace(clean, voices=voices))
    assert advice["amount of speech"].text == "4 of 6 speakers have less than 10 minutes."
    assert not any(topic.startswith("pitch span") for topic in advice)


@pytest.mark.parametrize(
    ("slices", "epochs"), [(440, "180 to 450"), (80, "500 to 1000"), (50000, "20 to 50")]
)
def test_epochs_follow_from_steps(clean, slices, epochs):
    """20 minutes are 440 slices, 55 steps an epoch."""
    advice = advice_by_topic(dataclasses.replace(clean, train_slices=slices))["epochs"]
    assert advice.text == f"Train {epochs} epochs."
    assert (
        advice_by_topic(dataclasses.replace(clean, preset="nano"))["epochs"].text
        == "Train the preset's own 50 epochs."
    )


def test_dropped_slices_by_reason(speech):
    made = list(make_records(speech, "48k"))
    info = describe_dataset("48k", 1, 1.0, len(made), ("voice",))
    dropped = (
        Drop("a", 1.0, "clipped"),
        Drop("b", None, "not audio"),
        Drop("c", 2.0, "clipped"),
    )
    found = measure(dataclasses.replace(info, dropped=dropped), made[:3], "test")
    assert found.dropped == {"clipped": 2, "not audio": 1}
    assert advice_by_topic(found)["dropped"].reason == "clipped (2), not audio (1)"


def test_a_machine_without_an_accelerator_gets_advice(clean: Audit) -> None:
    topics = [item.topic for item in advise(clean, "tpu")]
    on_cpu = [item for item in advise(clean, "cpu") if item.topic not in topics]
    assert [(item.topic, item.verdict) for item in on_cpu] == [("machine", "notice")]
    assert "--preset small" in on_cpu[0].text
