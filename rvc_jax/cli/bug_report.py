"""One text to paste into an issue: versions, machine, variables, and the last command's log.

Nothing private is in it (see `privacy`), and no part of it can make it fail or wait for long: a
machine that has a fault is what it is for.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

from rvc_jax.cli.last_log import read_last_log
from rvc_jax.cli.privacy import anonymize
from rvc_jax.errors import make_printable
from rvc_jax.storage.environment import cache_dir
from rvc_jax.version import __version__

_PACKAGES = (
    "jax",
    "jaxlib",
    "libtpu",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "scipy",
    "av",
    "soundfile",
    "tensorflow-cpu",
    "tensorflow",
    "tensorflow-datasets",
    "protobuf",
    "yt-dlp",
    "tyro",
    "rich",
    "safetensors",
    "fsspec",
)
_VARIABLES = re.compile(
    r"(JAX|XLA|TF|LIBTPU|TPU|CUDA|NVIDIA|ROCR|HIP|OMP|MKL|RVC_JAX|PYTHON|LC|PIP|SLURM)_?\w*"
    r"|LANG|LD_LIBRARY_PATH|TMPDIR|XDG_CACHE_HOME|COLUMNS|TERM|NO_COLOR|\w*_proxy|VIRTUAL_ENV"
    r"|CONDA_PREFIX",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"TOKEN|KEY|SECRET|PASS|PROXY|CREDENTIAL|AUTH|URL", re.IGNORECASE)
_DEVICE_SECONDS = 60
_TOOL_SECONDS = 10
_MAX_VALUE = 200
_MAX_LOG = 16_000
_LIST_DEVICES = """
import jax
for device in jax.devices():
    limit = (device.memory_stats() or {}).get("bytes_limit")
    print(device.platform, device.device_kind, f"{limit / 1e9:.1f} GB" if limit else "")
"""


def write_report() -> str:
    """Return the report. Never raises: a part that fails says why in its place."""
    parts: tuple[tuple[str, Callable[[], str]], ...] = (
        ("versions", _list_versions),
        ("system", _describe_system),
        ("devices", _list_devices),
        ("disks", _list_disks),
        ("variables", _list_variables),
        ("last command", _show_last_log),
    )
    sections = []
    for title, write in parts:
        try:
            text = write()
        except Exception as error:
            text = f"failed: {type(error).__name__}: {error}"
        lines = [make_printable(line) for line in anonymize(text).splitlines()]
        # Three backquotes in it would end the block.
        body = "\n".join(lines).replace("```", "'''") or "nothing"
        sections.append(f"**{title}**\n```text\n{body}\n```")
    return "\n".join(sections)


def _list_versions() -> str:
    rows = [("rvc_jax", __version__), ("python", platform.python_version())]
    for package in _PACKAGES:
        try:
            rows.append((package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            continue
    driver = _ask("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if driver:
        rows.append(("NVIDIA", driver))
    return "\n".join(f"{name} {version}" for name, version in rows)


def _describe_system() -> str:
    import psutil

    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return "\n".join(
        (
            f"{platform.system()} {platform.release()} {platform.machine()}",
            f"{_find_processor()}, {cores} cores",
            f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB of memory free",
        )
    )


def _find_processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            found = re.search(r"^model name\s*:\s*(.+)$", file.read(100_000), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or "an unknown processor"


def _list_devices() -> str:
    """Ask in another process, which can be ended: a broken driver may never answer."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _LIST_DEVICES],
            capture_output=True,
            text=True,
            timeout=_DEVICE_SECONDS,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {_DEVICE_SECONDS} s"
    if done.returncode:
        return "failed: " + "\n".join(done.stderr.strip().splitlines()[-5:])
    return done.stdout.strip()


def _list_disks() -> str:
    rows = []
    for name, place in (
        ("current folder", "."),
        ("cache", str(cache_dir())),
        ("temporary files", tempfile.gettempdir()),
    ):
        while not os.path.exists(place):  # noqa: PTH110
            place = os.path.dirname(place) or "."  # noqa: PTH120
        usage = shutil.disk_usage(place)
        access = "" if os.access(place, os.W_OK) else ", cannot be written to"
        rows.append(
            f"{name}: {usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB free{access}"
        )
    return "\n".join(rows)


def _list_variables() -> str:
    rows = []
    for name, value in sorted(os.environ.items()):
        if _VARIABLES.fullmatch(name):
            shown = "(set)" if _SECRET_NAME.search(name) else value[:_MAX_VALUE]
            rows.append(f"{name}={shown}")
    return "\n".join(rows)


def _show_last_log() -> str:
    log = read_last_log() or "none is kept"
    return log if len(log) <= _MAX_LOG else f"{log[:1000]}\n[...]\n{log[-_MAX_LOG:]}"


def _ask(*command: str) -> str:
    """Return the first line that a program prints; nothing without the program."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_SECONDS)
    return "; ".join(_nonempty(done.stdout))


def _nonempty(text: str) -> Iterator[str]:
    yield from (line.strip() for line in text.splitlines() if line.strip())
