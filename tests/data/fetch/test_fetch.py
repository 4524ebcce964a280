"""Fetch from a server on this machine: what arrives, what is skipped and why."""

from __future__ import annotations

import dataclasses
import datetime
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("yt_dlp")

from local_media_server import MediaServer
from reporting import KeepingReporter

from rvc_jax.audio.reading import AUDIO_EXTENSIONS, decode, find_audio
from rvc_jax.config import FetchConfig
from rvc_jax.data.fetch.fetch import fetch
from rvc_jax.data.fetch.sidecar import (
    SIDECAR_SUFFIX,
    read_sidecar,
    read_wanted_cuts,
    sidecar_path,
)
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.errors import UserError

LOCAL = FetchConfig(allow_private_addresses=True, timeout=1.0, retries=1)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- what arrives ---


def test_a_file_arrives_unchanged_with_a_sidecar(server: MediaServer, tmp_path: Path) -> None:
    link = f"{server.url}/talks/talk.m4a"
    result = fetch([link], tmp_path / "out", LOCAL)
    (file,) = result.files
    assert file.new and not result.skipped
    assert file.path.read_bytes() == server.media["talk.m4a"]
    assert decode(file.path)[0].shape[1] == pytest.approx(2 * 48000, abs=2048)
    note = json.loads(sidecar_path(file.path).read_text())
    assert note["link"] == note["page"] == link
    assert (note["title"], note["extractor"], note["id"]) == ("talk", "Generic", "talk")
    assert note["sha256"] == hashlib.sha256(server.media["talk.m4a"]).hexdigest()
    assert note["duration"] == pytest.approx(2.0, abs=0.05)
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(
        note["fetched_at"]
    )
    assert datetime.timedelta(0) <= age < datetime.timedelta(minutes=5)
    assert note["yt_dlp"] and note["cuts"] == []
    assert result.minutes == pytest.approx(2 / 60, rel=0.05)
    assert names(tmp_path / "out") == [file.path.name, file.path.name + SIDECAR_SUFFIX]


def test_a_feed_gives_everything_but_what_was_removed_and_the_second_time_nothing_again(
    server: MediaServer, tmp_path: Path
) -> None:
    feed = server.feed(
        "/show.xml",
        ("Monday", f"{server.url}/monday/talk.m4a"),
        ("Removed", f"{server.url}/removed.mp3"),
        ("Tuesday", f"{server.url}/tuesday/talk.m4a"),  # the same file name as Monday's
        ("On the web", f"{server.url}/talk.webm"),
        ("With pictures", f"{server.url}/clip.mp4"),
    )
    reporter = KeepingReporter()
    first = fetch([feed], tmp_path, LOCAL, reporter)
    assert [file.sidecar.title for file in first.files] == [
        "Monday",
        "Tuesday",
        "On the web",
        "With pictures",
    ]
    assert len({file.path for file in first.files}) == 4
    (skipped,) = first.skipped
    assert skipped.name == "Removed" and "404" in skipped.reason and "removed" in skipped.reason
    assert {step.stage for step in reporter.steps} == {"fetch"}
    assert all(0 <= step.done <= step.total and step.total > 0 for step in reporter.steps)
    assert reporter.steps[-1].text.startswith("With-pictures")
    assert len(find_audio(tmp_path)) == 4

    server.requests.clear()
    second = fetch([feed], tmp_path, LOCAL)
    assert [file.path for file in second.files] == [file.path for file in first.files]
    assert not any(file.new for file in second.files)
    assert {path for _, path, _ in server.requests} == {"/show.xml", "/removed.mp3"}


def test_a_page_gives_all_its_recordings_and_later_only_the_new_one(
    server: MediaServer, tmp_path: Path
) -> None:
    def page(*recordings: str) -> tuple[str, bytes]:
        players = "".join(f"<audio src='/{recording}'></audio>" for recording in recordings)
        return (
            "text/html",
            f"<html><title>Speeches</title><body>{players}</body></html>".encode(),
        )

    server.pages["/speeches.html"] = page("talk.m4a", "talk.flac")
    link = f"{server.url}/speeches.html"
    assert [file.path.suffix for file in fetch([link], tmp_path, LOCAL).files] == [
        ".m4a",
        ".flac",
    ]
    server.pages["/speeches.html"] = page("talk.webm", "talk.m4a", "talk.flac")
    again = fetch([link], tmp_path, LOCAL)
    assert {file.path.suffix: file.new for file in again.files} == {
        ".m4a": False,
        ".flac": False,
        ".webm": True,
    }
    assert server.asked("/talk.flac") == 1


