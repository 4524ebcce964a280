"""Every message of yt-dlp becomes a reason and an advice, in one line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvc_jax.data.fetch.errors import explain

# As yt-dlp and the sites word them.
MESSAGES = [
    (
        "\x1b[0;31mERROR:\x1b[0m [youtube] abc_DEF-12: Sign in to confirm you’re not a bot. "
        "Use --cookies-from-browser "
        "or --cookies for the authentication. See  https://github.com/yt-dlp/yt-dlp/wiki/FAQ  "
        "for how to pass "
        "cookies. Also see  https://github.com/yt-dlp/yt-dlp/wiki/Extractors  for tips",
        "cloud addresses",
    ),
    ("[youtube] abc: Sign in to confirm you're not a bot", "--cookies FILE"),
    (
        "[youtube] a: Video unavailable. YouTube is requiring a captcha challenge before playback",
        "not a bot",
    ),
    (
        "[youtube] a: Private video. Sign in if you've been granted access to this video",
        "private",
    ),
    ("[youtube] a: Video unavailable. This video is private", "private"),
    ("[youtube] a: This video has been removed by the uploader", "removed"),
    ("[youtube] a: Video unavailable", "removed"),
    (
        "[youtube] a: Video unavailable. This video is no longer available because the "
        "YouTube account associated with "
        "this video has been terminated.",
        "removed",
    ),
    (
        "[generic] Unable to download webpage: HTTP Error 404: Not Found (caused by "
        "<HTTPError 404>)",
        "removed",
    ),
    ("unable to download video data: HTTP Error 410: Gone", "removed"),
    ("[x] 1: Content not found; it has most likely expired", "removed"),
    (
        "[youtube] a: Sign in to confirm your age. This video may be inappropriate for some "
        "users. Use "
        "--cookies-from-browser or --cookies for the authentication.",
        "adults",
    ),
    (
        "[youtube] a: This video is age-restricted and YouTube is requiring account "
        "age-verification",
        "adults",
    ),
    (
        "[youtube] a: Join this channel to get access to members-only content like this video",
        "members",
    ),
    ("[x] a: This video is only available for Premium members", "members"),
    (
        "[youtube] a: The uploader has not made this video available in your country\nThis "
        "video is available in "
        "Germany.\nYou might want to use a VPN or a proxy server (with --proxy) to workaround.",
        "country",
    ),
    ("[x] This video is not available from your location due to geo restriction", "country"),
    ("Unsupported URL: https://example.org/about", "no recording found at this link"),
    ("[youtube] a: This live event will begin in 2 hours.", "has not ended"),
    ("[youtube] a: Premieres in 5 days", "has not ended"),
    ("[twitch:stream] x: The channel is not currently live", "has not ended"),
    ("[youtube] a: This live stream recording is not available.", "has not ended"),
    (
        "[generic] Unable to download webpage: <urlopen error [Errno -2] Name or service not "
        "known>",
        "network",
    ),
    (
        "[generic] Unable to download webpage: [Errno -3] Temporary failure in name resolution",
        "network",
    ),
    ("[generic] Unable to download webpage: [Errno 101] Network is unreachable", "network"),
    ("[generic] Unable to download webpage: [Errno 11001] getaddrinfo failed", "network"),
    ("unable to download video data: HTTP Error 403: Forbidden", "--cookies FILE"),
    ("[x] Unable to download JSON metadata: HTTP Error 401: Unauthorized", "--cookies FILE"),
    (
        "[x] a: This video is only available for registered users. Use --cookies, --username",
        "--cookies FILE",
    ),
    (
        "[x] a: HTTP Error 429: Too Many Requests (caused by <HTTPError 429: Too Many Requests>)",
        "wait an hour",
    ),
    (
        "[x] a: The current session has been rate-limited by YouTube for up to an hour.",
        "wait an hour",
    ),
    (
        "[x] a: Unable to download webpage: HTTP Error 503: Service Unavailable",
        "try again later",
    ),
    (
        "[generic] Unable to download webpage: HTTP Error 302: Found (redirect loop detected)",
        "in circles",
    ),
    (
        "[generic] Got HTTP Error 403 caused by Cloudflare anti-bot challenge; try again with "
        '--extractor-args "generic:impersonate"',
        "browsers in only",
    ),
    (
        '[x] Impersonate target "chrome" is not available. See --list-impersonate-targets',
        "browsers in only",
    ),
    ("[x] a: This video is DRM protected", "DRM"),
    (
        "[DRM] The requested site is known to use DRM protection. It will NOT be supported.",
        "DRM",
    ),
    ("m3u8 download detected but ffmpeg could not be found. Please install", "ffmpeg"),
    (
        "[x] a: You have requested merging of multiple formats but ffmpeg is not installed.",
        "ffmpeg",
    ),
    (
        'could not find chrome cookies database in "/root/.config/google-chrome"',
        "browser's cookies cannot be read",
    ),
    (
        "Failed to decrypt with DPAPI. See  https://github.com/yt-dlp/yt-dlp/issues/10927  "
        "for info",
        "browser's cookies",
    ),
    (
        "Cookies file must be Netscape formatted, not JSON. See  https://github.com/yt-dlp",
        "not a file of cookies",
    ),
    (
        "'cookies.txt' does not look like a Netscape format cookies file",
        "not a file of cookies",
    ),
    (
        "[x] [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has "
        "expired (_ssl.c:1)",
        "clock",
    ),
    ("unable to download video data: timed out", "continues where it stopped"),
    (
        "unable to download video data: 1024 bytes read, 4096 more expected. Giving up after "
        "10 retries",
        "continues",
    ),
    ("content too short (expected 10 bytes and served 4)", "continues"),
    ("[x] Unable to download webpage: [Errno 111] Connection refused", "broke off"),
    (
        "[x] Unable to download webpage: Remote end closed connection without response",
        "broke off",
    ),
    (
        "The extracted extension ('sh') is unusual and will be skipped for safety reasons.",
        "no sound that can be",
    ),
    (
        "[x] a: No video formats found!; please report this issue on  "
        "https://github.com/yt-dlp/yt-dlp",
        "no sound",
    ),
    (
        "[x] a: Requested format is not available. Use --list-formats for a list of available "
        "formats",
        "no sound",
    ),
    (
        "[x] a: Unable to extract title; please report this issue on  "
        "https://github.com/yt-dlp/yt-dlp",
        "update yt-dlp",
    ),
    ("yt-dlp failed inside (KeyError: 'videoDetails')", "update yt-dlp"),
    (
        "unable to open for writing: [Errno 13] Permission denied: '/data/talk.m4a.part'",
        "can be written to",
    ),
    (
        'Unable to handle request: Unsupported url scheme: "rtsp" (urllib)',
        "only http and https",
    ),
    ("something new", "update yt-dlp"),
    ("", "update yt-dlp"),
]


@pytest.mark.parametrize("prefix", ["", "ERROR: ", "\x1b[0;31mERROR:\x1b[0m "])
@pytest.mark.parametrize(("message", "advice"), MESSAGES)
def test_a_message_becomes_a_reason_and_an_advice(
    message: str, advice: str, prefix: str
) -> None:
    line = explain(prefix + message)
    assert advice in line
    assert not set("\x1b\n\r") & set(line)
    assert "ERROR" not in line and "report this issue" not in line and "github.com" not in line
    assert "[youtube]" not in line and "[generic]" not in line


def test_youtube_without_a_javascript_runtime() -> None:
    warning = (
        "[youtube] No supported JavaScript runtime could be found. "
        "Only deno is enabled by default"
    )
    message = "ERROR: [youtube] a: Requested format is not available. Use --list-formats"
    assert "deno" in explain(message, (warning,)) and "deno" not in explain(message)
    assert "deno" not in explain("ERROR: [youtube] a: Video unavailable", (warning,))


def test_the_texts_are_those_of_the_installed_yt_dlp() -> None:
    """Messages that yt-dlp composes itself: were they to change, the advice would be lost."""
    pytest.importorskip("yt_dlp")
    from yt_dlp.networking.exceptions import IncompleteRead
    from yt_dlp.utils import GeoRestrictedError, UnsupportedError, UserNotLive

    assert "no recording found" in explain(str(UnsupportedError("https://example.org/")))
    assert "has not ended" in explain(str(UserNotLive(video_id="somebody")))
    assert "country" in explain(
        str(
            GeoRestrictedError(
                "This video is not available from your location due to geo restriction"
            )
        )
    )
    assert "continues" in explain(
        f"unable to download video data: {IncompleteRead(partial=1, expected=2)}"
    )


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=2000))
def test_any_message_becomes_one_short_line(message: str) -> None:
    line = explain(message)
    assert line.isprintable() and 10 < len(line) < 700
