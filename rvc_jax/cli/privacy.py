"""Text of this machine made fit for strangers: without names, folders, addresses and secrets."""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path

from rvc_jax.errors import hide_credentials

_COMMON_USERS = ("root", "user", "users", "home", "ubuntu", "admin", "runner", "jovyan", "app")
"""Names that many machines share: they say nothing, and are words."""
_MIN_NAME = 3
_LINK = re.compile(r"\b([a-z][a-z0-9+.-]{1,20})://([^\s/?#'\"<>]*)[^\s'\"<>]*", re.IGNORECASE)
_WEB = ("http", "https", "ftp")
_SECRET_FIELD = re.compile(
    r"(?i)([\w-]*(?:token|secret|passw(?:or)?d|api[_-]?key|access[_-]?key|credential|signature"
    r"|authorization|cookie)[\w-]*[\"']?\s*[=:]\s*)(?:(?:basic|bearer)\s+)?"
    r"(?:\"[^\"]*\"|'[^']*'|[^\s,;]+)"
)
_SECRETS = (
    re.compile(r"\b(?:hf|ghp|gho|ghs|sk|pk|xox[abp]|glpat|pypi)[_-][A-Za-z0-9_-]{12,}"),
    re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}|\bya29\.[\w.-]+|\beyJ[\w-]{5,}\.[\w.-]+"),
    re.compile(r"\b(?i:basic|bearer)\s+[A-Za-z0-9+/=_.-]{6,}"),
    re.compile(r"(?<![\w+-])[A-Za-z0-9+_-]{40,}={0,2}(?![\w+-])"),
)
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")


def anonymize(text: str) -> str:
    """Return text without what belongs to this user and this machine.

    The home folder becomes `~`, the names of user and machine USER and HOST, links keep their host
    alone, and what looks like a password, a key or a token becomes `...`.
    """
    text = hide_credentials(text)
    text = _LINK.sub(_shorten_link, text)
    text = _SECRET_FIELD.sub(r"\1...", text)
    for home in _list_homes():
        text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
    for pattern in _SECRETS:
        text = pattern.sub("...", text)
    text = _MAIL.sub("MAIL", text)
    for names, stand_in in ((_list_users(), "USER"), (_list_hosts(), "HOST")):
        for name in names:
            text = re.sub(rf"(?i)(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", stand_in, text)
    return text


def _shorten_link(link: re.Match[str]) -> str:
    scheme, host = link.groups()
    # Buckets have private names.
    return f"{scheme}://{host}/..." if scheme.lower() in _WEB else f"{scheme}://..."


def _list_homes() -> list[str]:
    homes = {os.environ.get("HOME", ""), os.environ.get("USERPROFILE", "")}
    with contextlib.suppress(OSError, RuntimeError):
        homes.add(str(Path.home()))
        homes.add(str(Path.home().resolve()))
    # The longest first: one may be inside another.
    return sorted(
        (home.rstrip("/\\") for home in homes if len(home) > 2), key=len, reverse=True
    )


def _list_users() -> list[str]:
    names = {os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER")}
    names |= {Path(home).name for home in _list_homes()}
    with contextlib.suppress(OSError, KeyError, ImportError):
        names.add(getpass.getuser())
    return _sort_names(name for name in names if name.lower() not in _COMMON_USERS)


def _list_hosts() -> list[str]:
    names = {os.environ.get("HOSTNAME", ""), os.environ.get("COMPUTERNAME", "")}
    names.add(platform.node())
    names |= {name.partition(".")[0] for name in names}
    return _sort_names(name for name in names if name.lower() != "localhost")


def _sort_names(names: Iterable[str]) -> list[str]:
    found = set(names)
    return sorted((name for name in found if len(name) >= _MIN_NAME), key=len, reverse=True)
