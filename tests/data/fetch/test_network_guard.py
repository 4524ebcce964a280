"""The guard around yt-dlp: links that are never followed, responses that never end."""

from __future__ import annotations

import dataclasses
import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("yt_dlp")

from local_media_server import MediaServer

from rvc_jax.config import FetchConfig
from rvc_jax.data.fetch import network_guard
from rvc_jax.data.fetch.addresses import is_public
from rvc_jax.data.fetch.fetch import fetch
from rvc_jax.data.fetch.network_guard import RefusedError, check_link
from rvc_jax.errors import UserError

LOCAL = FetchConfig(allow_private_addresses=True, timeout=1.0, retries=1)


@pytest.fixture
def public_server(server: MediaServer, monkeypatch: pytest.MonkeyPatch) -> MediaServer:
    """The server as if 127.0.0.1, and no other address of this machine, were on the internet."""
    monkeypatch.setattr(
        network_guard, "is_public", lambda address: address == "127.0.0.1" or is_public(address)
    )
    return server


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- what is never followed ---


@pytest.mark.parametrize(
    "link",
    [
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "ftp://example.org/talk.mp3",
        "data:audio/wav;base64,AAAA",
        "gopher://example.org/",
        "javascript:alert(1)",
        "/etc/passwd",
        "talk.mp3",
        "www.example.org/talk.mp3",
        "",
        "http://",
        "https:///talk.mp3",
        "http://[::1",
        "http://example.org:port/",
        "http://a..example.org/",
        "http://a%00b.example.org/",
        "http://user:secret@a..example.org/",
    ],
)
def test_links_that_are_not_of_the_web_are_refused(link: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        fetch(["https://93.184.215.14/", link], tmp_path / "out", FetchConfig())
    assert re.search("is not a link|are not fetched", str(error.value))
    assert "\n" not in str(error.value) and "secret" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.8.8.8",
        "localhost",
        "10.0.0.1",
        "172.16.5.4",
        "192.168.1.1",
        "169.254.169.254",
        "0.0.0.0",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fc00::1]",
        "[ff02::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "%31%32%37.0.0.1",
        "user:word@127.0.0.1",
        "127.0.0.1:8080",
        "127.0.0.1.",
        "0x7f.0.0.0x1",
        "017700000001",
        "0x7F000001",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "%6c%6f%63alhost",
        "LOCALHOST",
        "printer.local",
        "db.internal",
        "router.home.arpa",
        "[::127.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[64:ff9b:1::7f00:1]",
        "[fec0::1]",
        "[5f00::1]",
        "[fe80::1%25lo]",
        "192.0.0.192",
        "192.88.99.1",
    ],
)
def test_addresses_that_are_not_public_are_refused(host: str) -> None:
    with pytest.raises(RefusedError, match="--allow-private-addresses"):
        check_link(f"http://{host}/talk.mp3")
    check_link(f"http://{host}/talk.mp3", allow_private=True)


def test_public_addresses_pass() -> None:
    for host in (
        "93.184.215.14",
        "[2606:2800:21f:cb07:6820:80da:af6b:8b2c]",
        "no-such-host.invalid",
    ):
        check_link(f"https://{host}/talk.mp3")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("file:///etc/passwd", "a link that is not http or https"),
        ("ftp://127.0.0.1/talk.m4a", "ftp: links are not fetched"),
        ("data:audio/mp4;base64,AAAA", "a link that is not http or https"),
        ("http://127.0.0.2:{port}/talk.m4a", r"127\.0\.0\.2 is an address of this machine"),
        ("http://169.254.169.254/latest/meta-data/", "is an address of this machine"),
        ("http://2130706434:{port}/talk.m4a", "is an address of this machine"),
    ],
)
def test_redirects_are_not_followed_there_either(
    public_server: MediaServer, tmp_path: Path, target: str, message: str
) -> None:
    port = public_server.url.rpartition(":")[2]
    public_server.redirects["/moved.m4a"] = target.format(port=port)
    with pytest.raises(UserError, match=message):
        fetch([f"{public_server.url}/moved.m4a"], tmp_path, FetchConfig(timeout=1, retries=0))
    assert {path for _, path, _ in public_server.requests} == {"/moved.m4a"}
    assert names(tmp_path) == ["home"] or not names(tmp_path)


