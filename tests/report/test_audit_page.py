"""The page of an audit: whole, self-contained, legible, and safe whatever the files are called."""

from __future__ import annotations

import base64
import dataclasses
import io
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from svg_charts import labels, size

from rvc_jax.data.audit.advice import advise
from rvc_jax.data.audit.audit import (
    Audit,
    Histogram,
    Spread,
    audit,
    read_waves,
)
from rvc_jax.data.audit.repetition import RepeatedSound
from rvc_jax.data.audit.spectra import NarrowFile
from rvc_jax.report.audit_page import summarize, write_audit

HOSTILE = "<script>alert('x')</script>\udce4&\".wav"
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Tags, checked to be nested well, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def measured(sample_dataset: Path) -> tuple[Audit, list[np.ndarray]]:
    found = audit(sample_dataset)
    return found, read_waves(sample_dataset, found.worst)


def written(found: Audit, waves: list[np.ndarray], folder: Path) -> str:
    write_audit(found, advise(found), waves, folder / "page.html")
    return (folder / "page.html").read_text("utf-8")


def test_the_page_needs_nothing_else(measured, tmp_path):
    text = written(*measured, tmp_path)
    page = Page(text)
    sources = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href")
    ]
    assert sources and all(source.startswith("data:") for source in sources)
    assert (
        not page.of("link")
        and not page.of("script")
        and not re.search(r"url\((?!#)", text)
        and "@import" not in text
    )
    assert not re.search(r"https?://", text)
    assert len(text) < 5_000_000


def test_the_worst_slices_can_be_played_and_seen(measured, tmp_path):
    found, waves = measured
    page = Page(written(found, waves, tmp_path))
    players = page.of("audio")
    pictures = page.of("img")
    assert len(players) == len(pictures) == len(found.worst) == 10
    for player, picture, wave in zip(players, pictures, waves, strict=True):
        sound, rate = soundfile.read(io.BytesIO(base64.b64decode(player["src"].split(",")[1])))
        assert rate == 16000 and len(sound) == len(wave)
        np.testing.assert_allclose(sound, wave, atol=1e-4)
        assert base64.b64decode(picture["src"].split(",")[1]).startswith(b"\x89PNG")
        assert picture["alt"]
    for item in found.worst:
        assert item.file in page.text and item.reasons[0] in page.text


def test_every_measure_and_every_advice_is_on_it(measured, tmp_path):
    found, waves = measured
    page = Page(written(found, waves, tmp_path))
    for title in ("Advice", "In numbers", "Pitch", "Noise", "Bandwidth", "The 10 worst slices"):
        assert title in page.text
    for name, value in summarize(found, advise(found))[:10]:
        assert name in page.text and value in page.text
    assert {mark["class"] for mark in page.of("span") if "class" in mark} >= {"good", "problem"}
    assert len(page.of("svg")) == 5


def test_sound_of_a_high_rate_is_played_at_24_khz(measured, tmp_path):
    found, _ = measured
    waves = [np.random.RandomState(0).standard_normal(48000 * 3).astype(np.float32)] * len(
        found.worst
    )
    text = written(dataclasses.replace(found, preset="48k", sample_rate=48000), waves, tmp_path)
    sound, rate = soundfile.read(
        io.BytesIO(base64.b64decode(Page(text).of("audio")[0]["src"].split(",")[1]))
    )
    assert (rate, len(sound)) == (24000, 72000)
    assert len(text) < 5_000_000  # noise is what FLAC shrinks least


def test_names_of_files_cannot_break_out(measured, tmp_path):
    found, waves = measured
    hostile = dataclasses.replace(
        found,
        dataset=HOSTILE,
        voices=(dataclasses.replace(found.voices[0], name=HOSTILE),),
        worst=tuple(
            dataclasses.replace(item, file=HOSTILE, reasons=(HOSTILE,)) for item in found.worst
        ),
        repeated=(RepeatedSound(HOSTILE, 0.0, HOSTILE, 1.0, 2.0),),
        narrow_files=(NarrowFile(HOSTILE, 9.0, 4000.0),),
        dropped={HOSTILE: 3},
    )
    page = Page(written(hostile, waves, tmp_path))
    assert not page.of("script")
    assert page.text.count("<script>alert('x')</script>") > 15


def test_an_empty_audit_still_makes_a_page(measured, tmp_path):
    nothing = Spread(None, None, None)
    none = Histogram((0.0, 1.0, 2.0), (0, 0))
    found = dataclasses.replace(
        measured[0],
        worst=(),
        spectrum=None,
        bandwidth_hz=0.0,
        loudness_spread=nothing,
        signal_to_noise_spread=nothing,
        durations=none,
        loudness=none,
        voices=(dataclasses.replace(measured[0].voices[0], pitch_hz=nothing),),
    )
    page = Page(written(found, [], tmp_path))
    assert "No speech was found." in page.text and "No slice has a pause" in page.text
    assert "worst" not in page.text


def test_long_lists_are_cut(measured, tmp_path):
    found, waves = measured
    many = tuple(RepeatedSound(f"a{i}", 0.0, f"b{i}", 0.0, 1.0) for i in range(1000))
    text = Page(written(dataclasses.replace(found, repeated=many), waves, tmp_path)).text
    assert "and 980 more" in text and "b19" in text and "b20" not in text


def test_a_dataset_of_which_nothing_was_dropped_has_no_empty_section(measured, tmp_path):
    found, waves = measured
    kept = Page(written(dataclasses.replace(found, dropped={}), waves, tmp_path))
    assert "Dropped in preparation" not in kept.text
    lost = {f"reason {i}": i + 1 for i in range(30)}
    text = Page(written(dataclasses.replace(found, dropped=lost), waves, tmp_path)).text
    assert "reason 0once" in text
    assert (
        "and 10 more" in text
        and "reason 19" in text
        and "reason 20" not in text.split("Dropped in preparation")[1]
    )


def test_labels_neither_overlap_nor_leave_the_picture(measured, tmp_path):
    text = written(*measured, tmp_path)
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(charts) == 5
    for chart in charts:
        width, height = size(chart)
        found = labels(chart)
        assert len(found) > 4
        for label in found:
            assert label.left >= 0 and label.right <= width and 7 <= label.baseline <= height
        for one, other in itertools.combinations(found, 2):
            is_above = abs(one.baseline - other.baseline) >= 7
            assert is_above or one.right <= other.left or other.right <= one.left, (one, other)
