"""Turn yt-dlp's error messages into one line with advice."""

from __future__ import annotations

import re

_COOKIES = (
    "sign in to the site in a browser, export its cookies (cookies.txt, Netscape format) "
    "and pass --cookies FILE"
)
_UPDATE = "update yt-dlp, sites change often: pip install -U 'yt-dlp[default]'"

# (pattern of the message, advice); the first match counts, so the order matters.
_ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"not a bot|captcha|unusual traffic",
        "the site asks this machine to prove that it is not a bot, as it does with most cloud "
        "addresses: open a private window of a browser on your own machine, sign in, export the "
        "cookies (cookies.txt, Netscape format), close the window and pass --cookies FILE; or "
        "fetch on your own machine and copy the folder",
    ),
    (
        r"Unsupported url scheme|file:// URLs are disabled",
        "only http and https links are fetched",
    ),
    (
        r"HTTP Error 3\d\d|redirect loop",
        "the site redirects in circles, or to a link that is not http or https",
    ),
    (
        r"impersonat|Cloudflare anti-bot",
        "the site lets browsers in only: download the file with a browser and put it into the "
        "folder",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|SSLV3|\[SSL",
        "no trusted connection: check this machine's clock and its certificates",
    ),
    (
        r"confirm your age|age.?restricted|inappropriate for some",
        f"only for adults who are signed in: {_COOKIES}",
    ),
    (
        r"members?.only|Join this channel|Premium members|requires? (payment|purchase)",
        f"only for members: {_COOKIES}",
    ),
    (
        r"Private video|is private",
        f"private: if your account may see it, {_COOKIES}",
    ),
    (
        r"live event will begin|Premieres in|not currently live|is offline"
        r"|livestream has ended|live stream recording is not available|Live HLS",
        "a live stream that has not ended, or has left no recording: fetch it when there is one",
    ),
    (
        r"geo.?restrict|(your|this) (country|location|region)|use a VPN",
        "not available in the country of this machine: fetch it in a country where it is, and "
        "copy the folder",
    ),
    (
        r"has been removed|no longer available|account .{0,60}terminated"
        r"|HTTP Error (404|410)|Video unavailable|does(n.t| not) exist"
        r"|(video|page|content|channel|item|track|episode) (was )?not found"
        r"|(?<!format )is(n.t| not) available|video is unavailable|likely expired",
        "removed, or never there: check the link in a browser",
    ),
    (
        r"\bDRM\b",
        "protected against copying (DRM): it cannot be fetched",
    ),
    (
        r"HTTP Error 429|Too Many Requests|rate.?limit",
        "the site has had too many requests from this address: wait an hour, then run the same "
        "command again; what is fetched stays",
    ),
    (
        r"HTTP Error (401|403)|Forbidden|registered users|log ?in|sign in|--cookies",
        f"the site refuses: {_COOKIES}",
    ),
    (
        r"HTTP Error 5\d\d",
        "the site has a fault: try again later",
    ),
    (
        r"Unsupported URL",
        "no recording found at this link: open it in a browser, and copy the link of the recording",
    ),
    (
        r"could not find .{0,40}cookies|cookies? database|unsupported browser|unknown browser"
        r"|keyring|DPAPI|failed to decrypt",
        "the browser's cookies cannot be read: close the browser, or export cookies.txt and pass "
        "--cookies FILE",
    ),
    (
        r"Netscape|cookies? file|load cookies",
        "this is not a file of cookies: export them as cookies.txt in Netscape format",
    ),
    (
        r"Name or service not known|Temporary failure in name resolution|nodename nor servname"
        r"|getaddrinfo failed|No address associated|Network is unreachable|No route to host"
        r"|Tunnel connection failed",
        "the network cannot be reached: check the connection, and the spelling of the link",
    ),
    (
        r"timed out|Connection refused|Connection reset|Remote end closed|Connection aborted"
        r"|IncompleteRead|stalled|more expected|content too short|Broken pipe"
        r"|Did not get any data",
        "the connection broke off: run the same command again, it continues where it stopped",
    ),
    (
        r"ffmpeg",
        "this kind of stream needs the program ffmpeg, which is not used here: take another link "
        "of it",
    ),
    (
        r"unable to open for writing|unable to write|Unable to create",
        "check that the folder can be written to",
    ),
    (
        r"extracted extension|No video formats|Requested format is not available"
        r"|only images are available",
        f"the site offers no sound that can be fetched; {_UPDATE}",
    ),
    (
        r"report this issue|Unable to extract|Failed to (parse|extract)|failed inside",
        _UPDATE,
    ),
)

_JAVASCRIPT = re.compile(r"JavaScript runtime|challenge solving failed", re.IGNORECASE)
_NEEDS_JAVASCRIPT = re.compile(
    r"HTTP Error 403|Requested format is not available|No video formats|only images",
    re.IGNORECASE,
)
_JAVASCRIPT_ADVICE = (
    "YouTube needs a JavaScript runtime: install deno (deno.com) and "
    "pip install -U 'yt-dlp[default]'"
)
_BOILERPLATE = re.compile(
    r"[;,.]?\s*(?:please report this issue|Use --|You might want to use a VPN|See\s+https?://"
    r"|; try again with)",
    re.IGNORECASE,
)
_MAX_REASON = 200


def explain(text: str, warnings: tuple[str, ...] = (), cookies: str | None = None) -> str:
    """Return the reason and the advice for one of yt-dlp's error messages, in one line.

    Args:
        text: The message, with its colors.
        warnings: yt-dlp's warnings before it.
        cookies: Why cookies that were given may not have helped, instead of the advice to give
            some.
    """
    reason = _extract_reason(text)
    if _NEEDS_JAVASCRIPT.search(text) and any(_JAVASCRIPT.search(item) for item in warnings):
        return f"{reason}: {_JAVASCRIPT_ADVICE}"
    # Searched in the whole text: the words that decide may not be part of the reason.
    for pattern, advice in _ADVICE:
        if re.search(pattern, text, re.IGNORECASE):
            is_about_cookies = "--cookies FILE" in advice
            return f"{reason}: {cookies if cookies and is_about_cookies else advice}"
    return f"{reason}: {_UPDATE}"


def _extract_reason(text: str) -> str:
    """Return the first sentence, without colors, extractor name and requests to report it."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    text = re.sub(r"^(ERROR:\s*)+", "", text)
    text = re.sub(r"^\[[\w:.-]+\]\s+(\S{1,80}: )?", "", text)
    text = re.sub(r"\(caused by .*", "", text)
    text = _BOILERPLATE.split(text, maxsplit=1)[0]
    text = text.strip(" .:;") or "it failed"
    return text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}..."