def test_links_that_fail_do_not_harm_the_others(server: MediaServer, tmp_path: Path) -> None:
    links = [f"{server.url}/gone.mp3", f"{server.url}/talk.flac", f"{server.url}/talk.flac"]
    result = fetch(links, tmp_path, LOCAL)
    assert [file.path.read_bytes() for file in result.files] == [server.media["talk.flac"]]
    assert [skipped.link for skipped in result.skipped] == links[:1]


def test_only_so_many_of_a_playlist(server: MediaServer, tmp_path: Path) -> None:
    feed = server.feed(
        "/long.xml", *((f"Talk {n}", f"{server.url}/{n}/talk.m4a") for n in range(5))
    )
    result = fetch([feed], tmp_path, dataclasses.replace(LOCAL, max_files=2))
    assert [file.sidecar.title for file in result.files] == ["Talk 0", "Talk 1"]
    assert "only the first 2" in result.skipped[0].reason


def test_feeds_of_feeds_end(server: MediaServer, tmp_path: Path) -> None:
    server.feed("/a.xml", ("b", f"{server.url}/b.xml"), ("talk", f"{server.url}/talk.m4a"))
    server.feed("/b.xml", ("a", f"{server.url}/a.xml?again"), ("a", f"{server.url}/a.xml"))
    result = fetch([f"{server.url}/a.xml"], tmp_path, LOCAL)
    assert len(result.files) == 1
    assert any("without an end" in skipped.reason for skipped in result.skipped)
    assert len(server.requests) < 100


