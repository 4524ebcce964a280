"""Cuts and chapters of what a server on this machine has."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

pytest.importorskip("yt_dlp")

from local_media_server import MediaServer

from rvc_jax.config import FetchConfig
from rvc_jax.data.fetch.fetch import fetch
from rvc_jax.data.fetch.sidecar import read_wanted_cuts
from rvc_jax.errors import UserError

LOCAL = FetchConfig(allow_private_addresses=True, timeout=1.0, retries=1)


def test_cuts_are_recorded_and_changed_without_a_transfer(
    server: MediaServer, tmp_path: Path
) -> None:
    link = f"{server.url}/talk.flac"

    def parts(**options: str) -> tuple:
        (file,) = fetch([link], tmp_path, dataclasses.replace(LOCAL, **options)).files
        assert file.path.read_bytes() == server.media["talk.flac"]
        return read_wanted_cuts(file.path)

    assert parts(start="0:00.5", end="1.25") == ((0.5, 1.25),)
    asked = server.asked("/talk.flac")
    assert parts(start="0.5") == ((0.5, None),)
    assert parts(end="0:00:01") == ((0.0, 1.0),)
    assert parts(start="1", end="59:00") == ((1.0, None),)
    assert parts() == ((0.0, None),)
    assert server.asked("/talk.flac") == asked
    with pytest.raises(UserError, match=r"ends \(2.0 s\) before --start"):
        parts(start="2:00")
    assert read_wanted_cuts(tmp_path / "another.wav") == ((0.0, None),)


def test_chapters_are_chosen_by_their_titles(server: MediaServer, tmp_path: Path) -> None:
    clips = [
        ("Opening", 0, 0.5),
        ("Part One", 0.5, 1.25),
        ("Applause", 1.25, 1.5),
        ("Part Two", 1.5, 3),
    ]  # sites round
    data = {
        "@context": "https://schema.org",
        "@type": "VideoObject",
        "name": "A speech in parts",
        "duration": "PT2S",
        "author": {"@type": "Person", "name": "A speaker"},
        "contentUrl": f"{server.url}/talk.m4a",
        "hasPart": [
            {"@type": "Clip", "name": n, "startOffset": a, "endOffset": b} for n, a, b in clips
        ],
    }
    html = f"<html><script type='application/ld+json'>{json.dumps(data)}</script></html>"
    server.pages["/speech.html"] = ("text/html", html.encode())
    link = f"{server.url}/speech.html"
    (file,) = fetch([link], tmp_path, dataclasses.replace(LOCAL, chapters="^part")).files
    assert read_wanted_cuts(file.path) == ((0.5, 1.25), (1.5, None))
    assert (file.sidecar.title, file.sidecar.uploader) == ("A speech in parts", "A speaker")
    assert [chapter.title for chapter in file.sidecar.chapters] == [
        name for name, _, _ in clips
    ]
    assert file.seconds == pytest.approx(1.25, abs=0.05)
    with pytest.raises(
        UserError, match="no chapter matches Encore: Opening, Part One, Applause, Part Two"
    ):
        fetch([link], tmp_path, dataclasses.replace(LOCAL, chapters="Encore"))
