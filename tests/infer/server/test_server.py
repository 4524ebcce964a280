"""The HTTP endpoint: what it answers, to the polite and to the others."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import json
import os
import random
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from http_server import RATE, Reply, Running, Stub, audio_file, decoded, received, serving, tone
from micro import MICRO
from untrained_voices import untrained_voice

from rvc_jax.audio.reading import AudioError, decode
from rvc_jax.cli.main import main
from rvc_jax.config import ConvertConfig, ServeConfig
from rvc_jax.errors import UserError
from rvc_jax.infer.postprocess import ConvertedAudio
from rvc_jax.infer.server.capabilities import Capabilities
from rvc_jax.infer.server.server import bind
from rvc_jax.infer.voice import Voice
from rvc_jax.storage.installation import install_command

HOST = b"Host: 127.0.0.1\r\n"
GOOD = audio_file(tone(0.5))


@pytest.fixture(scope="module")
def stub() -> Stub:
    return Stub()


@pytest.fixture(scope="module")
def running(stub: Stub) -> Iterator[Running]:
    with serving(stub, max_megabytes=1.0, max_seconds=20) as server:
        yield server


@pytest.fixture(scope="module")
def impatient() -> Iterator[Running]:
    with serving(Stub(), timeout=1) as server:
        yield server


def post(body: bytes, query: bytes = b"", headers: bytes = b"") -> bytes:
    """A whole request, byte by byte."""
    length = b"Content-Length: %d\r\n" % len(body)
    return (
        b"POST /convert?" + query + b" HTTP/1.1\r\n" + HOST + length + headers + b"\r\n" + body
    )


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/[01]\.[019] (\d{3}) ", answer)]


def test_health(running: Running) -> None:
    before = running.health()
    assert before["voice"] == "a voice" and before["sample_rate"] == RATE
    assert before["waiting"] == 0 and before["converting"] is False
    assert before["limits"] == {"max_megabytes": 1.0, "max_seconds": 20, "max_waiting": 64}
    assert before["options"]["transpose"] == 0 and "wav" in before["formats"]
    running.convert(tone(0.3))
    assert running.health()["served"] == before["served"] + 1
    assert json.loads(running.ask("GET", "/").body).keys() == before.keys()
    head = running.ask("HEAD", "/health")
    assert head.status == 200 and head.body == b""


@pytest.mark.parametrize(
    ("format", "kind"), [("wav", "audio/wav"), ("flac", "audio/flac"), ("mp3", "audio/mpeg")]
)
def test_convert_follows_the_query(running: Running, format: str, kind: str) -> None:
    wave = tone(0.5)
    reply = running.convert(wave, f"transpose=-6&format={format}")
    assert reply.headers["Content-Type"] == kind and reply.headers["X-Transpose"] == "-6"
    assert (
        reply.headers["Access-Control-Allow-Origin"] is None
        and "aiohttp" not in reply.headers["Server"]
    )
    half = decoded(reply)
    assert abs(len(half) - len(wave)) <= (0 if format != "mp3" else 2400)
    level = np.std(half[1000:3000]) / np.std(wave[1000:3000])
    assert 20 * np.log10(level) == pytest.approx(-6, abs=0.01 if format != "mp3" else 0.6)


@pytest.mark.parametrize("format", ["FLAC", "OGG", "MP3", "AIFF"])
def test_every_audio_format_is_accepted(running: Running, format: str) -> None:
    stereo = np.stack([tone(0.5), 0 * tone(0.5)])
    reply = running.ask(
        "POST",
        "/convert",
        audio_file(stereo, format),
        {"Content-Type": "application/octet-stream"},
    )
    assert np.std(decoded(reply)) == pytest.approx(np.std(tone(0.5)) / 2, rel=0.1)


def test_chunked_bodies_and_expect(running: Running) -> None:
    pieces = iter([GOOD[:100], GOOD[100:5000], GOOD[5000:]])
    assert len(decoded(running.ask("POST", "/convert", pieces))) == 4000
    with running.connected() as client:
        client.sendall(
            post(b"", headers=b"Expect: 100-continue\r\n").replace(
                b"Length: 0", b"Length: %d" % len(GOOD)
            )
        )
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(GOOD)
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
    with running.connected() as client:
        client.sendall(
            post(b"", b"no=1", b"Expect: 100-continue\r\n").replace(
                b"Length: 0", b"Length: 9999"
            )
        )
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")


def test_fifty_clients_at_once(running: Running) -> None:
    """The answer's length and level are those of the request: one of five levels, changed as it
    asks for."""
    barrier = threading.Barrier(50)

    def client(number: int) -> None:
        wave = tone(0.2 + 0.01 * number, 0.02 + 0.01 * (number % 5))
        transpose = number % 7 - 3
        barrier.wait(30)
        reply = running.convert(
            wave, f"transpose={transpose}&format={('wav', 'flac')[number % 2]}"
        )
        assert reply.headers["X-Transpose"] == str(transpose)
        np.testing.assert_allclose(decoded(reply), wave * 10 ** (transpose / 20), atol=1e-4)

    before = running.health()["served"]
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        list(pool.map(client, range(50)))
    assert running.health()["served"] == before + 50


HOSTILE = {
    # other than HTTP
    "noise": (random.Random(0).randbytes(3000), {400}),
    "tls": (bytes.fromhex("1603010200010001fc0303") + bytes(500), {400}),
    "http2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
    "no version": (b"GET /health\r\n\r\n", {400}),
    "strange version": (b"GET /health HTTP/9.9\r\n" + HOST + b"\r\n", {400}),
    "strange method": (b"G@T /health HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "null bytes": (b"\0" * 1000 + b"\r\n\r\n", {400}),
    "binary target": (b"GET /\xff\xfe\x80 HTTP/1.1\r\n" + HOST + b"\r\n", {400, 404}),
    "space in target": (b"GET /he alth HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "bad address": (b"GET http://[::1 HTTP/1.1\r\n" + HOST + b"\r\n", {400, 404}),
    "tunnel": (b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n", {400, 404, 405}),
    "upgrade": (
        b"GET /convert HTTP/1.1\r\n"
        + HOST
        + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        + b"x" * 5000,
        {405},
    ),
    # headers
    "no colon": (b"GET /health HTTP/1.1\r\n" + HOST + b"nonsense\r\n\r\n", {400}),
    "space before colon": (b"GET /health HTTP/1.1\r\n" + HOST + b"X : 1\r\n\r\n", {400}),
    "many headers": (b"GET /health HTTP/1.1\r\n" + HOST + b"X: 1\r\n" * 5000 + b"\r\n", {400}),
    "long header": (
        b"GET /health HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
        {400},
    ),
    "endless line": (b"GET /" + b"a" * 300_000, {400}),
    "long query": (b"GET /health?" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "split by newline": (b"GET /health HTTP/1.1\n" + b"Host: x\n\n", {400, 403}),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", {400}),
    "two hosts": (b"GET /health HTTP/1.1\r\n" + HOST + HOST + b"\r\n", {400}),
    "strange host": (b"GET /health HTTP/1.1\r\nHost: a b/../\r\n\r\n", {400}),
    # lengths
    "negative length": (post(b"x").replace(b"Length: 1", b"Length: -1"), {400}),
    "length in words": (post(b"x").replace(b"Length: 1", b"Length: many"), {400}),
    "length with plus": (post(b"x").replace(b"Length: 1", b"Length: +1"), {400}),
    "two lengths": (post(b"xx", headers=b"Content-Length: 1\r\n"), {400}),
    "length and chunks": (post(b"0\r\n\r\n", headers=b"Transfer-Encoding: chunked\r\n"), {400}),
    "huge length": (post(b"x").replace(b"Length: 1", b"Length: " + b"9" * 18), {413}),
    "unthinkable length": (
        post(b"x").replace(b"Length: 1", b"Length: " + b"9" * 400),
        {400, 413},
    ),
    "too much": (post(bytes(1_000_001)), {413}),
    "strange coding": (post(GOOD, headers=b"Content-Encoding: gzip\r\n"), {415}),
    "form": (post(GOOD, headers=b"Content-Type: multipart/form-data; boundary=x\r\n"), {415}),
    # addresses and options
    "other path": (b"GET /favicon.ico HTTP/1.1\r\n" + HOST + b"\r\n", {404}),
    "climbing": (b"GET /../../etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", {404}),
    "climbing in code": (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n", {404}),
    "wrong method": (b"GET /convert HTTP/1.1\r\n" + HOST + b"\r\n", {405}),
    "post to health": (
        b"POST /health HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n",
        {405},
    ),
    "options": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", {400, 404, 405}),
    "binary query": (post(GOOD, b"\xff\xfe=\x80"), {400}),
    "coded binary query": (post(GOOD, b"%ff%fe=%00%80"), {400}),
    "not a number": (post(GOOD, b"transpose=nan"), {400}),
    "infinite": (post(GOOD, b"index_rate=inf"), {400}),
    "a long number": (post(GOOD, b"seed=" + b"9" * 5000), {400}),
    "file from the server": (post(GOOD, b"f0_file=/etc/passwd"), {400}),
    "twice": (post(GOOD, b"seed=1&seed=2"), {400}),
    # bodies
    "empty": (post(b""), {400}),
    "no length": (b"POST /convert HTTP/1.1\r\n" + HOST + b"\r\n", {400}),
    "text": (post(b"hello, this is not audio\n" * 100), {400}),
    "play list": (post(b"#EXTM3U\nfile:///etc/passwd\n"), {400}),
    "truncated": (post(GOOD[:3000]), {400}),
    "header alone": (post(GOOD[:44]), {400}),
    "damaged flac": (
        post(audio_file(tone(1), "FLAC")[:500] + random.Random(1).randbytes(500)),
        {400},
    ),
    "pickle": (post(b"\x80\x04cos\nsystem\n(S'touch /tmp/x'\ntR."), {400}),
    "too long": (post(audio_file(np.zeros(21 * RATE, np.float32), "FLAC")), {413}),
    "unpacks to hours": (post(audio_file(np.zeros(3600 * RATE, np.float32), "FLAC")), {413}),
    "chunks of nonsense": (
        b"POST /convert HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        {400},
    ),
    "chunk of negative size": (
        b"POST /convert HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
        {400},
    ),
    "chunk without end": (
        b"POST /convert HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n"
        + bytes(1_100_000),
        {413},
    ),
    "unknown coding": (
        b"POST /convert HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: secret\r\n\r\nhello",
        {400},
    ),
    # from elsewhere
    "rebound name": (b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n", {403}),
    "name like ours": (
        b"GET /health HTTP/1.1\r\nHost: localhost.evil.example:80\r\n\r\n",
        {403},
    ),
    "web page": (post(GOOD, headers=b"Origin: https://evil.example\r\n"), {403}),
    "page from a file": (post(GOOD, headers=b"Origin: null\r\n"), {403}),
    "other port": (post(GOOD, headers=b"Origin: http://127.0.0.1:1\r\n"), {403}),
    "picture in a page": (
        b"GET /health HTTP/1.1\r\n" + HOST + b"Sec-Fetch-Site: cross-site\r\n\r\n",
        {403},
    ),
}
"""Bytes, and the statuses that may answer them."""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_requests_get_one_error(running: Running, stub: Stub, name: str) -> None:
    data, expected = HOSTILE[name]
    begun = stub.begun
    answer = running.raw(data)
    found = statuses(answer)
    assert found[:1] and found[0] in expected, answer[:300]
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/json" in head and b"aiohttp" not in head and b"Traceback" not in answer
    message = json.loads(body.partition(b"HTTP/")[0])["error"]
    assert message.isprintable() and 0 < len(message) < 300
    assert stub.begun == begun
    assert running.health()["waiting"] == 0


def test_error_messages(running: Running) -> None:
    assert "did you mean transpose?" in running.convert(tone(0.5), "transpos=2").error
    assert (
        running.ask("POST", "/convert", b"text").error
        == "the recording can't be converted: not audio"
    )
    assert (
        running.ask("POST", "/convert", bytes(2_000_000)).error
        == "the recording is too large: at most 1 MB are taken"
    )
    assert (
        running.convert(tone(21)).error == "the recording is too long: at most 20 s are taken"
    )
    reply = running.ask("GET", "/convert")
    assert reply.status == 405 and reply.headers["Allow"] == "POST"


def test_internal_errors_stay_in_the_terminal(running: Running) -> None:
    reply = running.convert(tone(0.5), "speaker=13")
    assert reply.status == 500 and "secret" not in reply.error
    assert "ValueError: a secret of the inside" in running.log[-1]
    assert len(decoded(running.convert(tone(0.5)))) == 4000


def test_a_full_disk_is_reported(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: object) -> None:
        raise UserError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr("rvc_jax.infer.server.server.save", full)
    reply = running.convert(tone(0.5))
    assert reply.status == 507
    assert reply.error == "the result can't be kept: cannot be written: No space left on device"
    usual = Path.open

    def open_full(path: Path, *arguments: Any, **options: Any) -> Any:
        is_recording = path.name == "recording"
        return (
            io.FileIO("/dev/full", "wb") if is_recording else usual(path, *arguments, **options)
        )

    monkeypatch.setattr(Path, "open", open_full)
    reply = running.convert(tone(0.5))
    assert (
        reply.status == 507
        and reply.error == "the recording can't be kept: No space left on device"
    )


def test_local_hosts_and_pages_are_accepted(running: Running) -> None:
    for host in (
        "localhost",
        f"localhost:{running.port}",
        "127.0.0.1:1",
        "[::1]:8765",
        "192.168.1.5",
    ):
        assert running.ask("GET", "/health", headers={"Host": host}).status == 200
    own = f"http://127.0.0.1:{running.port}"
    assert (
        running.ask(
            "GET", "/health", headers={"Origin": own, "Sec-Fetch-Site": "same-origin"}
        ).status
        == 200
    )


def test_pipelined_requests_are_answered_in_order(running: Running) -> None:
    health = b"GET /health HTTP/1.1\r\n" + HOST
    last = b"Connection: close\r\n\r\n"
    data = (
        post(GOOD, b"transpose=1")
        + health
        + b"\r\n"
        + post(GOOD, b"transpose=2", b"Connection: close\r\n")
    )
    answer = running.raw(data, 10)
    assert statuses(answer) == [200, 200, 200]
    assert (
        answer.index(b"X-Transpose: 1")
        < answer.index(b"a voice")
        < answer.index(b"X-Transpose: 2")
    )
    assert statuses(running.raw((health + b"\r\n") * 299 + health + last, 10)) == [200] * 300


def test_slow_senders_are_disconnected(impatient: Running) -> None:
    began = time.monotonic()
    silent, headers, body, trickle = (impatient.connected() for _ in range(4))
    with silent, headers, body, trickle:
        headers.sendall(b"POST /convert HTTP/1.1\r\n")
        body.sendall(post(b"").replace(b"Length: 0", b"Length: 10000") + b"RIFF")
        trickle.sendall(post(b"").replace(b"Length: 0", b"Length: 10000"))
        for _ in range(5):
            with contextlib.suppress(OSError):  # on a busy machine they may be left already
                headers.sendall(b"X: 1\r\n")
                trickle.sendall(b"R")
            assert len(decoded(impatient.convert(tone(0.2)))) == 1600
            time.sleep(0.05)
        answers = [received(client, 10) for client in (silent, headers, body, trickle)]
    assert [statuses(answer) for answer in answers] == [[], [], [408], [408]]
    assert b"too slow: 4 bytes came in time" in answers[2]
    assert time.monotonic() - began < 9


def test_clients_that_do_not_read_are_disconnected(impatient: Running) -> None:
    """Answers that the system's buffers don't hold: large ones, and small ones to requests without
    end."""
    flood = (b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n") * 10_000
    with impatient.connected(4096) as reads_nothing, impatient.connected(4096) as asks_on:
        with contextlib.suppress(OSError):  # it is left while it sends
            reads_nothing.sendall(post(audio_file(tone(2), "FLAC")) * 300)
        asks_on.settimeout(0.1)
        with pytest.raises(OSError):  # the server stops reading
            for _ in range(100):
                asks_on.sendall(flood)
        impatient.until(lambda: impatient.server.connections == 0)


def test_a_full_queue_refuses_and_drops_disconnected_clients(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with serving(stub, max_waiting=2) as running, stub.holding():
        begun = stub.begun
        dropped = stub.dropped
        with running.connected() as first, running.connected() as second:
            first.sendall(post(GOOD))
            running.until(lambda: running.health()["converting"])
            second.sendall(post(GOOD))
            running.until(lambda: running.health()["waiting"] == 1)
            with concurrent.futures.ThreadPoolExecutor(1) as pool, stub.holding():
                third = pool.submit(running.convert, tone(0.3), "transpose=3")
                running.until(lambda: running.health()["waiting"] == 2)
                refused = running.convert(tone(0.3))
                assert refused.status == 503 and refused.error == "2 recordings wait already"
                assert 1 <= int(refused.headers["Retry-After"]) <= 10
                second.close()
                running.until(lambda: running.health()["waiting"] == 1)
                first.close()  # it is being converted: that ends, too
                running.until(lambda: stub.dropped == dropped + 1)
                stub.held.set()
                assert third.result().headers["X-Transpose"] == "3"
        assert stub.begun == begun + 2  # the second was never begun
        assert running.health()["waiting"] == 0
        running.until(lambda: not any(tmp_path.iterdir()))  # nobody's files stay


def test_too_many_connections_are_refused() -> None:
    with serving(Stub(), max_waiting=1) as running:
        clients = [running.connected() for _ in range(65)]
        try:
            running.until(lambda: running.server.connections == 65)
            assert statuses(running.raw(b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n")) == [503]
        finally:
            for client in clients:
                client.close()
        running.until(lambda: running.server.connections == 0)
        assert running.health()["waiting"] == 0


def test_stopping_finishes_the_running_conversion(stub: Stub) -> None:
    with (
        serving(stub) as running,
        concurrent.futures.ThreadPoolExecutor(2) as pool,
        stub.holding(),
    ):
        first = pool.submit(running.convert, tone(0.3))
        running.until(lambda: running.health()["converting"])
        second = pool.submit(running.convert, tone(0.4))
        running.until(lambda: running.health()["waiting"] == 1)
        running.server.stop()
        assert second.result(30).error == "the server is stopping"
        with pytest.raises(ConnectionRefusedError):
            running.health()
        assert not first.done()
        stub.held.set()
        assert len(decoded(first.result(30))) == 2400


def test_stopping_twice_drops_the_running_conversion(stub: Stub) -> None:
    with (
        serving(stub) as running,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
        stub.holding(),
    ):
        first = pool.submit(running.convert, tone(0.3))
        running.until(lambda: running.health()["converting"])
        running.server.stop()
        running.server.stop()
        assert first.result(30).status == 503
        running.thread.join(30)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"host": "0.0.0.0"},
            "--host 0.0.0.0 lets other machines use the voice.* add --open-to-network",
        ),
        ({"host": "localhost.example"}, "lets other machines use"),
        (
            {"host": "203.0.113.7", "open_to_network": True},
            "can't listen at 203.0.113.7, port 0: ",
        ),
        (
            {"host": "no such name.invalid", "open_to_network": True},
            "can't listen at no such name.invalid",
        ),
        ({"port": 70000}, "--port 70000 is out of range: it must be from 0 to 65535"),
        ({"max_waiting": 0}, "--max-waiting 0 is out of range"),
        ({"timeout": float("nan")}, "--timeout nan is out of range"),
    ],
)
def test_bind_checks_the_options(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        bind(ServeConfig(**{"port": 0} | settings))


def test_a_port_in_use_is_reported() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(UserError, match="name another with --host or"),
    ):
        bind(ServeConfig(port=taken.getsockname()[1]))


def test_the_command_serves_a_voice(
    other_clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command line to SIGTERM, with a voice that is not trained."""
    voice = Voice(untrained_voice(MICRO))
    monkeypatch.setattr("rvc_jax.infer.voice.Voice.load", lambda *_: voice)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    queries = {
        "transpose=3&seed=1": ConvertConfig(transpose=3, seed=1),
        "speaker=0": ConvertConfig(),
    }

    def client() -> list[Reply]:
        running = Running(None, port, threading.current_thread(), [])
        running.until(running.is_up, 120)
        try:
            bad = running.ask("POST", "/convert?protect=0.9", other_clip.read_bytes())
            return [
                bad,
                *(
                    running.ask("POST", f"/convert?{query}", other_clip.read_bytes())
                    for query in queries
                ),
            ]
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        replies = pool.submit(client)
        assert main(["serve", "runs/a_voice", "--port", str(port)]) == 0
        bad, *converted = replies.result()
    assert f"ready on http://127.0.0.1:{port}" in capsys.readouterr().out
    assert bad.status == 400 and "protect 0.9 is out of range" in bad.error
    for reply, config in zip(converted, queries.values(), strict=True):
        wave, rate = decode(other_clip)
        expected = voice.convert_recording(wave, rate, config).to_array()
        assert reply.headers["X-Transpose"] == f"{config.transpose:g}" and expected.std() > 1e-4
        np.testing.assert_allclose(decoded(reply), expected, atol=1e-4)


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    assert main(["serve", "runs/a_voice"]) == 2
    assert (
        f"the web server is not installed: {install_command('serve')}"
        in capsys.readouterr().err
    )