def test_a_stream_in_segments_is_put_together_without_ffmpeg(
    server: MediaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "bin" / "ffmpeg"
    trap.parent.mkdir()
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    trap.chmod(0o755)
    monkeypatch.setenv("PATH", str(trap.parent), prepend=os.pathsep)
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n"
    segments = "#EXTINF:1,\nfirst.ts\n#EXTINF:1,\nsecond.ts\n"
    kind = "application/vnd.apple.mpegurl"
    server.pages["/talk.m3u8"] = (kind, f"{head}{segments}#EXT-X-ENDLIST\n".encode())
    server.pages["/live.m3u8"] = (kind, f"{head}{segments}".encode())
    key = "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=key\n"
    server.pages["/locked.m3u8"] = (kind, f"{head}{key}{segments}#EXT-X-ENDLIST\n".encode())
    spy = "#EXTINF:1,\nfile:///etc/passwd\n"
    server.pages["/spy.m3u8"] = (kind, f"{head}{spy}#EXT-X-ENDLIST\n".encode())
    server.pages["/lost.m3u8"] = (
        kind,
        f"{head}{segments}#EXTINF:1,\nlost.ts\n#EXT-X-ENDLIST\n".encode(),
    )
    result = fetch(
        [f"{server.url}/{name}.m3u8" for name in ("talk", "live", "locked", "spy", "lost")],
        tmp_path,
        LOCAL,
    )
    (file,) = result.files
    assert file.path.suffix.lower() in AUDIO_EXTENSIONS
    assert decode(file.path)[0].shape[1] == pytest.approx(2 * 48000, abs=6000)
    reasons = [skipped.reason for skipped in result.skipped]
    for reason, expected in zip(
        reasons, ["live stream", "ffmpeg", "only http and https", "404"], strict=True
    ):
        assert expected in reason
    assert not (tmp_path / "ran").exists()


# --- interrupted ---


def test_a_transfer_that_breaks_off_is_continued(server: MediaServer, tmp_path: Path) -> None:
    content = server.media["talk.flac"]
    server.breaks["/talk.flac"] = (
        2  # the extractor's look at the file, and the first half of the file
    )
    (file,) = fetch([f"{server.url}/talk.flac"], tmp_path, LOCAL).files
    assert file.path.read_bytes() == content
    ranges = [wanted for _, _, wanted in server.requests if wanted]
    assert ranges == [f"bytes={len(content) // 2}-"]


def test_a_fetch_that_fails_leaves_a_part_that_the_next_one_continues(
    server: MediaServer, tmp_path: Path
) -> None:
    server.breaks["/talk.flac"] = 9
    with pytest.raises(UserError, match="run the same command again, it continues"):
        fetch([f"{server.url}/talk.flac"], tmp_path, dataclasses.replace(LOCAL, retries=0))
    (part,) = names(tmp_path)
    assert part.endswith(".part") and not find_audio(tmp_path)
    server.breaks.clear()
    server.requests.clear()
    (file,) = fetch([f"{server.url}/talk.flac"], tmp_path, LOCAL).files
    assert file.path.read_bytes() == server.media["talk.flac"]
    assert server.requests[-1][2].startswith("bytes=")
    assert len(names(tmp_path)) == 2


def test_a_killed_fetch_is_continued(server: MediaServer, tmp_path: Path) -> None:
    server.pauses["/talk.flac"] = 0.05  # four seconds in all
    code = (
        "import sys; from rvc_jax.data.fetch.fetch import fetch; from rvc_jax.config import "
        "FetchConfig;"
        "fetch([sys.argv[1]], sys.argv[2], FetchConfig(allow_private_addresses=True))"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", code, f"{server.url}/talk.flac", str(tmp_path / "out")]
    )
    deadline = time.monotonic() + 30
    while not list((tmp_path / "out").glob("*.part")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    running.send_signal(signal.SIGKILL)
    running.wait()
    (part,) = (tmp_path / "out").glob("*.*.*")  # not the lock
    assert part.name.endswith(".part") and 0 < part.stat().st_size < len(
        server.media["talk.flac"]
    )
    server.pauses.clear()
    (file,) = fetch([f"{server.url}/talk.flac"], tmp_path / "out", LOCAL).files
    assert file.path.read_bytes() == server.media["talk.flac"]
    assert server.requests[-1][2].startswith("bytes=")


def test_a_missing_or_damaged_sidecar_is_written_anew(
    server: MediaServer, tmp_path: Path
) -> None:
    link = f"{server.url}/talk.flac"
    (file,) = fetch([link], tmp_path, LOCAL).files
    for damage in (None, b"", b"{}", b'{"format": 2}', b"[" * 100_000):
        sidecar_path(file.path).unlink() if damage is None else sidecar_path(
            file.path
        ).write_bytes(damage)
        if damage is not None:
            with pytest.raises(UserError, match="is damaged"):
                read_wanted_cuts(file.path)
        server.requests.clear()
        assert fetch([link], tmp_path, LOCAL).files[0].path == file.path
        assert read_sidecar(file.path).sha256 == file.sidecar.sha256
        assert len(server.requests) == 1  # a look at the link, no transfer


# --- options ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "1:75"}, "must be below 60"),
        ({"start": "soon"}, "is not a time"),
        ({"end": "-3"}, "is not a time"),
        ({"start": "1:00", "end": "60"}, "--end 60 is not after the start"),
        ({"end": "0"}, "--end 0 is not after the start"),
        ({"chapters": "("}, "not a regular expression"),
        ({"chapters": "a", "start": "3"}, "give one or the other"),
        ({"cookies": Path("/nowhere/cookies.txt")}, "cannot be read: No such file"),
        ({"cookies_from_browser": "lynx"}, "the browsers known are brave, "),
        ({"timeout": 0.0}, "--timeout 0.0: must be more than 0"),
        ({"max_gigabytes": float("nan")}, "--max-gigabytes nan: must be more than 0"),
        ({"retries": -1}, "--retries -1"),
    ],
)
def test_options_that_make_no_sense(options: dict, message: str, tmp_path: Path) -> None:
    config = FetchConfig(allow_private_addresses=True, **{"retries": 0, **options})
    with pytest.raises(UserError) as error:
        fetch(["http://127.0.0.1:9/talk.m4a"], tmp_path, config)
    assert message in str(error.value) and "\n" not in str(error.value)


# --- names ---


