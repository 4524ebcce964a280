"""The machine that the program runs on: where it may keep files, what it must keep quiet, how much
memory it took."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path


def cache_dir() -> Path:
    """Folder for what can be made again: $RVC_JAX_HOME, by default `rvc_jax` in the user's cache
    folder."""
    if named := os.environ.get("RVC_JAX_HOME"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rvc_jax"


def silence_libraries() -> None:
    """Keeps the libraries' remarks off the terminal. Call it before they are imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    for name in ("absl", "apache_beam", "asyncio", "jax", "orbax"):
        # What goes wrong there is raised as well as logged. A filter, since they set their levels
        # themselves.
        logging.getLogger(name).addFilter(lambda record: record.levelno >= logging.CRITICAL)
    warnings.simplefilter("ignore")


def start_jax() -> None:
    """Imports JAX, and keeps what it compiles in `home()/xla` for the next time.

    $JAX_COMPILATION_CACHE_DIR names another folder.
    """
    import jax

    if jax.config.jax_compilation_cache_dir:
        return
    cache = cache_dir() / "xla"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # a home that can't be written to costs time, nothing else
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update(
        "jax_persistent_cache_min_compile_time_secs", 0.0
    )  # a hundred small programs are seconds, too
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def peak_memory() -> int:
    """Most bytes of memory that this process has held at once."""
    import sys

    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
