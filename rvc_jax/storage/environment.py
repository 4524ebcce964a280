"""The machine that the program runs on: its cache folder, its variables, chatty libraries, memory.

Variables that are meant for JAX, XLA or TensorFlow reach all programs of a shell. Those that this
program cannot work with are set aside with a message, and a wrong one is named in the error.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from pathlib import Path

from rvc_jax.errors import UserError, make_printable, sanitize

_CHATTY_LOGGERS = ("absl", "apache_beam", "asyncio", "jax", "orbax")
_SET_ASIDE = {
    "JAX_ENABLE_X64": "everything here is computed in 32 bits",
    "JAX_DISABLE_JIT": "without compilation, a step would take minutes",
    "JAX_DEBUG_NANS": "steps without a finite loss are skipped, and counted",
    "JAX_DEBUG_INFS": "steps without a finite loss are skipped, and counted",
    "JAX_CHECK_TRACER_LEAKS": "it is for the debugging of JAX programs",
    "JAX_NUMPY_DTYPE_PROMOTION": "the networks rely on the usual rules",
    "JAX_NUMPY_RANK_PROMOTION": "the networks rely on the usual rules",
    "JAX_TRANSFER_GUARD": "samples and results pass between host and device",
}
"""Variables of JAX that break the program, and why each is set aside."""
_OFF = ("", "0", "false", "off", "no", "n", "f", "standard", "allow")
_MEANT_FOR_LIBRARIES = re.compile(
    r"(JAX|XLA|TF|LIBTPU|TPU|CUDA|NVIDIA|ROCR|HIP|OMP|MKL|GRPC|PYTHON)_?[A-Z0-9_]*"
)
_REMARKS: list[str] = []


def cache_dir() -> Path:
    """Return the folder for what can be computed or downloaded again.

    It is $RVC_JAX_HOME, by default `rvc_jax` in the user's cache folder.

    Raises:
        UserError: The user has no home folder.
    """
    try:
        home = os.environ.get("RVC_JAX_HOME")
        if home:
            return Path(home).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rvc_jax"
    except RuntimeError as error:
        raise UserError(
            "this user has no home folder: name a folder for the cache in RVC_JAX_HOME"
        ) from error


def settle_variables() -> None:
    """Set variables aside that this program cannot work with. Call it before JAX is imported.

    `start_jax` says which.
    """
    for name, reason in _SET_ASIDE.items():
        if os.environ.get(name, "").strip().lower() not in _OFF:
            _REMARKS.append(f"{name} is ignored: {reason}")
            del os.environ[name]


def describe_environment_error(error: BaseException | None) -> str | None:
    """Return what to say if a variable that is set is named in the error or one of its causes.

    Returns:
        One line with the variable, its value and the reason; None if no variable is to blame.
    """
    names = [name for name in os.environ if _MEANT_FOR_LIBRARIES.fullmatch(name)]
    while error is not None:
        text = str(error)
        for name in names:
            if re.search(rf"(?i)(?<![A-Za-z0-9_]){name}(?![A-Za-z0-9_])", text):
                return _blame(name, text)
        error = error.__cause__ or error.__context__
    return None


def _blame(name: str, reason: str) -> str:
    lines = reason.strip().splitlines() or ["refused"]
    value = sanitize(os.environ.get(name, ""), 80)
    return f"{name}={value}: {sanitize(lines[0], 200)}; correct the variable, or unset it"


def _check_xla_flags() -> None:
    """Check the names in $XLA_FLAGS: XLA ends the process with a crash for one that it lacks.

    Raises:
        UserError: No library of XLA on this machine has a flag of that name.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    names = re.findall(r"(?:^|\s)--([A-Za-z0-9_]+)", flags)
    if not names:
        return
    import mmap

    missing = set(names)
    for library in _find_xla_libraries():
        with library.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            with content:
                missing = {name for name in missing if content.find(name.encode()) < 0}
        if not missing:
            return
    raise UserError(
        f"XLA_FLAGS={sanitize(flags, 80)}: XLA has no flag --{sorted(missing)[0]} in the version "
        "that is installed; correct the variable, or unset it"
    )


def _find_xla_libraries() -> list[Path]:
    import importlib.util

    found = []
    for package in ("jaxlib", "libtpu", "jax_plugins"):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            files = [path for path in Path(folder).rglob("*.so") if path.is_file()]
            found += [path for path in files if path.stat().st_size > 10_000_000]
    return found


def check_devices() -> None:
    """Start the devices that $JAX_PLATFORMS names.

    Raises:
        UserError: They are not there.
    """
    if not os.environ.get("JAX_PLATFORMS"):
        return
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        reason = str(error) or "no device of this kind was found"
        if isinstance(error.__cause__, RuntimeError) and str(error.__cause__):
            reason = str(error.__cause__)
        raise UserError(_blame("JAX_PLATFORMS", reason)) from error


def is_offline() -> bool:
    """Return whether $RVC_JAX_OFFLINE forbids all use of the network."""
    return os.environ.get("RVC_JAX_OFFLINE", "0") not in ("", "0")


def check_online(place: object) -> None:
    """Raise UserError if a place of the network may not be contacted."""
    if is_offline():
        raise UserError(
            f"{place} is not contacted, since RVC_JAX_OFFLINE forbids all use of the network; "
            "unset it, or name a place on this machine"
        )


def silence_libraries() -> None:
    """Keep libraries' remarks off the terminal. Call it before they are imported."""
    settle_variables()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    for name in _CHATTY_LOGGERS:
        # What goes wrong there is raised as well as logged. A filter, since these libraries set
        # their levels themselves.
        logging.getLogger(name).addFilter(lambda record: record.levelno >= logging.CRITICAL)
    warnings.simplefilter("ignore")


def start_jax(has_peers: bool = False) -> None:
    """Import JAX, with its compilation cache in `cache_dir() / "xla"`.

    $JAX_COMPILATION_CACHE_DIR names another folder. A cache that cannot be written to costs time,
    nothing else.

    Args:
        has_peers: Other processes must be joined before the devices start; call `check_devices`
            afterwards.

    Raises:
        UserError: A variable of the environment is wrong.
    """
    for remark in _REMARKS:
        print(make_printable(remark), file=sys.stderr)
    _REMARKS.clear()
    _check_xla_flags()
    try:
        import jax
    except ValueError as error:
        text = describe_environment_error(error)
        if text is None:
            raise
        raise UserError(text) from error
    if not has_peers:
        check_devices()

    if jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        return
    cache = cache_dir() / "xla"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(cache))
    # Cache everything: a hundred small programs take seconds, too.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def peak_memory() -> int:
    """Return the most bytes of memory that this process has held at once."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes on Linux
