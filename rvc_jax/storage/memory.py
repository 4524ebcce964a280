"""The memory that this process can have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from rvc_jax.errors import UserError
from rvc_jax.storage.plain_files import read_text

_ROOT = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def measure_available_memory() -> int:
    """Return the bytes that programs can still take: what is free, within a container's limit."""
    import psutil  # the command line starts without it

    return min([psutil.virtual_memory().available, *_read_limits()])


def _read_limits() -> Iterator[int]:
    """Yield the limits of this process's control groups on Linux, in bytes."""
    for file in _list_limit_files():
        # Groups without a limit say "max"; the root of version 2 has no file.
        with contextlib.suppress(FileNotFoundError, UserError, ValueError):
            yield int(read_text(file))


def _list_limit_files() -> Iterator[Path]:
    try:
        lines = read_text(_OWN_CGROUPS).splitlines()
    except (FileNotFoundError, UserError):
        return
    for line in lines:  # number:controllers:path
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        group = PurePosixPath(path.lstrip("/"))
        for each in (group, *group.parents):
            if not controllers:  # version 2
                yield _ROOT / each / "memory.max"
            elif "memory" in controllers.split(","):
                yield _ROOT / "memory" / each / "memory.limit_in_bytes"
