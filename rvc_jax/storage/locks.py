"""Locks: one process at a time works on a run, a dataset or an output, also on a disk that several
machines share.

A lock is a small file that names its holder. Making it is atomic (a hard link, or O_EXCL where a
disk has no links), and so is taking it over from a holder that has ended: a second lock, named
after the content of the first one, decides which process may do that.

Whether a holder still works is looked up where that is possible: the process table if it is on this
machine, or a `flock` if it is in another container of this machine. Elsewhere it shows in the
file's time, which the holder renews. That time is never compared with a clock: a holder has ended
if the file stays the same for a minute of this process's own monotonic clock.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import stat
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from rvc_jax.errors import UserError, describe_os_error, sanitize
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.storage.files import LOCK_NAME
from rvc_jax.storage.json_files import parse_json
from rvc_jax.storage.processes import ProcessId, identify_this_process
from rvc_jax.storage.scratch import make_scratch_name

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

RENEW_SECONDS = 5.0
"""Seconds between two renewals of a lock's time."""
SILENCE_SECONDS = 60.0
"""Seconds without a renewal after which a holder that can't be seen from here has ended."""

_POLL_SECONDS = 0.5
_FORMAT = "rvc_jax lock"
_MAX_BYTES = 4096
_MAX_NAME_BYTES = 220
_MAX_ROUNDS = 2000
"""Most changes of holders that are followed while a lock is asked for."""


class LockedError(UserError):
    """Another process works there."""


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who has a lock, as its file says."""

    process: ProcessId
    command: str
    since: float
    """Seconds since 1970."""
    token: str
    """Made up for this lock: no two are equal."""
    file_number: int
    """Number of the lock's file on its disk; a copy of the file has another one."""
    is_flocked: bool
    """Whether the holder could `flock` the file."""

    def describe(self) -> str:
        """Return process, machine, command and time in words."""
        process = self.process
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.since))
        where = f"process {process.number} of {sanitize(process.machine)}"
        return f"{where} ({sanitize(self.command)}) since {since}"


@dataclasses.dataclass(frozen=True)
class LockState:
    """A lock's file at one moment."""

    holder: Holder | None
    """None if the file is damaged, or not written yet."""
    stamp: tuple[int, int, int]
    """Number, size and time of the file."""
    identity: str
    """Hash of what the file says; the same as long as the lock has the same holder."""
    is_alive: bool | None
    """Whether the holder still works; None if only a renewal could show it."""


