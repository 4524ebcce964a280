"""What goes along to another origin, and what does not."""

from __future__ import annotations

import urllib.request

import pytest

from rvc_jax.storage.origins import drop_credentials, split_credentials

HEADERS = {
    "Authorization": "Basic dTpw",
    "Cookie": "a=b",
    "Proxy-Authorization": "Basic dTpw",
    "X-Auth-Token": "secret",
    "Referer": "https://site.example/page?token=secret",
    "User-Agent": "a browser",
    "Range": "bytes=5-",
    "Accept-Encoding": "gzip",
}
HARMLESS = {"User-agent", "Range", "Accept-encoding", "Referer"}


def redirect(source: str, target: str) -> urllib.request.Request:
    request = urllib.request.Request(target, headers=HEADERS)
    request.add_unredirected_header("X-Api-Key", "secret")
    drop_credentials(request, source)
    return request


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("https://site.example/a", "https://other.example/a"),
        ("https://site.example/a", "https://cdn.site.example/a"),
        ("https://site.example/a", "http://site.example/a"),
        ("http://site.example/a", "https://site.example/a"),
        ("https://site.example/a", "https://site.example:8443/a"),
        ("http://127.0.0.1:80/a", "http://127.0.0.1:81/a"),
        ("https://site.example/a", "https://site.example:99999/a"),
        ("https://site.example@other.example/a", "https://site.example/a"),
    ],
)
def test_another_origin_gets_harmless_headers_alone(source: str, target: str) -> None:
    request = redirect(source, target)
    assert set(request.headers) == HARMLESS and not request.unredirected_hdrs
    assert request.headers["Referer"] == "https://site.example/"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("https://site.example/a", "https://site.example/b?c"),
        ("https://site.example/a", "https://SITE.example:443/b"),
        ("http://site.example:80/a", "http://site.example/b"),
        ("http://user:word@site.example/a", "http://site.example./b"),
    ],
)
def test_the_same_origin_gets_everything(source: str, target: str) -> None:
    request = redirect(source, target)
    assert len(request.headers) == len(HEADERS) and request.unredirected_hdrs


@pytest.mark.parametrize(
    ("address", "clean", "header"),
    [
        ("https://a.example/b", "https://a.example/b", None),
        ("https://user:word@a.example:8/b?c", "https://a.example:8/b?c", "Basic dXNlcjp3b3Jk"),
        ("http://us%40er:w%3Ard@[::1]/", "http://[::1]/", "Basic dXNAZXI6dzpyZA=="),
        ("http://token@a.example/", "http://a.example/", "Basic dG9rZW46"),
    ],
)
def test_credentials_become_a_header(address: str, clean: str, header: str | None) -> None:
    assert split_credentials(address) == (clean, header)