def test_other_local_addresses() -> None:
    for host in ("localhost", "::1", "[::1]", "127.0.0.2"):
        try:
            bind(ServeConfig(host=host, port=0)).close()
        except UserError as error:  # a machine without IPv6
            assert ":" in host, error


LIMITED = Capabilities(speakers=2, has_index=False, f0_methods=("swift", "rmvpe"))


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("f0_method=fcpe", "f0_method fcpe is not on this server; it has swift, rmvpe"),
        ("f0-method=harvest", "f0_method harvest is not on this server"),
        ("index_rate=0.5", "the voice on this server has no index"),
        ("speaker=2", "speaker 2 is out of range"),
        ("speaker_mix=0:1,5:1", "there is no speaker 5"),
        ("formant_shift=90", "formant_shift 90 is out of range"),
        ("format=flac&resample_rate=96001", "96001 Hz is impossible in .flac files"),
        ("format=opus&resample_rate=44100", "44100 Hz is impossible in .opus files"),
        ("format=mp3&resample_rate=96000", "96000 Hz is impossible in .mp3 files"),
        ("format=mp3&bit_depth=24", "no bit depth 24"),
        ("format=wav&bit_rate=64", "no bit rate to choose"),
        ("f0_file=/etc/passwd", "f0_file can't be set over HTTP"),
    ],
)
def test_what_the_server_lacks_is_refused_before_any_work(query: str, words: str) -> None:
    stub = Stub()
    with serving(stub, LIMITED) as server:
        reply = server.convert(tone(0.5), query)
        assert reply.status == 400
        assert words in reply.error.replace("--", "").replace("formant-", "formant_")
        assert "/" not in reply.error.replace("/etc/passwd", "")
        assert stub.begun == 0
        for good in ("f0_method=swift", "index_rate=0", "speaker=1&speaker_mix=0:1,1:1"):
            assert server.convert(tone(0.5), good).status == 200