class Lock:
    """The right to work on something, as a context."""

    def __init__(
        self,
        file: Path,
        subject: str,
        advice: str = "wait until it has ended, or end it first",
        reporter: Reporter = SILENT,
    ):
        """Ask for nothing yet.

        Args:
            file: The lock's file. All processes must name the same one: see `lock_beside`.
            subject: What is locked, for messages.
            advice: What to do if another process has it.
            reporter: Receives a message if a holder on another machine has to be waited for.
        """
        self._file = file
        self._subject = subject
        self._advice = advice
        self._reporter = reporter
        self._token = uuid.uuid4().hex
        self._descriptor = -1
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._made_folders: list[Path] = []

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            LockedError: Another process has it.
            UserError: The file can't be written.
        """
        try:
            self._make_folders()
            try:
                self._acquire()
            except FileNotFoundError:  # another process had made the folder, and removed it
                self._make_folders()
                self._acquire()
        except OSError as error:
            self._remove_empty_folders()
            raise _explain(self._file, error) from error
        except BaseException:
            self._remove_empty_folders()
            raise
        self._thread = threading.Thread(target=self._renew, name="lock", daemon=True)
        self._thread.start()
        _clear_dead_locks(self._file.parent)

    def release(self) -> None:
        """Give the lock back. Folders that were made for it are removed if they are empty."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(OSError):
            if not self.is_lost:
                self._file.unlink()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._remove_empty_folders()

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken the lock over, because this one seemed to have
        ended."""
        state = read_lock(self._file)
        if state is None:
            return False
        return state.holder is None or state.holder.token != self._token

    def check(self) -> None:
        """Raise LockedError if another process has taken the lock over."""
        state = read_lock(self._file)
        if state is not None and self.is_lost:
            raise self._refuse(state)

    # MARK: taking

    def _acquire(self) -> None:
        for _ in range(_MAX_ROUNDS):
            if self._create():
                return
            state = read_lock(self._file)
            if state is None:  # it was given back meanwhile
                continue
            if state.is_alive is None:
                state = self._observe(state)
            if state is None:
                continue
            if state.is_alive:
                raise self._refuse(state)
            if self._take_over(state):
                return
        raise UserError(f"{self._file} is taken and given back all the time; try again")

    def _create(self) -> bool:
        """Make the file if there is none; returns whether it was made."""
        with self._prepared_file() as prepared:
            try:
                os.link(prepared, self._file)
            except FileExistsError:
                # A server may have made the link and lost the answer.
                if prepared.stat().st_nlink == 2:
                    return True
            except OSError:
                if not self._create_without_link():
                    self._close()
                    return False
                return True
            else:
                return True
        self._close()
        return False

    def _create_without_link(self) -> bool:
        """As `_create`, where a disk has no hard links: for a moment, the file is empty."""
        self._close()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            self._descriptor = os.open(self._file, flags, 0o666)
        except FileExistsError:
            return False
        self._fill(self._descriptor)
        return True

    def _take_over(self, state: LockState) -> bool:
        """Replace the file of a holder that has ended; returns whether this process did it."""
        # Of all that have found the same holder dead, one at a time gets here, and the first one
        # changes the file. A process that dies here leaves a lock like any other.
        guard_file = self._file.with_name(f".lock-{state.identity[:16]}")
        try:
            guard = Lock(guard_file, self._subject, self._advice, self._reporter)
            guard._acquire()
        except LockedError:
            time.sleep(0.02)
            return False
        try:
            now = read_lock(self._file)
            if now is None or now.identity != state.identity:
                return False
            with self._prepared_file() as prepared:
                prepared.replace(self._file)
            return True
        finally:
            guard.release()

    @contextlib.contextmanager
    def _prepared_file(self) -> Any:
        """Write what the lock says to a file of another name, keep it open, remove the name."""
        path = self._file.with_name(make_scratch_name())
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            self._fill(self._descriptor)
            yield path
        except BaseException:
            self._close()
            raise
        finally:
            path.unlink(missing_ok=True)

    def _fill(self, descriptor: int) -> None:
        values = {
            "format": _FORMAT,
            "process": dataclasses.asdict(identify_this_process()),
            "command": _describe_command(),
            "since": time.time(),
            "token": self._token,
            "file_number": os.fstat(descriptor).st_ino,
            "is_flocked": _try_flock(descriptor),
        }
        os.write(descriptor, json.dumps(values).encode())

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # MARK: observing

    def _observe(self, state: LockState) -> LockState | None:
        """Watch a lock whose holder can't be seen from here.

        Returns:
            The state with `is_alive` decided; None if the lock has changed hands or is gone.
        """
        whose = f" by {state.holder.describe()}" if state.holder else ""
        self._reporter.message(
            f"{self._subject} may be in use{whose}: waiting up to {SILENCE_SECONDS:.0f} s for a "
            "sign of life"
        )
        end = time.monotonic() + SILENCE_SECONDS
        while time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
            now = read_lock(self._file)
            if now is None or now.identity != state.identity:
                return None
            if now.is_alive is not None:
                return now
            if now.stamp != state.stamp:
                return dataclasses.replace(now, is_alive=True)
        return dataclasses.replace(state, is_alive=False)

    def _refuse(self, state: LockState) -> LockedError:
        whose = state.holder.describe() if state.holder else f"the holder of {self._file}"
        return LockedError(f"{self._subject} is in use by {whose}: {self._advice}")

    # MARK: holding

    def _renew(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            try:
                os.utime(self._descriptor)  # the time of the disk's own machine
            except OSError:  # some disks have no such call: writing sets the time as well
                with contextlib.suppress(OSError):
                    os.pwrite(self._descriptor, b"{", 0)

    def _make_folders(self) -> None:
        folder = self._file.parent
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        self._made_folders = missing

    def _remove_empty_folders(self) -> None:
        # From the inside out; the first that is not empty ends it.
        with contextlib.suppress(OSError):
            for folder in self._made_folders:
                folder.rmdir()


class NoLock:
    """Stands for a lock where there is none."""

    def __enter__(self) -> NoLock:
        return self

    def __exit__(self, *_: object) -> None: ...

    def check(self) -> None:
        """Raise nothing."""


def lock_folder(folder: Path, subject: str, advice: str, reporter: Reporter = SILENT) -> Lock:
    """Return the lock inside a folder, which is made if it is missing.

    Whatever path leads to the folder, the lock is the same.
    """
    return Lock(folder / LOCK_NAME, subject, advice, reporter)


def lock_beside(path: Path, subject: str, advice: str, reporter: Reporter = SILENT) -> Lock:
    """Return the lock for a file or folder that is replaced as a whole: it is stored beside that.

    Links are followed: whatever path leads there, the lock is the same.
    """
    path = Path(os.path.realpath(path))
    file = path.with_name(f".{shorten_name(path.name)}{LOCK_NAME}")
    return Lock(file, subject, advice, reporter)


def lock_output(path: Path, reporter: Reporter = SILENT) -> Lock:
    """Return the lock that a process holds while it makes a file or a folder."""
    return lock_beside(
        path, str(path), "wait until it is done, or name another place", reporter
    )


def shorten_name(name: str) -> str:
    """Return a file's name, or its hash where no ending would fit behind it."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= _MAX_NAME_BYTES else hashlib.sha256(encoded).hexdigest()