def test_redirects_on_the_web_are_followed(public_server: MediaServer, tmp_path: Path) -> None:
    public_server.redirects["/old.m4a"] = "/new/talk.m4a"
    (file,) = fetch([f"{public_server.url}/old.m4a"], tmp_path / "out", FetchConfig()).files
    assert file.path.read_bytes() == public_server.media["talk.m4a"]
    public_server.redirects["/round.m4a"] = "/round.m4a"
    with pytest.raises(UserError, match="in circles"):
        fetch([f"{public_server.url}/round.m4a"], tmp_path / "out", FetchConfig(retries=0))
    assert public_server.asked("/round.m4a") < 30


def test_entries_of_a_playlist_are_not_followed_there_either(
    public_server: MediaServer, tmp_path: Path
) -> None:
    port = public_server.url.rpartition(":")[2]
    links = [
        "file:///etc/passwd",
        f"http://127.0.0.2:{port}/talk.m4a",
        f"http://localhost:{port}/talk.m4a",
    ]
    feed = public_server.feed(
        "/trap.xml", *((link, link) for link in [*links, f"{public_server.url}/talk.flac"])
    )
    original = socket.getaddrinfo

    def localhost_is_elsewhere(host: str, *arguments: object, **options: object) -> list:
        return original("127.0.0.2" if host == "localhost" else host, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", localhost_is_elsewhere)
        result = fetch([feed], tmp_path, FetchConfig(timeout=1, retries=0))
    assert [file.path.suffix for file in result.files] == [".flac"]
    assert [skipped.name for skipped in result.skipped] == links
    assert "only http" in result.skipped[0].reason
    assert all("address of this machine" in skipped.reason for skipped in result.skipped[1:])
    assert {path for _, path, _ in public_server.requests} == {"/trap.xml", "/talk.flac"}


def test_a_name_that_changes_its_address_gains_nothing(
    server: MediaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name resolves to a public address for the check, to this machine for the connection."""
    original = socket.getaddrinfo
    asked = []

    def resolve(host: str, port: int | None, *arguments: object, **options: object) -> list:
        if host != "rebind.test":
            return original(host, port, *arguments, **options)
        asked.append(port)
        return original("127.0.0.1" if port else "93.184.215.14", port, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    port = server.url.rpartition(":")[2]
    with pytest.raises(
        UserError, match=r"rebind\.test \(127\.0\.0\.1\) is an address of this machine"
    ):
        fetch(
            [f"http://rebind.test:{port}/talk.m4a"], tmp_path, FetchConfig(timeout=1, retries=0)
        )
    assert int(port) in asked and None in asked
    assert not server.requests


@pytest.mark.parametrize("host", ["127.0.0.2", "127.0.0.1"])
def test_a_redirect_to_another_origin_takes_no_credentials_along(
    host: str, media: dict[str, bytes], tmp_path: Path
) -> None:
    """Another host, or the same one at another port."""
    seen: list[tuple[str, dict[str, str]]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            names = {name.lower(): value for name, value in self.headers.items()}
            seen.append((f"{self.server.server_port}{self.path}", names))
            port = self.server.server_port
            targets = {
                "/first.m4a": f"http://127.0.0.1:{port}/same.m4a",
                "/same.m4a": f"http://{host}:{other.server_port}/talk.m4a",
            }
            target = targets.get(self.path)
            self.send_response(302 if target else 200)
            self.send_header("Content-Type", "audio/mp4")
            if target:
                self.send_header("Location", target)
                self.send_header("Set-Cookie", "own=cookie")
            body = b"" if target else media["talk.m4a"]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

    first = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    other = http.server.ThreadingHTTPServer((host, 0), Handler)
    for server in (first, other):
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    link = f"http://user:secret@127.0.0.1:{first.server_port}/first.m4a"
    try:
        (file,) = fetch([link], tmp_path, LOCAL).files
    finally:
        for server in (first, other):
            server.shutdown()
            server.server_close()
    assert file.path.read_bytes() == media["talk.m4a"]
    sent = {place: headers.get("authorization") for place, headers in seen}
    assert sent[f"{first.server_port}/first.m4a"] == "Basic dXNlcjpzZWNyZXQ="
    assert sent[f"{first.server_port}/same.m4a"] == "Basic dXNlcjpzZWNyZXQ="
    assert sent[f"{other.server_port}/talk.m4a"] is None
    for place, headers in seen:
        assert "secret" not in str(headers)
        if place.startswith(str(other.server_port)):
            assert not {"authorization", "proxy-authorization"} & headers.keys()
    for written in tmp_path.rglob("*.json"):
        assert "secret" not in written.read_text()


def test_proxies_of_the_environment_are_used_and_lead_nowhere_else(
    server: MediaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "http_proxy", server.url
    )  # on a private address: that is the user's choice
    config = FetchConfig(timeout=1, retries=0)
    (file,) = fetch(["http://recordings.invalid/talk.m4a"], tmp_path, config).files
    assert file.path.read_bytes() == server.media["talk.m4a"]
    assert {path for _, path, _ in server.requests} == {"http://recordings.invalid/talk.m4a"}
    server.requests.clear()
    server.redirects["http://recordings.invalid/inside.m4a"] = "http://10.0.0.1/talk.m4a"
    with pytest.raises(
        UserError, match=r"10\.0\.0\.1 is an address of this machine or a private network"
    ):
        fetch(["http://recordings.invalid/inside.m4a"], tmp_path, config)
    assert {path for _, path, _ in server.requests} == {"http://recordings.invalid/inside.m4a"}


def test_plugins_and_configurations_of_yt_dlp_are_not_read(tmp_path: Path) -> None:
    plugin = tmp_path / "path" / "yt_dlp_plugins" / "extractor" / "spy.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    code = (
        "from pathlib import Path; from rvc_jax.data.fetch.ytdlp import Client, Log;"
        "from rvc_jax.config import FetchConfig;"
        f"c = Client(Path({str(tmp_path)!r}), FetchConfig(), Log(), print); "
        f"print(c.params.get('postprocessors'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(plugin.parents[2])}
    environment.pop("YTDLP_NO_PLUGINS", None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "None\n"
    assert not (tmp_path / "ran").exists()
    ran = str(tmp_path / "ran")
    without = f"import os, yt_dlp; yt_dlp.YoutubeDL(); assert not os.path.exists({ran!r})"
    spied = subprocess.run(
        [sys.executable, "-c", without], env=environment, capture_output=True
    )
    assert spied.returncode == 1  # yt-dlp as it comes does read it: the check above can fail


# --- what never ends, or is too much ---


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/bomb.html", "more than 32 MB"),
        ("/endless.html", "more than 32 MB"),
        ("/endless.mp3", "larger than 0.002 GB"),
        ("/drip.mp3", "stalled"),
        ("/slow-head", "the connection broke off"),
    ],
)
def test_what_does_not_end_is_ended(
    server: MediaServer, tmp_path: Path, path: str, message: str
) -> None:
    began = time.monotonic()
    config = dataclasses.replace(LOCAL, retries=0, max_gigabytes=0.002)
    with pytest.raises(UserError, match=message):
        fetch([server.url + path], tmp_path / "out", config)
    assert time.monotonic() - began < 30
    assert sum(file.stat().st_size for file in (tmp_path / "out").iterdir()) < 3e6


def test_a_page_made_to_be_slow_is_given_up(
    server: MediaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real page gets half a minute; here it is two seconds, against minutes without a limit."""
    monkeypatch.setattr(network_guard, "MAX_CPU_SECONDS", 2.0)
    before = signal.getsignal(signal.SIGVTALRM)
    server.pages["/slow.html"] = ("text/html", b"<html>" + b"<a href='" * 50_000)
    began = time.process_time()
    with pytest.raises(UserError, match="takes more than 2 seconds"):
        fetch([f"{server.url}/slow.html"], tmp_path / "out", LOCAL)
    assert time.process_time() - began < 10
    assert signal.getsignal(signal.SIGVTALRM) is before


def test_large_files_and_long_transfers_are_given_up(
    server: MediaServer, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="larger than 1e-05 GB"):
        fetch(
            [f"{server.url}/talk.flac"],
            tmp_path / "out",
            dataclasses.replace(LOCAL, max_gigabytes=1e-5),
        )
    server.pauses["/talk.flac"] = 0.05
    with pytest.raises(UserError, match="a stream without an end"):
        fetch(
            [f"{server.url}/talk.flac"],
            tmp_path / "out",
            dataclasses.replace(LOCAL, max_hours=0.5 / 3600),
        )
    assert names(tmp_path / "out") == []
