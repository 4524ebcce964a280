"""A run that lives in the cloud: its working folder on this machine, and what keeps the two alike.

A checkpoint's hashes are copied last, in both directions: without them it is unfinished, and
nobody's newest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from rvc_jax.errors import UserError
from rvc_jax.runs import checkpoint
from rvc_jax.storage import places
from rvc_jax.storage.environment import cache_dir
from rvc_jax.storage.files import write_json

_FILES = (
    "config.json",
    "history.jsonl",
    "index.npy",
    "spent.json",
    "heartbeat.json",
    "report.html",
)
_CHECKPOINT_FOLDERS = ("best", "checkpoints")
VOICE_FOLDERS = {"best": "best", "latest": "checkpoints"}
"""The part of a run that a voice is in."""
ALL_PARTS = (*_FILES, "metrics", *_CHECKPOINT_FOLDERS)
_STEP = re.compile("0|[1-9][0-9]{0,17}")
_TRIES = 3
_APPENDED = ("history.jsonl", "heartbeat.json", "metrics")


def is_mirrored(name: str) -> bool:
    """Whether a file belongs to a run, by its name below it. What else a listing has is never
    written here."""
    first, *below = name.split("/")
    if not all(map(_is_plain, below)):
        return False
    if first in _CHECKPOINT_FOLDERS:
        return len(below) > 1 and _STEP.fullmatch(below[0]) is not None
    return len(below) == 1 if first == "metrics" else first in _FILES and not below


def _is_plain(part: str) -> bool:
    """Whether a part of a name leads neither up nor to another drive."""
    return (
        part not in ("", ".", "..")
        and part.isprintable()
        and not set(part) & set("\\:")
        and len(part.encode()) < 200
    )


def working_folder(url: str, purpose: str = "") -> Path:
    """Where a run at a URL is on this machine. purpose: readers have a folder of their own."""
    name = re.sub("[^A-Za-z0-9_-]", "_", url.rstrip("/").rpartition("/")[2])[:40]
    return (
        cache_dir()
        / "runs"
        / f"{name}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:12]}{purpose}"
    )


def fetch_run(run: places.Location, *wanted: str) -> Path:
    """The folder of a run to read from: itself, or a copy of what is wanted of the run at a URL,
    brought up to date.

    wanted: `config.json`, `history.jsonl`, `best`, `checkpoints`, ...: of checkpoints the newest
    intact one.

    Raises:
      UserError: if there is no run at the URL, or it cannot be reached.
    """
    if not places.is_remote(run):
        return Path(run)
    mirror = Mirror(str(run), working_folder(str(run), "-read"))
    for tries_left in reversed(range(_TRIES)):
        try:
            mirror.bring(("config.json", *wanted))
            break
        except UserError as error:  # gone since it was listed: the run trains meanwhile
            if tries_left == 0 or not isinstance(error.__cause__, FileNotFoundError):
                raise
    if not (mirror.run / "config.json").exists():
        raise UserError(f"there is no run of rvc-jax at {run}")
    return mirror.run


class Mirror:
    """The files of a run at a URL and in `folder/run`. Not for several threads at once."""

    def __init__(self, url: str, folder: Path):
        self.url = url.rstrip("/")
        self.run = folder / "run"
        self._record = folder / "mirror.json"
        self._known: dict[str, list[Any]] = _read_record(self._record)
        """By name: size and time of the local file when it was the one at the URL, and that one's
        version, if known."""
        self._there: dict[str, places.RemoteFile] = {}

    def look(self) -> set[str]:
        """Lists what is at the URL. Returns the names that are no run's."""
        found = places.list_versions(self.url)
        self._there = {name: entry for name, entry in found.items() if is_mirrored(name)}
        return set(found) - set(self._there)

    @property
    def is_empty(self) -> bool:
        """Whether nothing of a run is at the URL."""
        return not self._there

    def newest_remote_step(self) -> int:
        """The step of the newest finished checkpoint at the URL; -1 if there is none."""
        return max(self._finished_remote_steps("checkpoints"), default=-1)

    def bring(self, wanted: Collection[str] = ALL_PARTS) -> None:
        """Makes the working folder what the URL has: of checkpoints the newest intact one, of older
        ones the hashes.

        Those stand for what is in the cloud: once they are removed here, `send` removes it there.
        """
        self.look()
        for name in self._there:
            top = name.partition("/")[0]
            if top in wanted and top not in _CHECKPOINT_FOLDERS:
                self._get(name)
        for kept in _CHECKPOINT_FOLDERS:
            if kept in wanted:
                self.pull_newest(kept)
        for name in list(self._local(wanted)):
            if name not in self._there or not self._is_finished(name):
                (self.run / name).unlink(missing_ok=True)
                self._known.pop(name, None)
        for folder in (
            path for kept in _CHECKPOINT_FOLDERS for path in (self.run / kept).glob("*")
        ):
            if not any(path.is_file() for path in folder.rglob("*")):
                shutil.rmtree(folder, ignore_errors=True)
        self._save()

    def pull_newest(self, kept: str) -> None:
        """Brings the newest intact one of the checkpoints at the URL, and the hashes of the older
        ones."""
        found = False
        for step in sorted(self._finished_remote_steps(kept), reverse=True):
            folder = self.run / kept / str(step)
            hashes = f"{kept}/{step}/{checkpoint.HASHES}"
            if not found:
                found = self._get_checkpoint(folder, f"{kept}/{step}/")
            elif kept == "checkpoints" and not self._is_same(hashes):
                shutil.rmtree(folder, ignore_errors=True)
                self._get(hashes)

    def _get_checkpoint(self, folder: Path, prefix: str) -> bool:
        """Whether the checkpoint is intact. What is damaged here already is fetched once more."""
        names = sorted(
            (name for name in self._there if name.startswith(prefix)), key=_is_hashes
        )
        for _ in range(2):
            for name in names:
                self._get(name)
            if checkpoint.verify(folder) is None:
                return True
            for name in names:
                self._known.pop(name, None)
        return False

    def send(self) -> int:
        """Copies what has changed here to the URL, and removes there what was removed here.

        Returns how many checkpoints were removed here before they were there. Raises UserError if
        the URL cannot be reached; what has arrived need not be sent again.
        """
        missed = 0
        try:
            for kept in _CHECKPOINT_FOLDERS:
                self._forget(
                    kept
                )  # before anything comes, to take no more room than there is here
            for kept in _CHECKPOINT_FOLDERS:
                for step in list(self._unsent_steps(kept)):
                    missed += not self._push_checkpoint(kept, step)
                    self._forget(kept)
            self._push_files()
        finally:
            self._save()
        return missed

    def _push_checkpoint(self, kept: str, step: int) -> bool:
        """Whether it has arrived: it may have been removed meanwhile."""
        *files, hashes = self._stamps(kept, step) or [("", [])]
        if not _is_hashes(hashes[0]) or not all(self._put(*file) for file in files):
            return False
        if (
            kept == "checkpoints"
        ):  # a history must reach as far as the checkpoint that it is continued from
            self._push_files()
        return self._put(*hashes)

    def _unsent_steps(self, kept: str) -> Iterator[int]:
        """The steps of finished checkpoints that the URL lacks, the newest first."""
        for step in reversed(checkpoint.list_steps(self.run / kept)):
            folder = self.run / kept / str(step)
            is_whole = (folder / checkpoint.HASHES).exists() and not checkpoint.is_remote_only(
                folder
            )
            if is_whole and not all(self._is_sent(*each) for each in self._stamps(kept, step)):
                yield step

    def _stamps(self, kept: str, step: int) -> list[tuple[str, list[int]]]:
        """(name, stamp) of a checkpoint's files, the hashes last."""
        found = [(name, _stamp(self.run / name)) for name in self._local((f"{kept}/{step}",))]
        return sorted(found, key=lambda each: _is_hashes(each[0]))

    def _push_files(self) -> None:
        others = [name for name in ALL_PARTS if name not in _CHECKPOINT_FOLDERS]
        here = set(self._local(others))
        for name in sorted(here):
            self._put(name, _stamp(self.run / name))
        for name in [
            name
            for name in self._known
            if name.partition("/")[0] in others and name not in here
        ]:
            self._discard(name)

    def _forget(self, kept: str) -> None:
        """Removes at the URL the checkpoints that are not here any more, their hashes first.

        The newest one stays until another one has arrived.
        """
        finished = self._finished_remote_steps(kept)
        has_arrived = any((self.run / kept / str(step)).exists() for step in finished)
        spared = -1 if has_arrived else max(finished, default=-1)
        for name in sorted(self._there, key=lambda name: not _is_hashes(name)):
            top, _, rest = name.partition("/")
            if top != kept:
                continue
            step = int(rest.partition("/")[0])
            folder = self.run / kept / str(step)
            is_gone = not folder.exists() and step != spared
            is_of_another = (folder / "default").exists() and not (
                self.run / name
            ).exists()  # the step was saved anew
            if is_gone or is_of_another:
                self._discard(name)

    def _put(self, name: str, stamp: list[int]) -> bool:
        """Whether the file is at the URL as it was at the stamp; not if it was removed or written
        anew meanwhile."""
        if self._is_sent(name, stamp):
            return True
        path = self.run / name
        is_growing = name.partition("/")[0] in _APPENDED
        if _stamp(path) != stamp and not is_growing:
            return False
        try:
            with _snapshot(path) if is_growing else contextlib.nullcontext(path) as source:
                places.put(source, places.join(self.url, name))
        except (UserError, FileNotFoundError):
            if path.exists():
                raise
            return False
        self._there[name] = places.RemoteFile(stamp[0], "")
        self._known[name] = [*stamp, ""]
        return True

    def _get(self, name: str) -> None:
        if not self._is_same(name):
            places.get(places.join(self.url, name), self.run / name)
            self._known[name] = [*_stamp(self.run / name), self._there[name].version]

    def _discard(self, name: str) -> None:
        places.discard(places.join(self.url, name))
        self._there.pop(name, None)
        self._known.pop(name, None)

    def _is_sent(self, name: str, stamp: list[int]) -> bool:
        return name in self._there and self._known.get(name, [])[:2] == stamp

    def _is_same(self, name: str) -> bool:
        """Whether the local file is the one that is at the URL now."""
        stamp = _stamp(self.run / name)
        return bool(stamp) and self._known.get(name) == [*stamp, self._there[name].version]

    def _is_finished(self, name: str) -> bool:
        top, _, rest = name.partition("/")
        return (
            top not in _CHECKPOINT_FOLDERS
            or f"{top}/{rest.partition('/')[0]}/{checkpoint.HASHES}" in self._there
        )

    def _finished_remote_steps(self, kept: str) -> list[int]:
        parts = [name.split("/") for name in self._there]
        return [
            int(part[1])
            for part in parts
            if part[0] == kept and part[2:] == [checkpoint.HASHES]
        ]

    def _local(self, wanted: Collection[str]) -> Iterator[str]:
        """Names of the run's files on this machine."""
        for top in wanted:
            path = self.run / top
            for file in [path] if path.is_file() else path.rglob("*"):
                name = file.relative_to(self.run).as_posix()
                if is_mirrored(name) and file.is_file():
                    yield name

    def _save(self) -> None:
        with contextlib.suppress(OSError):  # what is not known is copied again
            self._record.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._record, self._known)


def _is_hashes(name: str) -> bool:
    return name.endswith(f"/{checkpoint.HASHES}")


def _stamp(path: Path) -> list[int]:
    """Size and time of a file, which change when it is written; nothing if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


@contextlib.contextmanager
def _snapshot(path: Path) -> Iterator[Path]:
    """A copy of a file that is being written to: some services refuse what grows while it is
    sent."""
    with tempfile.TemporaryDirectory(prefix="rvc_jax-") as folder:
        yield Path(shutil.copyfile(path, Path(folder) / path.name))


def _read_record(path: Path) -> dict[str, list[Any]]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
