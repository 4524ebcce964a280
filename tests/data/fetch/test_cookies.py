"""Files of cookies as extensions, editors and shells leave them."""

from __future__ import annotations

import dataclasses
import io
import json
import time
from pathlib import Path

import pytest

pytest.importorskip("yt_dlp")

from local_media_server import MediaServer
from yt_dlp.cookies import YoutubeDLCookieJar

from rvc_jax.config import FetchConfig
from rvc_jax.data.fetch.cookies import read_cookies
from rvc_jax.data.fetch.fetch import fetch
from rvc_jax.errors import UserError

LINE = "127.0.0.1\tFALSE\t/\tFALSE\t0\tsid\tabc"
HEADING = "# Netscape HTTP Cookie File"
FUTURE = int(time.time()) + 1_000_000
LOCAL = FetchConfig(allow_private_addresses=True, timeout=1.0, retries=0)
JSON = {"domain": "127.0.0.1", "name": "sid", "value": "abc", "path": "/", "secure": False}

READ = {
    "as written": f"{HEADING}\n{LINE}\n",
    "no heading": f"{LINE}\n",
    "no line end": LINE,
    "a mark of UTF-8": f"\ufeff{HEADING}\n{LINE}\n",
    "a mark before a cookie": f"\ufeff{LINE}\n",
    "UTF-16": f"{HEADING}\n{LINE}\n".encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + f"{HEADING}\n{LINE}\n".encode("utf-16-be"),
    "UTF-16 without a mark": f"{HEADING}\n{LINE}\n".encode("utf-16-le"),
    "UTF-16 without a mark, big end first": f"{HEADING}\n{LINE}\n".encode("utf-16-be"),
    "line ends of Windows": f"{HEADING}\r\n\r\n{LINE}\r\n",
    "line ends of old Macs": f"{HEADING}\r{LINE}\r",
    "spaces for tabs": LINE.replace("\t", "    "),
    "http only": f"#HttpOnly_{LINE}",
    "http only, spaces": "#HttpOnly_" + LINE.replace("\t", " "),
    "another heading": f"# HTTP Cookie File by an extension\n\n# Notes\n{LINE}\n",
    "small letters": LINE.replace("FALSE", "false"),
    "a fraction of a second": LINE.replace("\t0\t", f"\t{FUTURE}.25\t"),
    "milliseconds": LINE.replace("\t0\t", f"\t{FUTURE}000\t"),
    "no expiry": LINE.replace("\t0\t", "\t-1\t"),
    "some have expired": f"{LINE}\n{LINE.replace('0', '1000').replace('sid', 'old')}",
    "other sites, too": f".example.org\tTRUE\t/\tTRUE\t0\ta\tb\n{LINE}",
    "a flag against its site": f".example.org\tFALSE\t/\tTRUE\t0\ta\tb\n{LINE}",
    "a site against its flag": f"example.org\tTRUE\t/\tTRUE\t0\ta\tb\n{LINE}",
    "an empty value": f".example.org\tTRUE\t/\tTRUE\t0\ta\n{LINE}",
    "a value with spaces": f".example.org\tTRUE\t/\tTRUE\t0\ta\tb c d\n{LINE}",
    "a list in JSON": json.dumps([{**JSON, "hostOnly": True, "expirationDate": FUTURE + 0.5}]),
    "storage of Playwright": json.dumps({"cookies": [{**JSON, "expires": -1}], "origins": []}),
    "one cookie in JSON": json.dumps(JSON, indent=2),
    "JSON with a mark": "\ufeff" + json.dumps([JSON]),
    "raw fields in JSON": json.dumps(
        [
            {
                "Host raw": "http://127.0.0.1/",
                "Name raw": "sid",
                "Content raw": "abc",
                "Path raw": "/",
                "Expires raw": "0",
                "Send for raw": "false",
            }
        ]
    ),
    "a date in JSON": json.dumps([{**JSON, "expires": "2099-01-01T00:00:00.000Z"}]),
}
REFUSED = {
    "nothing": (b"", "it is empty"),
    "a heading alone": (f"{HEADING}\n\n", "it is empty"),
    "an empty list": (b"[]", "it is empty"),
    "all expired": (LINE.replace("\t0\t", "\t1000000\t"), "expired, the last on 1970-01-12"),
    "all expired in JSON": (json.dumps([{**JSON, "expires": 1e9}]), "the last on 2001-09-09"),
    "a header": (b"Cookie: sid=abc; other=1", "does not name the site"),
    "pairs": (b"sid=abc; other=1", "does not name the site"),
    "six letters": (b"abcdef", "line 1 has 1 fields, not 7"),
    "a line cut short": (f"{HEADING}\n{LINE}\n.a.org\tTRUE\t/\n", "line 3 has 3 fields"),
    "fields in another order": (b"a.org\t/\tFALSE\tTRUE\t0\ta\tb", "line 1 has other fields"),
    "an expiry in words": (LINE.replace("\t0\t", "\tsoon\t"), "the expiry soon"),
    "no site": ("\tFALSE\t/\tFALSE\t0\tsid\tabc", "does not name its site"),
    "a web page": (b"<!doctype html><html>", "a web page"),
    "a database": (b"SQLite format 3\0" + bytes(100), "the database of a browser"),
    "a zip": (b"PK\x03\x04" + bytes(100), "a zip archive"),
    "bytes": (bytes(range(256)), "it is not text"),
    "text of another encoding": ("Café\t".encode("latin-1") * 7, "it is not text"),
    "JSON cut short": (b'[{"domain": "a.org", ', "not valid JSON"),
    "JSON without a name": (b'[{"domain": "a.org"}]', "entry 1 has no name and value"),
    "JSON of numbers": (b"[1, 2]", "entry 1 of its list is not a cookie"),
    "deep JSON": (b"[" * 100_000, "not valid JSON"),
    "an escape": (b"a.org\tTRUE\t/\tTRUE\t0\ta\t\x1b[2J", "characters that cookies can't have"),
}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("case", READ)
def test_variants_are_read_as_the_plain_form_is(tmp_path: Path, case: str) -> None:
    found = read_cookies(write(tmp_path / "cookies.txt", READ[case]))
    jar = YoutubeDLCookieJar(io.StringIO(found.text))
    jar.load(ignore_discard=True, ignore_expires=True)
    (cookie,) = (cookie for cookie in jar if cookie.name == "sid")
    assert (cookie.domain, cookie.path, cookie.value) == ("127.0.0.1", "/", "abc")
    assert not cookie.is_expired() and len(list(jar)) == len(found.cookies)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, case: str) -> None:
    content, message = REFUSED[case]
    path = write(tmp_path / "cookies.txt", content)
    with pytest.raises(UserError) as error:
        read_cookies(path)
    text = str(error.value)
    assert message in text and text.isprintable() and len(text) < 300 + len(str(path))
    assert text.startswith(f"--cookies {path}") and "export it" in text


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a file, but a folder"):
        read_cookies(tmp_path)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_cookies(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{HEADING}\n.example.org\tTRUE\t/\tTRUE\t0\ta\tb\n", r"no cookies for 127\.0\.0\.1"),
        (LINE.replace("\t0\t", "\t1000\t") + "\n.a.org\tTRUE\t/\tTRUE\t0\ta\tb", "1 of the 1"),
        (LINE, "the site does not accept its cookies"),
    ],
)
def test_a_refusal_says_what_is_wrong_with_the_cookies(
    server: MediaServer, tmp_path: Path, content: str, message: str
) -> None:
    server.statuses["/talk.m4a"] = 403
    path = write(tmp_path / "cookies.txt", content)
    with pytest.raises(UserError, match=message) as error:
        fetch(
            [f"{server.url}/talk.m4a"],
            tmp_path / "out",
            dataclasses.replace(LOCAL, cookies=path),
        )
    assert "pass --cookies" not in str(error.value)


def test_cookies_of_a_site_with_several_hosts(tmp_path: Path) -> None:
    content = f".youtube.com\tTRUE\t/\tTRUE\t{FUTURE}\tSID\tx"
    found = read_cookies(write(tmp_path / "cookies.txt", content))
    assert "does not accept" in found.explain_refusal("https://youtu.be/abc", "youtube")
    assert "does not accept" in found.explain_refusal("https://www.youtube.com/watch?v=abc")
    assert "only for youtube.com" in found.explain_refusal("https://vimeo.com/1", "vimeo")
