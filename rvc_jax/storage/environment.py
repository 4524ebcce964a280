"""The machine that the program runs on: its cache folder, chatty libraries, peak memory."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path

_CHATTY_LOGGERS = ("absl", "apache_beam", "asyncio", "jax", "orbax")


def cache_dir() -> Path:
    """Return the folder for what can be computed or downloaded again.

    It is $RVC_JAX_HOME, by default `rvc_jax` in the user's cache folder.
    """
    home = os.environ.get("RVC_JAX_HOME")
    if home:
        return Path(home)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rvc_jax"


def silence_libraries() -> None:
    """Keep libraries' remarks off the terminal. Call it before they are imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    for name in _CHATTY_LOGGERS:
        # What goes wrong there is raised as well as logged. A filter, since these libraries set
        # their levels themselves.
        logging.getLogger(name).addFilter(lambda record: record.levelno >= logging.CRITICAL)
    warnings.simplefilter("ignore")


def start_jax() -> None:
    """Import JAX, with its compilation cache in `cache_dir() / "xla"`.

    $JAX_COMPILATION_CACHE_DIR names another folder. A cache that cannot be written to costs time,
    nothing else.
    """
    import jax

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
