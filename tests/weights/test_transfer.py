"""Transfers that break, stall, lie or never end."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weights_server import (
    CONTENT,
    OTHER,
    WHOLE,
    Behaviour,
    Handler,
    Server,
    endless,
    left,
    refusal,
    serve,
    sha256,
    status,
)

from rvc_jax.errors import UserError
from rvc_jax.storage.files import write_json
from rvc_jax.weights import store, transfer

pytestmark = pytest.mark.usefixtures("home")

# --- interrupted transfers ---


def test_a_broken_transfer_is_continued(server: Server, register: Callable, home: Path) -> None:
    server.paths["/toy.pth"] = [serve(CONTENT, until=700_000), serve(CONTENT)]
    register(f"{server.url}/toy.pth")
    assert store.path("toy").read_bytes() == CONTENT
    assert [request.headers.get("Range") for request in server.requests] == [
        None,
        "bytes=700000-",
    ]
    assert server.requests[1].headers["If-Range"] == '"one"'
    assert left(home) == WHOLE


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize(
    "etag", ['"one"', None, 'W/"one"'], ids=["etag", "no etag", "weak etag"]
)
def test_the_next_call_continues_what_cannot_have_changed(
    server: Server, register: Callable, pinned: bool, etag: str | None, home: Path
) -> None:
    server.paths["/toy.pth"] = [
        serve(CONTENT, etag, until=700_000),
        serve(CONTENT, etag, until=0),
    ]
    register(f"{server.url}/toy.pth", content=CONTENT if pinned else None)
    assert "the connection closed after" in refusal()
    assert left(home) == ["toys/toy.pth.part", "toys/toy.pth.part.json"]
    server.paths["/toy.pth"] = serve(CONTENT, etag)
    server.requests.clear()
    assert store.path("toy").read_bytes() == CONTENT
    safe = pinned or etag == '"one"'
    assert [request.headers.get("Range") for request in server.requests] == [
        "bytes=700000-" if safe else None
    ]


def test_a_file_that_changed_meanwhile_starts_again(server: Server, register: Callable) -> None:
    server.paths["/toy.pth"] = [serve(CONTENT, '"one"', until=700_000), serve(OTHER, '"two"')]
    register(f"{server.url}/toy.pth", content=None)
    assert store.path("toy").read_bytes() == OTHER


def test_a_server_without_ranges_sends_it_all_again(server: Server, register: Callable) -> None:
    server.paths["/toy.pth"] = [serve(CONTENT, until=700_000), serve(CONTENT, ranges=False)]
    register(f"{server.url}/toy.pth")
    assert store.path("toy").read_bytes() == CONTENT


def test_the_beginning_of_another_file_is_not_continued(
    server: Server, register: Callable
) -> None:
    server.paths["/one"] = serve(OTHER, until=700_000)
    server.paths["/two"] = serve(CONTENT)
    register(f"{server.url}/one", f"{server.url}/two")
    assert store.path("toy").read_bytes() == CONTENT
    assert "Range" not in server.requests[-1].headers


def test_a_whole_part_needs_no_request_and_a_too_long_one_is_dropped(
    server: Server, register: Callable, home: Path
) -> None:
    part = home / "weights/toys/toy.pth.part"
    part.parent.mkdir(parents=True)
    register(f"{server.url}/toy.pth")
    server.paths["/toy.pth"] = serve(CONTENT)
    state = json.dumps({"url": f"{server.url}/toy.pth", "etag": '"one"'})
    for content, requests in ((CONTENT, 0), (CONTENT + b"more", 1)):
        part.write_bytes(content)
        part.with_name("toy.pth.part.json").write_text(state)
        server.requests.clear()
        assert store.path("toy").read_bytes() == CONTENT
        assert len(server.requests) == requests
        store.path("toy").unlink()


def test_a_part_that_the_server_does_not_know_starts_again(
    server: Server, register: Callable, home: Path
) -> None:
    part = home / "weights/toys/toy.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(OTHER + b"more")
    part.with_name("toy.pth.part.json").write_text(
        json.dumps({"url": f"{server.url}/toy.pth", "etag": '"one"'})
    )
    server.paths["/toy.pth"] = serve(CONTENT)
    register(f"{server.url}/toy.pth", content=None)
    assert store.path("toy").read_bytes() == CONTENT
    assert [request.headers.get("Range") for request in server.requests] == [
        f"bytes={len(OTHER) + 4}-",
        None,
    ]


@pytest.mark.parametrize(
    "state", [b"", b"[]", b"{", b"[" * 100_000, b'{"url": 1, "etag": 2}', b"\xff"]
)
def test_a_damaged_note_about_a_part_starts_again(
    server: Server, register: Callable, home: Path, state: bytes
) -> None:
    part = home / "weights/toys/toy.pth.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(OTHER[:1000])
    part.with_name("toy.pth.part.json").write_bytes(state)
    part.with_name("toy.pth.download.json").write_bytes(state)
    server.paths["/toy.pth"] = serve(CONTENT)
    register(f"{server.url}/toy.pth")
    assert store.path("toy").read_bytes() == CONTENT and left(home) == WHOLE


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    breaks=st.lists(st.integers(0, len(CONTENT)), max_size=6),
    etags=st.lists(st.sampled_from(['"one"', None]), min_size=1, max_size=6),
    ranges=st.booleans(),
)
def test_the_file_is_right_or_missing_after_any_failure(
    server: Server, register: Callable, breaks: list, etags: list, ranges: bool
) -> None:
    server.paths["/toy.pth"] = [
        serve(CONTENT, etags[i % len(etags)], ranges, until)
        for i, until in enumerate([*breaks, None])
    ]
    file = register(f"{server.url}/toy.pth")
    for _ in range(3):
        try:
            assert store.path("toy").read_bytes() == CONTENT
        except UserError as error:
            assert "the connection" in str(error) and store.find("toy") is None
    store.path("toy").unlink()
    assert file.sha256 == sha256(CONTENT)


@pytest.mark.parametrize("code", [500, 503, 429, 408])
def test_passing_trouble_is_waited_for(server: Server, register: Callable, code: int) -> None:
    server.paths["/toy.pth"] = [status(code), status(code), serve(CONTENT)]
    register(f"{server.url}/toy.pth")
    assert store.path("toy").read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_lasting_failures_are_reported(server: Server, register: Callable) -> None:
    server.paths["/toy.pth"] = status(503)
    register(f"{server.url}/toy.pth")
    assert "HTTP 503 (3 attempts)" in refusal()


def test_a_pause_precedes_each_new_attempt(
    server: Server, register: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(transfer, "PAUSES", (1.0, 2.0, 4.0))
    monkeypatch.setattr(transfer.time, "sleep", pauses.append)
    server.paths["/toy.pth"] = status(503)
    register(f"{server.url}/toy.pth")
    refusal()
    assert pauses == [1.0, 2.0, 4.0]


def test_a_connection_closed_without_an_answer(server: Server, register: Callable) -> None:
    server.paths["/toy.pth"] = lambda handler: None
    register(f"{server.url}/toy.pth")
    assert "the connection broke: RemoteDisconnected" in refusal()


def test_silence_and_trickles_end(
    server: Server, register: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = threading.Event()

    def silent(handler: Handler) -> None:
        handler.head(200, Content_Length=len(CONTENT))
        gone.wait(30)

    def trickle(handler: Handler) -> None:
        handler.head(200, Content_Length=len(CONTENT))
        while not gone.is_set():
            handler.wfile.write(b".")
            time.sleep(0.02)

    monkeypatch.setattr(transfer, "TIMEOUT", 0.3)
    monkeypatch.setattr(transfer, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(transfer, "PAUSES", ())
    server.paths |= {"/silent": silent, "/trickle": trickle}
    register(f"{server.url}/silent", f"{server.url}/trickle")
    began = time.monotonic()
    text = refusal()
    gone.set()
    assert "the connection was silent" in text and "it sent only 0.0 MB in 0 s" in text
    assert time.monotonic() - began < 20


def test_headers_without_end(
    server: Server, register: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = threading.Event()

    def trickle(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not gone.is_set():
            handler.wfile.write(b".")
            time.sleep(0.02)

    monkeypatch.setattr(transfer, "TIMEOUT", 0.3)
    server.paths["/toy.pth"] = trickle
    register(f"{server.url}/toy.pth")
    text = refusal()
    gone.set()
    assert "it gives no answer in 1 s" in text


@pytest.mark.parametrize("pinned", [True, False])
def test_a_stop_before_the_first_byte_leaves_no_mixture(
    server: Server,
    register: Callable,
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
    pinned: bool,
) -> None:
    server.paths["/toy.pth"] = [serve(CONTENT, until=700_000), serve(CONTENT, until=0)]
    register(f"{server.url}/toy.pth", content=OTHER if pinned else None)
    refusal()
    server.paths["/toy.pth"] = serve(OTHER, '"two"')

    def stop(path: Path, value: object) -> None:
        write_json(path, value)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            store.path("toy")
    assert store.path("toy").read_bytes() == OTHER


# --- wrong files ---


def test_a_wrong_hash_is_refused_and_the_file_removed(
    server: Server, register: Callable, home: Path
) -> None:
    server.paths["/toy.pth"] = serve(OTHER)
    register(f"{server.url}/toy.pth")
    text = refusal()
    assert f"SHA-256 {sha256(OTHER)}, not {sha256(CONTENT)}: refused and removed" in text
    assert str(home / "weights/toys/toy.pth") in text
    assert left(home) == [] and store.find("toy") is None


def test_a_wrong_size_is_refused_before_it_is_fetched(
    server: Server, register: Callable, home: Path
) -> None:
    server.paths["/toy.pth"] = serve(CONTENT[:-1])
    register(f"{server.url}/toy.pth")
    assert "has 1499999 bytes, not 1500000" in refusal()
    assert left(home) == []


@pytest.mark.parametrize(
    "first", [status(404), status(403), serve(OTHER), serve(CONTENT[:10]), endless]
)
def test_the_next_address_is_tried(
    server: Server, register: Callable, home: Path, first: Behaviour
) -> None:
    server.paths |= {"/one": first, "/two": serve(CONTENT)}
    register(f"{server.url}/one", f"{server.url}/two")
    assert store.path("toy").read_bytes() == CONTENT and left(home) == WHOLE


def test_every_address_is_reported_with_its_reason(server: Server, register: Callable) -> None:
    server.paths["/two"] = status(403)
    register(f"{server.url}/one", f"{server.url}/two")
    text = refusal()
    assert (
        f"{server.url}/one: the server has no such file (HTTP 404); "
        f"{server.url}/two: the server does not" in text
    )


@pytest.mark.parametrize("pinned", [True, False])
def test_a_body_without_end_is_cut(
    server: Server,
    register: Callable,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    pinned: bool,
) -> None:
    monkeypatch.setattr(store, "MAX_BYTES", 3_000_000)
    server.paths["/toy.pth"] = endless
    register(f"{server.url}/toy.pth", content=CONTENT if pinned else None)
    assert f"it sends more than {'1.5' if pinned else '3.0'} MB" in refusal()
    assert left(home) == []


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("length", [10**18, 10**30, -5, "many", "1500000, 1500000"])
def test_absurd_lengths_are_refused_or_passed_over(
    server: Server, register: Callable, home: Path, length: object, pinned: bool
) -> None:
    def absurd(handler: Handler) -> None:
        handler.head(200, Content_Length=length)
        handler.wfile.write(CONTENT)

    server.paths["/toy.pth"] = absurd
    register(f"{server.url}/toy.pth", content=CONTENT if pinned else None)
    if isinstance(length, int) and length > 0:
        assert (
            "bytes, not 1500000" in refusal()
            if pinned
            else "more than can be true" in refusal()
        )
        assert left(home) == []
    elif pinned:  # http.client takes it for no length: the body ends with the connection
        assert store.path("toy").read_bytes() == CONTENT
    else:
        assert "nor where it ends" in refusal()


def test_a_part_of_the_wrong_place_is_refused(server: Server, register: Callable) -> None:
    def wrong(handler: Handler) -> None:
        handler.head(206, Content_Length=100, Content_Range=f"bytes 0-99/{len(CONTENT)}")
        handler.wfile.write(CONTENT[:100])

    server.paths["/toy.pth"] = [serve(CONTENT, until=700_000), wrong]
    register(f"{server.url}/toy.pth")
    assert "another part than was asked for" in refusal()


def test_an_encoded_body_is_refused(server: Server, register: Callable) -> None:
    server.paths["/toy.pth"] = status(200, Content_Encoding="gzip")
    register(f"{server.url}/toy.pth", content=None)
    assert "encoded as 'gzip'" in refusal()
    assert server.requests[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("scheme", ["file", "FILE", "ftp", "data", "gopher"])
def test_redirects_to_other_schemes_are_refused(
    server: Server, register: Callable, tmp_path: Path, scheme: str, home: Path
) -> None:
    (tmp_path / "secret").write_bytes(CONTENT)
    server.paths["/toy.pth"] = status(302, Location=f"{scheme}://{tmp_path}/secret")
    register(f"{server.url}/toy.pth")
    assert "where we do not follow (HTTP 302)" in refusal()
    assert left(home) == []


def test_redirects_are_followed_but_not_for_ever_and_not_out_of_encryption(
    server: Server, register: Callable
) -> None:
    server.paths |= {"/toy.pth": status(307, Location="/there"), "/there": serve(CONTENT)}
    register(f"{server.url}/toy.pth")
    assert store.path("toy").read_bytes() == CONTENT
    store.path("toy").unlink()
    server.paths["/there"] = status(302, Location="/toy.pth")
    assert "redirects in a circle" in refusal()
    request = urllib.request.Request("https://example.org/toy.pth")
    follow = transfer.SafeRedirects().redirect_request
    assert follow(request, None, 302, "", {}, "http://example.org/toy.pth") is None
    assert (
        follow(request, None, 302, "", {}, "https://example.org/there").full_url
        == "https://example.org/there"
    )
