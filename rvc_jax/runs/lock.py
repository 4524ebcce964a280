"""Who trains a run: one process at a time.

A run's folder has a lock of `storage.locks`. Object stores have none: at a URL, `RunLock` says
which working folder trains the run, and that the last one has the newest state.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import time
import uuid
from pathlib import Path

from rvc_jax.errors import UserError, sanitize
from rvc_jax.reporter import Reporter
from rvc_jax.storage import places
from rvc_jax.storage.files import write_json
from rvc_jax.storage.json_files import convert, parse_json, read_json
from rvc_jax.storage.locks import Lock, lock_folder

_EXPIRY_SECONDS = 300.0
"""Seconds after the last sign of life for which a run counts as being trained."""
_RENEW_SECONDS = 30.0
"""Seconds between two signs of life."""


@dataclasses.dataclass(frozen=True)
class Owner:
    """Who trains a run, or trained it last."""

    folder: str
    """Identity of the working folder, made up when the folder was made."""
    process: int
    machine: str
    time: float
    """Seconds since 1970 of the last sign of life; 0 after the run has ended."""


def lock_run(run: Path, reporter: Reporter, name: str = "") -> Lock:
    """Return the lock that a process holds while it trains the run in a folder.

    Args:
        run: The run's folder, or the working folder of one at a URL; made if it is missing.
        reporter: Receives a message if a holder on another machine has to be waited for.
        name: What to call the run in messages, if not by its folder.
    """
    advice = "end it first, or train into another place with --run"
    return lock_folder(run, f"the run {name or run}", advice, reporter)


class RunLock:
    """A working folder's claim on a URL, kept in `owner.json` there.

    The process holds the lock of the working folder meanwhile.
    """

    def __init__(self, url: str, folder: Path):
        """Read the folder's identity, or make one up.

        Args:
            url: The run's URL.
            folder: The working folder; it keeps its identity from its first claim on.
        """
        self._url = url
        self._file = folder / "identity.json"
        self._place = places.join(url, "owner.json")
        self._renewed = 0.0
        try:
            self._identity = read_json(self._file, str)
        except (FileNotFoundError, UserError):
            self._identity = uuid.uuid4().hex

    def check(self) -> bool:
        """Return whether this folder was the last one to write to the URL.

        Raises:
            UserError: The run is being trained now.
        """
        owner = self._read()
        if owner is None:
            return False
        age = time.time() - owner.time
        is_own = owner.folder == self._identity
        # This process has the lock of its folder: the one before has ended. Elsewhere, only silence
        # counts. Clocks differ: a sign of life may seem to be from the future.
        if abs(age) < _EXPIRY_SECONDS and not is_own:
            raise UserError(
                f"{self._url} is being trained by process {owner.process} of "
                f"{sanitize(owner.machine)}: end it first, or train into another place; if it is "
                f"gone, wait {_EXPIRY_SECONDS - age:.0f} s"
            )
        return is_own

    def claim(self) -> None:
        """Claim the URL: from here on, its newest state is that of this folder."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._file, self._identity)
        self._write(time.time())

    def renew(self, now: bool = False) -> None:
        """Write a sign of life, if it is time for one.

        Args:
            now: Write one in any case.

        Raises:
            UserError: Another folder has claimed the URL meanwhile.
        """
        if time.monotonic() - self._renewed < _RENEW_SECONDS and not now:
            return
        owner = self._read()
        if owner is not None and owner.folder != self._identity:
            raise UserError(
                f"{self._url} is being trained by {sanitize(owner.machine)}, too, since this run "
                "began"
            )
        self._write(time.time())

    def release(self, keep: bool) -> None:
        """Note that the run has ended.

        Args:
            keep: Whether the URL has files of the run; without any, the claim is removed as well.
        """
        if keep:
            self._write(0.0)
        else:
            places.discard(self._place)

    def _write(self, now: float) -> None:
        owner = Owner(self._identity, os.getpid(), platform.node(), now)
        places.write(self._place, json.dumps(dataclasses.asdict(owner)).encode())
        self._renewed = time.monotonic()

    def _read(self) -> Owner | None:
        content = places.read(self._place)
        try:
            owner = convert(parse_json(content or b""), Owner)
        except ValueError:
            return None
        return owner if math.isfinite(owner.time) and abs(owner.process) < 1 << 31 else None
