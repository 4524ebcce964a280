"""What is private on a machine does not leave it."""

from __future__ import annotations

import platform

import pytest

from rvc_jax.cli.privacy import anonymize


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice.b")
    monkeypatch.setenv("USER", "alice.b")
    monkeypatch.setenv("LOGNAME", "aliceb")
    monkeypatch.setattr(platform, "node", lambda: "alices-mac.local")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/alice.b/voice/run", "~/voice/run"),
        ("/home/alice.b", "~"),
        ("/home/alice.bc/x", "/home/alice.bc/x"),
        ("/mnt/alice.b/x and /data/ALICE.B_2", "/mnt/USER/x and /data/USER_2"),
        ("from alices-mac.local, alices-mac", "from HOST, HOST"),
        ("aliceb@alices-mac:~$", "USER@HOST:~$"),
        ("https://user:pw@site.org/a?b=c", "https://site.org/..."),
        ("gs://my-bucket/run", "gs://..."),
        ("s3://key:word@bucket/run", "s3://..."),
        ("token=abc123, next", "token=..., next"),
        ("Authorization: Basic dXNlcjpwdw==", "Authorization: ..."),
        ('"password": "p w", next', '"password": ..., next'),
        ("hf_abcdefghijklmnop", "..."),
        ("AWS AKIAABCDEFGHIJKLMNOP", "AWS ..."),
        ("eyJhbGciOi.eyJzdWIi.c2ln", "..."),
        ("x" * 64, "..."),
        ("mail to a.b@example.org", "mail to MAIL"),
        ("step 300 of 1,000: loss 12.5", "step 300 of 1,000: loss 12.5"),
        (f"/opt{'/folder' * 9}/a.py", f"/opt{'/folder' * 9}/a.py"),
        ("rvc_jax/train/loop.py, line 12", "rvc_jax/train/loop.py, line 12"),
    ],
)
def test_private_things_are_replaced(text: str, expected: str) -> None:
    assert anonymize(text) == expected


def test_names_that_are_words_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.setenv("USER", "root")
    monkeypatch.setenv("LOGNAME", "root")
    assert anonymize("/root/voice: the root of a tree") == "~/voice: the root of a tree"
