"""Whose a run at a URL is: one working folder trains into it at a time, and the last one to do so
has it newest."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import time
import uuid
from pathlib import Path

import psutil

from rvc_jax.errors import UserError, sanitize
from rvc_jax.storage import places
from rvc_jax.storage.files import write_json

_EXPIRY_SECONDS = 300.0
"""Seconds after the last sign of life for which a run counts as being trained."""
_RENEW_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class Owner:
    """Who trains, or trained last."""

    folder: str
    """Of a working folder, made up when it was made."""
    process: int
    machine: str
    time: float
    """Of the last sign of life, in seconds since 1970; 0 after the end."""


class RunLock:
    """The claim of a working folder on a URL, kept in `owner.json` there."""

    def __init__(self, url: str, folder: Path):
        """folder: has an identity from its first claim on."""
        self._url = url
        self._file = folder / "identity.json"
        self._place = places.join(url, "owner.json")
        self._beaten = 0.0
        try:
            self._identity = str(json.loads(self._file.read_text()))
        except (OSError, ValueError):
            self._identity = uuid.uuid4().hex

    def check(self) -> bool:
        """Whether this folder was the last to write to the URL. Raises UserError if a run goes on
        there now."""
        owner = self._read()
        if owner is None:
            return False
        age = time.time() - owner.time
        is_here = owner.folder == self._identity
        gone = is_here and (
            owner.process == os.getpid() or not psutil.pid_exists(owner.process)
        )
        if abs(age) < _EXPIRY_SECONDS and not gone:
            raise UserError(
                f"{self._url} is being trained by process {owner.process} of {sanitize(owner.machine)}: end it first, or "
                f"train into another place; if it is gone, wait {_EXPIRY_SECONDS - age:.0f} s"
            )
        return is_here

    def claim(self) -> None:
        """From here on the URL's newest state is that of this folder."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._file, self._identity)
        self._write(time.time())

    def beat(self, now: bool = False) -> None:
        """A sign of life, if it is time for one. Raises UserError if another one has claimed the
        URL meanwhile."""
        if time.monotonic() - self._beaten < _RENEW_SECONDS and not now:
            return
        owner = self._read()
        if owner is not None and owner.folder != self._identity:
            raise UserError(
                f"{self._url} is being trained by {sanitize(owner.machine)}, too, since this run began"
            )
        self._write(time.time())

    def release(self, keep: bool) -> None:
        """The run has ended. keep: whether there is anything at the URL."""
        if keep:
            self._write(0.0)
        else:
            places.discard(self._place)

    def _write(self, now: float) -> None:
        owner = Owner(self._identity, os.getpid(), platform.node(), now)
        places.write(self._place, json.dumps(dataclasses.asdict(owner)).encode())
        self._beaten = time.monotonic()

    def _read(self) -> Owner | None:
        content = places.read(self._place)
        try:
            found = json.loads(content or b"")
            return Owner(
                str(found["folder"]),
                int(found["process"]),
                str(found["machine"]),
                float(found["time"]),
            )
        except (ValueError, TypeError, KeyError):
            return None
