"""Downloads one file from one address: resumed where it stopped, with limits on size and time."""

from __future__ import annotations

import http.client
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rvc_jax.errors import UserError, describe_os_error, hide_credentials
from rvc_jax.reporter import Reporter
from rvc_jax.storage.files import check_disk_space, write_json
from rvc_jax.storage.json_files import parse_json
from rvc_jax.storage.origins import drop_credentials, split_credentials
from rvc_jax.storage.plain_files import read_plain
from rvc_jax.version import __version__

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each new attempt after a transfer broke off."""

TIMEOUT = 30.0
"""Seconds of silence after which a connection is given up."""

STALL_SECONDS = 60.0
STALL_BYTES = 60_000
"""Bytes that a transfer must bring in STALL_SECONDS; a slower one is given up."""

_BLOCK = 1 << 20


class DownloadError(Exception):
    """An address does not give the file, and asking again would not help."""


class MissingOnServerError(DownloadError):
    """The server says that it has no such file."""


class _InterruptedError(Exception):
    """The transfer stopped before its end; it may be continued."""


def transfer(
    url: str,
    part: Path,
    size: int | None,
    limit: int,
    pinned: bool,
    name: str,
    reporter: Reporter,
) -> None:
    """Download a file to `part`, continuing what an earlier call left there.

    A part is continued only if it came from the same address and the file can't have changed
    unnoticed: the server confirms its ETag, or the caller knows the hash.

    Args:
      size: Bytes that the file must have, if known.
      limit: Bytes that it may have at most.
      pinned: Whether the caller knows the hash.
      name: Name of the file, for the progress.
      reporter: Receives the progress of the stage "download".

    Raises:
      DownloadError: The address does not give the file.
      UserError: The disk has too little room.
    """
    for pause in (*PAUSES, None):
        try:
            return _attempt(url, part, size, limit, pinned, name, reporter)
        except _InterruptedError as error:
            if pause is None:
                raise DownloadError(f"{error} ({len(PAUSES) + 1} attempts)") from None
            time.sleep(pause)


def discard(part: Path) -> None:
    """Remove what an unfinished transfer left."""
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def _state_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _attempt(
    url: str,
    part: Path,
    size: int | None,
    limit: int,
    pinned: bool,
    name: str,
    reporter: Reporter,
) -> None:
    have, etag = _find_part(url, part, pinned)
    if size is not None and have >= size:
        if have == size:
            return
        have = 0
    with _open(_build_request(url, have, etag), part) as response:
        if have and not _continues(response, have):
            have = 0
        total = _check_length(response, have, size, limit, pinned)
        if total is not None:
            check_download_space(part.parent, total - have)
        if not have:
            # Before the state is written: it must never describe a new file beside bytes of an old.
            discard(part)
        write_json(
            _state_path(part), {"url": hide_credentials(url), "etag": _strong_etag(response)}
        )
        most = limit if total is None else total
        with part.open("ab" if have else "wb") as file:
            reporter.progress("download", have, total, name)
            for chunk in _read_chunks(response):
                have += len(chunk)
                if have > most:
                    break
                file.write(chunk)
                reporter.progress("download", have, total, name)
    if have > most:
        discard(part)
        raise DownloadError(
            f"it sends more than {_format_megabytes(most)}, the most that the file can have"
        )
    if total is not None and have < total:
        raise _InterruptedError(
            f"the connection closed after {_format_megabytes(have)} of {_format_megabytes(total)}"
        )


def _build_request(url: str, have: int, etag: str | None) -> urllib.request.Request:
    headers = {"User-Agent": f"rvc_jax/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if etag:
            headers["If-Range"] = etag
    address, authorization = split_credentials(url)
    if authorization:
        headers["Authorization"] = authorization
    return urllib.request.Request(address, headers=headers)


def _find_part(url: str, part: Path, pinned: bool) -> tuple[int, str | None]:
    """The bytes that can be continued, and the ETag of the file that they belong to."""
    state = read_json(_state_path(part))
    etag = state.get("etag") if isinstance(state.get("etag"), str) else None
    if state.get("url") != hide_credentials(url) or not (etag or pinned) or not part.is_file():
        return 0, None
    return part.stat().st_size, etag


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a small JSON file; empty if it is missing or damaged."""
    try:
        value = parse_json(read_plain(path))
    except (OSError, ValueError, UserError):
        return {}
    return value if isinstance(value, dict) else {}


# --- the server ---


class SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https, and from http to http: never to files or other protocols, never
    from https to http, and without credentials to another origin."""

    def redirect_request(
        self, request: Any, file: Any, code: int, message: str, headers: Any, address: str
    ) -> Any:
        """Return the next request; None makes the redirect an HTTPError."""
        scheme = address.partition(":")[0].lower()
        if scheme != "https" and scheme != request.type:
            return None
        found = super().redirect_request(request, file, code, message, headers, address)
        if found is not None:
            drop_credentials(found, request.full_url)
        return found


def _open(request: urllib.request.Request, part: Path) -> Any:
    """Return the response after all redirects; raise DownloadError or _InterruptedError."""
    try:
        return _request(request)
    except urllib.error.HTTPError as error:
        error.close()
        raise _to_error(error.code, part) from None
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DownloadError(
                f"its certificate is not trusted: {reason.verify_message}"
            ) from None
        if isinstance(reason, ConnectionResetError | ssl.SSLError):
            raise _InterruptedError(_describe(reason)) from None
        raise DownloadError(f"it cannot be reached: {describe_os_error(reason)}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _InterruptedError(_describe(error)) from None


def _request(request: urllib.request.Request) -> Any:
    """Send a request in a thread of its own, since headers can trickle in for ever."""
    outcome: list[Any] = []

    def ask() -> None:
        try:
            opener = urllib.request.build_opener(SafeRedirects())
            outcome.append(opener.open(request, timeout=TIMEOUT))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(2 * TIMEOUT)
    if not outcome:
        raise DownloadError(f"it gives no answer in {2 * TIMEOUT:.0f} s")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _to_error(code: int, part: Path) -> Exception:
    if code == 416:  # what is here cannot be the beginning of that file
        discard(part)
    if code in (408, 416, 425, 429) or code >= 500:
        return _InterruptedError(f"the server answers HTTP {code}")
    if code in (404, 410):
        return MissingOnServerError(f"the server has no such file (HTTP {code})")
    if code in (401, 403):
        return DownloadError(f"the server does not give it out, if it has it (HTTP {code})")
    if code in (301, 302, 303, 307, 308):
        return DownloadError(
            f"the server redirects in a circle or to where we do not follow (HTTP {code})"
        )
    return DownloadError(f"the server answers HTTP {code}")


def _continues(response: Any, have: int) -> bool:
    """Whether the server sends the rest; it may send the whole file instead."""
    sent = str(response.headers.get("Content-Range"))
    return response.status == 206 and sent.startswith(f"bytes {have}-")


def _strong_etag(response: Any) -> str | None:
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else None


def _check_length(
    response: Any, have: int, size: int | None, limit: int, pinned: bool
) -> int | None:
    """Return the bytes that the file will have after this response, if the server says it."""
    if response.status not in (200, 206) or (response.status == 206 and not have):
        raise DownloadError(
            f"the server sends another part than was asked for (HTTP {response.status})"
        )
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise DownloadError(f"the server sends it encoded as {encoding[:20]!r}")
    if response.length is None:
        if not (pinned or response.chunked):
            raise DownloadError(
                "the server does not say how long the file is, nor where it ends"
            )
        return size
    total = have + response.length
    if size is not None and total != size:
        raise DownloadError(f"the file there has {total} bytes, not {size}: it is another one")
    if total > limit:
        raise DownloadError(
            f"the file there claims {_format_megabytes(total)}, more than can be true"
        )
    return total


def check_download_space(folder: Path, needed: int) -> None:
    """Raise UserError unless the disk has room for a download of this many bytes."""
    advice = "free some space, or name another folder in RVC_JAX_HOME"
    check_disk_space(folder, needed, "the download", advice)


def _format_megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _read_chunks(response: Any) -> Iterator[bytes]:
    """Yield the body as it comes; raise _InterruptedError when it stops or becomes too slow."""
    since = time.monotonic()
    received = 0
    while True:
        try:
            chunk = response.read1(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _InterruptedError(_describe(error)) from None
        if not chunk:
            return
        yield chunk
        received += len(chunk)
        now = time.monotonic()
        if now - since > STALL_SECONDS:
            if received < STALL_BYTES:
                raise _InterruptedError(
                    f"it sent only {_format_megabytes(received)} in {now - since:.0f} s"
                )
            since = now
            received = 0


def _describe(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"the connection was silent for {TIMEOUT:.0f} s"
    details = f": {error}" if str(error) else ""
    return f"the connection broke: {type(error).__name__}{details}"