@pytest.mark.parametrize(
    "error",
    [
        UserError("/home/ada/.cache/rvc_jax/weights/rmvpe.pt: is not a checkpoint"),
        UserError("/tmp cannot hold a recording while it is prepared: No space; name a folder"),
        OSError(28, "No space left on device", "/var/tmp/x"),
        PermissionError(13, "Permission denied", "/srv/voices/a.pth"),
        AudioError("/tmp/rvc_jax-1/recording: broken after 0.1 s"),
        MemoryError("/opt/x"),
    ],
)
def test_no_answer_names_a_place_on_the_machine(error: Exception) -> None:
    def fail(*_: object) -> ConvertedAudio:
        raise error

    with serving(fail) as server:
        reply = server.convert(tone(0.5))
        assert reply.status in (400, 500, 507)
        assert not re.search(r"/(home|tmp|var|srv|opt)", reply.error), reply.error
        assert server.log or reply.status == 400


def test_a_note_on_the_recording_is_a_header_and_in_the_terminal() -> None:
    def convert(wave: np.ndarray, rate: int, *_: object) -> ConvertedAudio:
        return ConvertedAudio(rate, 0.0, wave[0], notes=("the recording is silent", "no pitch"))

    with serving(convert) as server:
        reply = server.convert(tone(0.5))
        assert reply.headers["X-Note"] == "the recording is silent; no pitch"
        assert "note: no pitch" in server.log
