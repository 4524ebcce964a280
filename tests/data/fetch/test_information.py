"""Names of files, made of what a site says of a recording."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("yt_dlp")

from local_media_server import MediaServer

from rvc_jax.audio.reading import AUDIO_EXTENSIONS
from rvc_jax.config import FetchConfig
from rvc_jax.data.fetch.fetch import fetch
from rvc_jax.data.fetch.information import make_file_name

LOCAL = FetchConfig(allow_private_addresses=True, timeout=1.0, retries=1)

EVIL_TITLES = (
    "../../etc/passwd",
    "..\\..\\windows",
    "/absolute",
    "CON",
    "nul.txt",
    ".hidden",
    "-rf",
    "a" * 500,
    "講演",
    "\U0001f3a4",
    "Zoë’s talk: part 1/2?",
    "tab\tand\nnewline",
    "%(id)s",
    "$HOME ~ `id`",
    "talk.m4a.source.json",
    " ",
)


def test_no_title_leads_out_of_the_folder(server: MediaServer, tmp_path: Path) -> None:
    for number, _ in enumerate(EVIL_TITLES):
        server.headers[f"/{number}/talk.m4a"] = {
            "Content-Disposition": 'attachment; filename="../../evil.sh"'
        }
    entries = [
        (title, f"{server.url}/{number}/talk.m4a") for number, title in enumerate(EVIL_TITLES)
    ]
    folder = tmp_path / "a $HOME %(id)s ~ folder" / "talks"
    result = fetch([server.feed("/evil.xml", *entries)], folder, LOCAL)
    assert len(result.files) == len(EVIL_TITLES)
    assert {file.path.resolve().parent for file in result.files} == {folder.resolve()}
    for file in result.files:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,110}\.[a-z0-9]{2,4}", file.path.name)
        assert file.path.suffix in AUDIO_EXTENSIONS and file.path.is_file()
    assert {path.name for path in tmp_path.iterdir()} <= {folder.parent.name, "home"}
    assert len(list(folder.iterdir())) == 2 * len(EVIL_TITLES)


@settings(max_examples=100, deadline=None)
@given(
    title=st.text(max_size=300),
    identity=st.text(max_size=100),
    extractor=st.sampled_from(["Generic", "Youtube"]),
)
def test_file_names_are_plain_and_short(title: str, identity: str, extractor: str) -> None:
    info = {"id": identity, "extractor_key": extractor}
    name = make_file_name(title, info, "https://example.org/a")
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*-[A-Za-z0-9_-]+", name) and len(name) <= 101
    assert name == make_file_name(title, info, "https://example.org/a")
    other = make_file_name(title, {**info, "id": identity + "x"}, "https://example.org/a")
    assert other != name
    if extractor == "Generic":
        assert make_file_name(title, info, "https://example.org/b") != name