def test_endings_that_preparation_does_not_know_are_replaced(
    server: MediaServer, tmp_path: Path
) -> None:
    server.pages["/download.php"] = ("application/octet-stream", server.media["talk.m4a"])
    (file,) = fetch([f"{server.url}/download.php"], tmp_path, LOCAL).files
    assert file.path.suffix in AUDIO_EXTENSIONS
    assert find_audio(tmp_path) == [file.path] and decode(file.path)[1] == 48000


def test_files_without_sound_are_not_kept(server: MediaServer, tmp_path: Path) -> None:
    server.pages["/talk.mp3"] = ("audio/mpeg", b"<html>Please accept our cookies</html>" * 50)
    spying = (
        b"#EXTM3U\n#EXTINF:1,\n"
        + str(find_bundled_sample("voice") / "ivr-concentrate.flac").encode()
        + b"\n"
    )
    server.pages["/spy.mp3"] = ("audio/mpeg", spying)
    links = [f"{server.url}/{name}" for name in ("silent-film.mp4", "talk.mp3", "spy.mp3")]
    with pytest.raises(UserError):
        fetch(links, tmp_path / "out", LOCAL)
    assert names(tmp_path / "out") == []
    result = fetch([*links[:2], f"{server.url}/talk.m4a"], tmp_path / "out", LOCAL)
    assert [skipped.reason for skipped in result.skipped] == [
        "there is no sound in the file"
    ] * 2
    assert len(names(tmp_path / "out")) == 2


# --- what the user gives, and what the machine refuses ---


def test_cookies_are_sent_and_their_file_stays_as_it_is(
    server: MediaServer, tmp_path: Path
) -> None:
    cookies = tmp_path / "cookies.txt"
    text = (
        "# Netscape HTTP Cookie "
        "File\n#HttpOnly_127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\topen-sesame\n"
    )
    cookies.write_text(text)
    config = dataclasses.replace(LOCAL, cookies=cookies)
    fetch([f"{server.url}/talk.m4a"], tmp_path / "out", config)
    assert set(server.cookies) == {"session=open-sesame"}
    assert cookies.read_text() == text
    for content in (b"", b'[{"domain": "x"}]', b"a=b; c=d", b"\xff\xfe\x00"):
        cookies.write_bytes(content)
        with pytest.raises(UserError, match="is not a file of cookies: .*; export it"):
            fetch([f"{server.url}/talk.webm"], tmp_path / "out", config)


def test_passwords_in_links_are_used_and_not_stored(
    server: MediaServer, tmp_path: Path
) -> None:
    link = f"{server.url.replace('://', '://user:open-sesame@')}/talk.m4a"
    (file,) = fetch([link], tmp_path, LOCAL).files
    assert file.sidecar.link == file.sidecar.page == f"{server.url}/talk.m4a"
    assert all(
        b"sesame" not in path.read_bytes() for path in tmp_path.iterdir() if path.is_file()
    )
    assert not fetch([link], tmp_path, LOCAL).files[0].new


def test_cookies_of_a_missing_browser(
    server: MediaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(
        UserError, match="could not find firefox cookies database.*pass --cookies FILE"
    ):
        fetch(
            [f"{server.url}/talk.m4a"],
            tmp_path,
            dataclasses.replace(LOCAL, cookies_from_browser="firefox"),
        )


def test_a_folder_that_cannot_be_made(server: MediaServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="cannot be written"):
            fetch([f"{server.url}/talk.m4a"], folder, LOCAL)


def test_a_full_disk_ends_everything(
    server: MediaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rvc_jax.data.fetch.ytdlp import Client

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Client, "process_ie_result", full)
    with pytest.raises(
        UserError, match="disk full: .*free some space and run the same command again"
    ):
        fetch([f"{server.url}/talk.m4a", f"{server.url}/talk.flac"], tmp_path, LOCAL)


def test_what_was_fetched_sounds_like_the_original(server: MediaServer, tmp_path: Path) -> None:
    (file,) = fetch([f"{server.url}/talk.webm"], tmp_path, LOCAL).files
    got, rate = decode(file.path)
    original, original_rate = decode(find_bundled_sample("voice") / "ivr-concentrate.flac")
    assert rate == original_rate
    length = min(got.shape[1], 2 * rate)
    assert np.corrcoef(np.abs(got[0, :length]), np.abs(original[0, :length]))[0, 1] > 0.9
