"""`rvc-jax fetch` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("yt_dlp")

from local_media_server import MediaServer

from rvc_jax.cli.main import main
from rvc_jax.data.sources import find_sources


def test_a_feed_and_a_link_with_a_table_and_as_json(
    server: MediaServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [(name, f"{server.url}/{name}/talk.m4a") for name in ("Monday", "Tuesday")]
    feed = server.feed("/show.xml", *entries, ("Wednesday", f"{server.url}/removed.mp3"))
    command = [
        "fetch",
        feed,
        f"{server.url}/talk.webm",
        "--out",
        str(tmp_path / "out"),
        "--allow-private-addresses",
    ]
    assert main([*command, "--retries", "0"]) == 0
    printed = capsys.readouterr()
    assert (
        "files    3 (3 fetched, 0 there before)\nsound    0.1 min\nskipped  Wednesday: "
        in printed.out
    )
    assert printed.err.count("fetching 100%") == 3 and "404" in printed.out

    assert main([*command, "--start", "0.5", "--end", "0:01.5", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [Path(file["path"]).suffix for file in result["files"]] == [".m4a", ".m4a", ".webm"]
    assert not any(file["new"] for file in result["files"])
    assert result["files"][0]["note"]["cuts"] == [[0.5, 1.5]]
    assert result["minutes"] == pytest.approx(3 / 60)
    assert [(skipped["name"], skipped["link"]) for skipped in result["skipped"]] == [
        ("Wednesday", f"{server.url}/removed.mp3")
    ]


def test_preparation_takes_the_parts_that_were_asked_for(
    server: MediaServer, tmp_path: Path
) -> None:
    command = [
        "fetch",
        f"{server.url}/talk.flac",
        "--out",
        str(tmp_path),
        "--allow-private-addresses",
    ]
    assert main([*command, "--start", "0:01"]) == 0
    (cut,) = find_sources(tmp_path, "one").cuts
    assert (cut.start, cut.stop) == (1.0, None) and cut.name == f"{cut.path.name}[1.0-end]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("file:///etc/passwd", "file: links are not fetched"),
        ("http://localhost:1/talk.mp3", "pass --allow-private-addresses if it is yours"),
        (
            "http://169.254.169.254/latest",
            "169.254.169.254 is an address of this machine or a private network",
        ),
        (
            "https://93.184.215.14/ --start 2:00 --end 1:00",
            "--end 1:00 is not after the start (2:00)",
        ),
        (
            "https://93.184.215.14/ --cookies /nowhere/c.txt",
            "--cookies /nowhere/c.txt cannot be read",
        ),
        ("", "give one link or more"),
        (
            "http://127.0.0.1:9/talk.mp3 --allow-private-addresses --retries 0",
            "the connection broke off",
        ),
    ],
)
def test_mistakes_are_one_line(
    arguments: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RVC_JAX_OFFLINE", "0")
    assert main(["fetch", *arguments.split(), "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and message in printed.err
    assert printed.err.startswith("rvc-jax: error: ") and printed.err.count("\n") == 1


def test_offline_means_offline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RVC_JAX_OFFLINE", "1")
    assert main(["fetch", "https://example.org/a.mp3", "--out", str(tmp_path)]) == 2
    assert "RVC_JAX_OFFLINE forbids all use of the network" in capsys.readouterr().err