def read_lock(file: Path) -> LockState | None:
    """Return the state of a lock; None if nobody has it. Nothing is written.

    Raises:
        UserError: Something else is in the place of the file.
    """
    try:
        flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(file, os.O_RDONLY | flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{file} can't be read: {describe_os_error(error)}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{file} is not a lock: remove it")
        content = os.read(descriptor, _MAX_BYTES)
        holder = _parse(content)
        is_alive = _is_holder_alive(holder, found.st_ino, descriptor)
    finally:
        os.close(descriptor)
    identity = hashlib.sha256(content).hexdigest()
    if holder is None:
        identity = hashlib.sha256(f"{found.st_ino} {content!r}".encode()).hexdigest()
    return LockState(
        holder, (found.st_ino, found.st_size, found.st_mtime_ns), identity, is_alive
    )


@functools.cache
def _clear_dead_locks(folder: Path) -> None:
    """Remove the locks in a folder whose holders have ended on this machine.

    They are taken over first, as any lock: somebody else may do the same.
    """
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            if not (file.name.startswith(".") and file.name.endswith(LOCK_NAME)):
                continue
            with contextlib.suppress(UserError, OSError):
                state = read_lock(file)
                if state is not None and state.holder and state.is_alive is False:
                    lock = Lock(file, str(file))
                    lock._acquire()
                    lock.release()


def _is_holder_alive(holder: Holder | None, number: int, descriptor: int) -> bool | None:
    is_alive = holder.process.is_alive if holder else None
    is_flocked = _is_flocked(descriptor)
    if holder is None or not holder.is_flocked or is_flocked:
        return True if is_alive is None and is_flocked else is_alive
    # The holder had locked its file, which is not locked any more.
    if is_alive is None:  # in another container of this machine, it has ended
        is_own_file = holder.file_number == number
        return False if holder.process.is_on_this_kernel and is_own_file else None
    # If it works, this is a copy of its folder, which nobody works in.
    return is_alive and holder.file_number == number


def _try_flock(descriptor: int) -> bool:
    """Lock a file for as long as it is open; returns False where a disk does not have that."""
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return fcntl is not None


def _is_flocked(descriptor: int) -> bool:
    """Return whether a process of this machine (some disks: of any machine) has the file locked."""
    if fcntl is None:
        return False
    try:
        # Shared, so that two processes that ask at the same time don't take each other for it.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _parse(content: bytes) -> Holder | None:
    try:
        found: Any = parse_json(content)
        if found["format"] != _FORMAT:
            return None
        process = found["process"]
        return Holder(
            ProcessId(
                str(process["machine"]),
                str(process["kernel"]),
                str(process["namespace"]),
                int(process["number"]),
                int(process["started"]),
            ),
            str(found["command"]),
            min(max(float(found["since"]), 0.0), 4e9),
            str(found["token"]),
            int(found["file_number"]),
            bool(found["is_flocked"]),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _describe_command() -> str:
    """Return the program and its first argument; more of the line may be private."""
    program, *arguments = sys.argv or ["python"]
    name = Path(program).name
    if name in ("__main__.py", "rvc-jax"):
        name = "rvc-jax"
        if arguments and not arguments[0].startswith("-"):
            name = f"rvc-jax {arguments[0]}"
    return name or "python"


def _explain(file: Path, error: OSError) -> UserError:
    folder = file.parent
    reason = describe_os_error(error)
    for place in (folder, *folder.parents):
        if os.path.lexists(place) and not place.is_dir():
            reason = f"{place} is not a folder"
    return UserError(f"{folder} cannot be written: {reason}")
