"""Which process did something, and whether it is still there: across restarts, reused numbers and
containers."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import platform
import uuid
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")
_START_FIELD = 19
"""Position of the start time in /proc/PID/stat, counted from the state."""


@dataclasses.dataclass(frozen=True)
class ProcessId:
    """What identifies a process for good: a number alone is given to another process later."""

    machine: str
    """Name of the machine, for people; several machines may have the same."""
    kernel: str
    """Made up by the kernel when it starts; containers of one machine have it in common."""
    namespace: str
    """The numbers of processes are valid in it: every container has its own."""
    number: int
    started: int
    """Clock ticks from the kernel's start to the process's."""

    @property
    def is_on_this_kernel(self) -> bool:
        """Whether the process is on this machine, perhaps in another container."""
        return self.kernel == _kernel_and_namespace()[0]

    @property
    def is_visible(self) -> bool:
        """Whether this process can see that one, if it is still there."""
        return (self.kernel, self.namespace) == _kernel_and_namespace()

    @property
    def is_alive(self) -> bool | None:
        """Whether the process still exists; None if it can't be seen from here.

        A stopped process (SIGSTOP) exists. One that has ended, and whose parent has not noticed,
        does not.
        """
        if not self.is_visible:
            return None
        found = _read_state(self.number)
        if found is None:
            return _exists(self.number)  # its state is hidden from us
        state, started = found
        return state not in "ZX" and started == self.started

    @property
    def is_stopped(self) -> bool:
        """Whether the process was stopped by a signal, and can be continued."""
        if not self.is_alive:
            return False
        found = _read_state(self.number)
        return found is not None and found[0] in "Tt"

    @functools.cached_property
    def tag(self) -> str:
        """Short text for file names, from which `parse_tag` finds the process again."""
        place = hashlib.sha256(f"{self.kernel} {self.namespace}".encode()).hexdigest()[:12]
        return f"{place}-{self.number}-{self.started}"


def identify_this_process() -> ProcessId:
    """Return the identity of this process."""
    return _identify(os.getpid())


def parse_tag(tag: str) -> ProcessId | None:
    """Return the process of a tag; None if it can't be seen from here, or the tag is none."""
    place, _, rest = tag.partition("-")
    number, _, started = rest.partition("-")
    own = identify_this_process()
    if place != own.tag.partition("-")[0] or not (number.isdecimal() and started.isdecimal()):
        return None
    return dataclasses.replace(own, number=int(number), started=int(started))


@functools.cache  # by number, because a forked process has another one
def _identify(number: int) -> ProcessId:
    found = _read_state(number)
    started = found[1] if found else 0
    return ProcessId(platform.node(), *_kernel_and_namespace(), number, started)


@functools.cache
def _kernel_and_namespace() -> tuple[str, str]:
    try:
        return _BOOT_ID.read_text().strip(), str(_PID_NAMESPACE.readlink())
    except OSError:  # other systems: one kernel per machine, and no namespaces
        return f"{platform.node()}-{uuid.getnode():x}", ""


def _read_state(number: int) -> tuple[str, int] | None:
    """Return a process's state and start time; None if the system does not say.

    A process that does not exist has the state X.
    """
    try:
        line = Path(f"/proc/{number}/stat").read_text(errors="replace")
    except OSError:
        if not Path("/proc/self/stat").exists():
            return _ask_psutil(number)
        # Mounted with "hidepid", /proc hides the processes of others.
        return None if _exists(number) else ("X", 0)
    # The name of the program, in parentheses, may have spaces in it.
    state, *fields = line.rpartition(")")[2].split()
    return state, int(fields[_START_FIELD - 1])


def _exists(number: int) -> bool:
    import psutil  # the command line starts without it

    return psutil.pid_exists(number)


def _ask_psutil(number: int) -> tuple[str, int] | None:
    import psutil

    try:
        process = psutil.Process(number)
        state = "T" if process.status() == psutil.STATUS_STOPPED else "R"
        if process.status() == psutil.STATUS_ZOMBIE:
            state = "Z"
        return state, int(process.create_time())
    except psutil.NoSuchProcess:
        return "X", 0
    except psutil.Error:
        return None
