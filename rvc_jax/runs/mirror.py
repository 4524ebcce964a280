"""A run at a URL: its working folder on this machine, and what keeps the two equal.

A checkpoint's hashes are copied last, in both directions: a checkpoint without them is unfinished,
and no reader takes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from rvc_jax.errors import UserError
from rvc_jax.runs import checkpoint
from rvc_jax.storage import places
from rvc_jax.storage.environment import cache_dir
from rvc_jax.storage.files import write_json
from rvc_jax.storage.json_files import read_json
from rvc_jax.storage.scratch import temporary_folder

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
"""The part of a run that has its best and its latest voice."""
ALL_PARTS = (*_FILES, "metrics", *_CHECKPOINT_FOLDERS)
_STEP = re.compile("0|[1-9][0-9]{0,17}")
_TRIES = 3
"""Times that a run is read if its files change meanwhile."""
_APPENDED = ("history.jsonl", "heartbeat.json", "metrics")
"""Parts that may be written to while they are sent."""


def is_mirrored(name: str) -> bool:
    """Return whether a file belongs to a run, by its name in the run's folder.

    A listing is not trusted: nothing else in it is ever written on this machine.
    """
    first, *below = name.split("/")
    if not all(map(_is_plain, below)):
        return False
    if first in _CHECKPOINT_FOLDERS:
        return len(below) > 1 and _STEP.fullmatch(below[0]) is not None
    if first == "metrics":
        return len(below) == 1
    return first in _FILES and not below


def _is_plain(part: str) -> bool:
    """Return whether a part of a name leads neither up nor to another drive."""
    return (
        part not in ("", ".", "..")
        and part.isprintable()
        and not set(part) & set("\\:")
        and len(part.encode()) < 200
    )


def working_folder(url: str, purpose: str = "") -> Path:
    """Return where a run at a URL is on this machine.

    Args:
        url: The run's URL.
        purpose: Ending of the folder's name. Readers have another folder than the training.
    """
    url = url.rstrip("/")
    name = re.sub("[^A-Za-z0-9_-]", "_", url.rpartition("/")[2])[:40]
    digest = hashlib.sha256(url.encode()).hexdigest()[:12]
    return cache_dir() / "runs" / f"{name}-{digest}{purpose}"


def fetch_run(run: places.Location, *wanted: str) -> Path:
    """Return a folder to read a run from: the run's own, or an up-to-date copy of one at a URL.

    Args:
        run: Folder or URL of the run.
        wanted: The parts that are needed besides `config.json`: `history.jsonl`, `best`,
            `checkpoints`, ... Of checkpoints, the newest intact one is copied.

    Raises:
        UserError: There is no run at the URL, or it can't be reached.
    """
    if not places.is_remote(run):
        return Path(run)
    mirror = Mirror(str(run), working_folder(str(run), "-read"))
    for tries_left in reversed(range(_TRIES)):
        try:
            mirror.pull(("config.json", *wanted))
            break
        except UserError as error:
            # A file that was listed is gone: the run trains meanwhile.
            has_vanished = isinstance(error.__cause__, FileNotFoundError)
            if tries_left == 0 or not has_vanished:
                raise
    if not (mirror.run / "config.json").exists():
        raise UserError(f"there is no run of rvc-jax at {run}")
    return mirror.run


class Mirror:
    """The files of a run at a URL and in `folder/run`. Not for several threads at once."""

    def __init__(self, url: str, folder: Path):
        """Read what is known from the time before; nothing is listed or copied yet.

        Args:
            url: The run's URL.
            folder: The working folder.
        """
        self.url = url.rstrip("/")
        self.run = folder / "run"
        self._record = folder / "mirror.json"
        self._known: dict[str, list[Any]] = _read_record(self._record)
        """By name: size and time of the local file when it was equal to the remote one, and the
        version of that one, "" if unknown."""
        self._remote: dict[str, places.RemoteFile] = {}
        """By name: the run's files at the URL, as last listed and changed since."""

    # MARK: listing

    def list_remote(self) -> set[str]:
        """List what is at the URL; returns the names that don't belong to a run."""
        found = places.list_versions(self.url)
        self._remote = {name: entry for name, entry in found.items() if is_mirrored(name)}
        return set(found) - set(self._remote)

    @property
    def is_empty(self) -> bool:
        """Whether the URL has no files of a run."""
        return not self._remote

    def newest_remote_step(self) -> int:
        """Return the step of the newest finished checkpoint at the URL; -1 if there is none."""
        return max(self._finished_remote_steps("checkpoints"), default=-1)

    def _finished_remote_steps(self, kind: str) -> list[int]:
        parts = [name.split("/") for name in self._remote]
        return [
            int(part[1])
            for part in parts
            if part[0] == kind and part[2:] == [checkpoint.HASHES]
        ]

    def _is_finished(self, name: str) -> bool:
        """Return whether a remote file is not part of an unfinished checkpoint."""
        top, _, rest = name.partition("/")
        if top not in _CHECKPOINT_FOLDERS:
            return True
        step = rest.partition("/")[0]
        return f"{top}/{step}/{checkpoint.HASHES}" in self._remote

    def _list_local(self, wanted: Collection[str]) -> Iterator[str]:
        """Yield the names of the run's files on this machine."""
        for top in wanted:
            path = self.run / top
            for file in [path] if path.is_file() else path.rglob("*"):
                name = file.relative_to(self.run).as_posix()
                if is_mirrored(name) and file.is_file():
                    yield name

    # MARK: pull

    def pull(self, wanted: Collection[str] = ALL_PARTS) -> None:
        """Make the working folder equal to the URL.

        Of checkpoints, the newest intact one is copied, and the hashes of the older ones. These
        stand for what is at the URL: once they are removed here, `push` removes the checkpoint
        there.

        Args:
            wanted: The parts to copy.
        """
        self.list_remote()
        for name in self._remote:
            top = name.partition("/")[0]
            if top in wanted and top not in _CHECKPOINT_FOLDERS:
                self._get(name)
        for kind in _CHECKPOINT_FOLDERS:
            if kind in wanted:
                self.pull_newest(kind)
        for name in list(self._list_local(wanted)):
            if name not in self._remote or not self._is_finished(name):
                (self.run / name).unlink(missing_ok=True)
                self._known.pop(name, None)
        self._remove_empty_folders()
        self._save_record()

    def pull_newest(self, kind: str) -> None:
        """Copy the newest intact checkpoint from the URL, and the hashes of the older ones.

        Args:
            kind: "best" or "checkpoints".
        """
        found = False
        for step in sorted(self._finished_remote_steps(kind), reverse=True):
            folder = self.run / kind / str(step)
            hashes = f"{kind}/{step}/{checkpoint.HASHES}"
            if not found:
                found = self._get_checkpoint(folder, f"{kind}/{step}/")
            elif kind == "checkpoints" and not self._is_same(hashes):
                shutil.rmtree(folder, ignore_errors=True)
                self._get(hashes)

    def _get_checkpoint(self, folder: Path, prefix: str) -> bool:
        """Copy a checkpoint; returns whether it is intact.

        If it is not, all of it is copied once more: the local files may be the damaged ones.
        """
        names = [name for name in self._remote if name.startswith(prefix)]
        names.sort(key=_is_hashes)
        for _ in range(2):
            for name in names:
                self._get(name)
            if checkpoint.verify(folder) is None:
                return True
            for name in names:
                self._known.pop(name, None)
        return False

    def _get(self, name: str) -> None:
        if not self._is_same(name):
            places.get(self._place(name), self.run / name)
            self._known[name] = [*_stamp(self.run / name), self._remote[name].version]

    def _is_same(self, name: str) -> bool:
        """Return whether the local file is equal to the remote one."""
        stamp = _stamp(self.run / name)
        return bool(stamp) and self._known.get(name) == [*stamp, self._remote[name].version]

    def _remove_empty_folders(self) -> None:
        for kind in _CHECKPOINT_FOLDERS:
            for folder in (self.run / kind).glob("*"):
                if not any(path.is_file() for path in folder.rglob("*")):
                    shutil.rmtree(folder, ignore_errors=True)

    # MARK: push

    def push(self) -> int:
        """Copy what has changed here to the URL, and remove there what was removed here.

        Returns:
            How many checkpoints were removed here before they had arrived.

        Raises:
            UserError: The URL can't be reached. What has arrived is not sent again.
        """
        missed = 0
        try:
            # Before anything is sent, so that the URL takes no more room than the folder here.
            for kind in _CHECKPOINT_FOLDERS:
                self._remove_stale(kind)
            for kind in _CHECKPOINT_FOLDERS:
                for step in list(self._unsent_steps(kind)):
                    missed += not self._push_checkpoint(kind, step)
                    self._remove_stale(kind)
            self._push_files()
        finally:
            self._save_record()
        return missed

    def _unsent_steps(self, kind: str) -> Iterator[int]:
        """Yield the steps of finished checkpoints that the URL lacks, the newest first."""
        for step in reversed(checkpoint.list_steps(self.run / kind)):
            folder = self.run / kind / str(step)
            is_whole = (folder / checkpoint.HASHES).exists()
            if not is_whole or checkpoint.is_remote_only(folder):
                continue
            if not all(self._is_sent(*each) for each in self._list_stamps(kind, step)):
                yield step

    def _push_checkpoint(self, kind: str, step: int) -> bool:
        """Send a checkpoint; returns False if it was removed here meanwhile."""
        stamps = self._list_stamps(kind, step)
        if not stamps or not _is_hashes(stamps[-1][0]):
            return False
        *files, hashes = stamps
        if not all(self._put(*file) for file in files):
            return False
        # Before the hashes, because the history must reach as far as a checkpoint that somebody may
        # continue from.
        if kind == "checkpoints":
            self._push_files()
        return self._put(*hashes)

    def _push_files(self) -> None:
        parts = [name for name in ALL_PARTS if name not in _CHECKPOINT_FOLDERS]
        here = set(self._list_local(parts))
        for name in sorted(here):
            self._put(name, _stamp(self.run / name))
        for name in list(self._known):
            if name.partition("/")[0] in parts and name not in here:
                self._discard(name)

    def _remove_stale(self, kind: str) -> None:
        """Remove at the URL the checkpoints that are not here any more, their hashes first.

        The newest one stays until another one has arrived.
        """
        finished = self._finished_remote_steps(kind)
        has_arrived = any((self.run / kind / str(step)).exists() for step in finished)
        spared = -1 if has_arrived else max(finished, default=-1)
        for name in sorted(self._remote, key=lambda name: not _is_hashes(name)):
            top, _, rest = name.partition("/")
            if top != kind:
                continue
            step = int(rest.partition("/")[0])
            folder = self.run / kind / str(step)
            is_gone = not folder.exists() and step != spared
            # After a rollback, a step is saved anew, in files of other names.
            is_whole_here = (folder / "default").exists()
            is_of_another = is_whole_here and not (self.run / name).exists()
            if is_gone or is_of_another:
                self._discard(name)

    def _list_stamps(self, kind: str, step: int) -> list[tuple[str, list[int]]]:
        """Return name and stamp of each file of a checkpoint, the hashes last."""
        names = self._list_local((f"{kind}/{step}",))
        found = [(name, _stamp(self.run / name)) for name in names]
        return sorted(found, key=lambda each: _is_hashes(each[0]))

    def _put(self, name: str, stamp: list[int]) -> bool:
        """Send a file; returns False if it was removed or rewritten since the stamp was taken."""
        if self._is_sent(name, stamp):
            return True
        path = self.run / name
        is_appended = name.partition("/")[0] in _APPENDED
        if _stamp(path) != stamp and not is_appended:
            return False
        try:
            with _snapshot(path) if is_appended else contextlib.nullcontext(path) as source:
                places.put(source, self._place(name))
        except (UserError, FileNotFoundError):
            if path.exists():
                raise
            return False
        self._remote[name] = places.RemoteFile(stamp[0], "")
        self._known[name] = [*stamp, ""]
        return True

    def _is_sent(self, name: str, stamp: list[int]) -> bool:
        return name in self._remote and self._known.get(name, [])[:2] == stamp

    def _discard(self, name: str) -> None:
        places.discard(self._place(name))
        self._remote.pop(name, None)
        self._known.pop(name, None)

    def _place(self, name: str) -> str:
        return f"{self.url}/{name}"

    def _save_record(self) -> None:
        # Without a record, files are copied again: no harm.
        with contextlib.suppress(OSError):
            self._record.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._record, self._known)


def _is_hashes(name: str) -> bool:
    return name.endswith(f"/{checkpoint.HASHES}")


def _stamp(path: Path) -> list[int]:
    """Return size and time of a file, which change when it is written; [] if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


@contextlib.contextmanager
def _snapshot(path: Path) -> Iterator[Path]:
    """Copy a file that is being written to: some services refuse a file that grows while sent."""
    with temporary_folder() as folder:
        yield Path(shutil.copyfile(path, Path(folder) / path.name))


def _read_record(path: Path) -> dict[str, list[Any]]:
    try:
        return read_json(path, dict[str, list[Any]])
    except (FileNotFoundError, UserError):
        return {}
