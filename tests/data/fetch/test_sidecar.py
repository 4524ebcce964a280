"""Sidecars of recordings."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest

from rvc_jax.data.fetch.sidecar import (
    NO_SITE,
    Archive,
    Chapter,
    Sidecar,
    make_recording_key,
    merge_overlapping,
    read_sidecar,
    read_wanted_cuts,
    sidecar_path,
    write_sidecar,
)
from rvc_jax.errors import UserError

SIDECAR = Sidecar(
    link="https://example.org/a",
    page="https://example.org",
    extractor="Site",
    id="a1",
    title="A talk",
    uploader=None,
    licence="CC-BY",
    duration=10.0,
    fetched_at="2026-01-01T00:00:00+00:00",
    sha256="0" * 64,
    yt_dlp="2026.01.01",
    chapters=(Chapter("Part 1", 0.0, 5.0),),
    cuts=((0.0, 5.0), (6.0, None)),
)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "a talk.m4a"
    path.write_bytes(b"x")
    return path


def test_a_sidecar_is_read_as_it_was_written(recording: Path) -> None:
    assert read_sidecar(recording) is None
    assert read_wanted_cuts(recording) == ((0.0, None),)
    write_sidecar(recording, SIDECAR)
    assert sidecar_path(recording).name == "a talk.m4a.source.json"
    assert read_sidecar(recording) == SIDECAR
    assert read_wanted_cuts(recording) == SIDECAR.cuts
    write_sidecar(recording, dataclasses.replace(SIDECAR, cuts=()))
    assert read_wanted_cuts(recording) == ((0.0, None),)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"title": 3},
        {"licence": []},
        {"duration": "long"},
        {"cuts": [[5.0, 1.0]]},
        {"cuts": [[-1.0, None]]},
        {"chapters": [{"title": "a", "start": 0, "end": "nan"}]},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_damaged_sidecar_is_reported(recording: Path, change: dict[str, Any]) -> None:
    write_sidecar(recording, SIDECAR)
    path = sidecar_path(recording)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match="is damaged; fetch the recording again, or delete it"):
        read_sidecar(recording)
    assert Archive(recording.parent).find(SIDECAR.link) is None


def test_an_archive_knows_links_and_names_of_sites(recording: Path) -> None:
    write_sidecar(recording, SIDECAR)
    archive = Archive(recording.parent)
    key = make_recording_key("Site", "a1")
    assert archive.find(SIDECAR.link) == archive.find(None, key) == (recording, SIDECAR)
    assert archive.find("https://example.org/b", make_recording_key("Site", "a2")) is None
    assert make_recording_key(NO_SITE, "a1") is None
    recording.unlink()
    assert Archive(recording.parent).find(SIDECAR.link) is None


def test_no_speech_counts_twice():
    whole = ((5.0, 8.0), (0.0, 2.0), (2.0, 5.0), (9.0, None))
    assert merge_overlapping(whole) == whole  # in their order
    for cuts, merged in (
        ([(1.0, 2.0), (1.0, 2.0)], ((1.0, 2.0),)),
        ([(1.0, 2.0), (1.5, 3.0), (0.5, 1.2)], ((0.5, 3.0),)),
        ([(0.0, None), (3.0, 4.0)], ((0.0, None),)),
        ([(3.0, None), (1.0, 4.0), (5.0, 6.0)], ((1.0, None),)),
        ([(0.0, 9.0), (2.0, 3.0), (9.0, 10.0)], ((0.0, 9.0), (9.0, 10.0))),
    ):
        assert merge_overlapping(cuts) == merged
    many = [(i / 1000, 100 + i / 1000) for i in range(200_000)]
    begin = time.process_time()
    assert merge_overlapping(many) == ((0.0, 299.999),)
    assert time.process_time() - begin < 2


def test_more_cuts_than_any_recording_has_are_refused_at_once(tmp_path):
    recording = tmp_path / "a.wav"
    write_sidecar(
        recording, dataclasses.replace(SIDECAR, cuts=tuple((i, i + 1) for i in range(20_000)))
    )
    begin = time.process_time()
    with pytest.raises(UserError, match=r"source.json is damaged"):
        read_wanted_cuts(recording)
    assert time.process_time() - begin < 2
