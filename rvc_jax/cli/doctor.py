"""Is everything here that the program needs? One check after the other, each with a yes or a no."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

PACKAGES = {
    "jax": "jax",
    "jaxlib": "jaxlib",
    "flax": "flax.nnx",
    "optax": "optax",
    "orbax-checkpoint": "orbax.checkpoint",
    "numpy": "numpy",
    "scipy": "scipy.signal",
    "librosa": "librosa",
    "soundfile": "soundfile",
    "soxr": "soxr",
    "av": "av",
    "tensorflow-datasets": "tensorflow_datasets",
    "tensorboardX": "tensorboardX",
    "matplotlib": "matplotlib",
    "tyro": "tyro",
    "rich": "rich",
    "psutil": "psutil",
}
"""Packages the program needs, and the module of each that must import."""

_GIGABYTE = 1e9
_RATE = 48000


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    essential: bool = True
    """Without it the program does not work."""


def run_checks() -> Iterator[Check]:
    """All checks, in order; none of them raises."""
    yield Check(
        "python",
        True,
        f"{platform.python_version()} on {platform.system()} {platform.machine()}",
    )
    yield _guarded("tensorflow", _tensorflow)
    for package, module in PACKAGES.items():
        yield _guarded(package, functools.partial(_version, package, module))
    yield _guarded("devices", _devices)
    yield from _machine()
    for name in ("swift_f0", "whisper_tiny"):
        yield _guarded(f"weights {name}", functools.partial(_weights, name))
    yield _guarded("bundled sample", _sample, essential=False)
    yield _guarded("cache folder", _cache, essential=False)
    yield from _formats()


def _guarded(name: str, look: Callable[[], str], essential: bool = True) -> Check:
    try:
        return Check(name, True, look(), essential)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, "not installed", essential)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        return Check(name, False, f"{type(error).__name__}: {reason}", essential)


def _version(package: str, module: str) -> str:
    importlib.import_module(module)
    return importlib.metadata.version(package)


def _tensorflow() -> str:
    from rvc_jax.data.tfds_import import import_tfds

    import_tfds()
    for package in ("tensorflow-cpu", "tensorflow"):
        try:
            return f"{importlib.metadata.version(package)} ({package})"
        except importlib.metadata.PackageNotFoundError:
            continue
    raise importlib.metadata.PackageNotFoundError("tensorflow")


def _devices() -> str:
    import jax

    described = []
    for device in jax.devices():
        statistics = device.memory_stats() or {}
        limit = statistics.get("bytes_limit")
        described.append(
            device.device_kind + (f" with {limit / _GIGABYTE:.1f} GB" if limit else "")
        )
    kinds = [f"{described.count(kind)} x {kind}" for kind in dict.fromkeys(described)]
    return f"{jax.default_backend()}: {', '.join(kinds)}"


def _machine() -> Iterator[Check]:
    import psutil

    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Check("processor", True, f"{cores} cores")
    total = memory.total / _GIGABYTE
    free = memory.available / _GIGABYTE
    yield Check(
        "memory",
        free >= 4,
        f"{free:.1f} of {total:.1f} GB free (4 GB are enough)",
        essential=False,
    )
    disk = shutil.disk_usage(".").free / _GIGABYTE
    yield Check(
        "disk", disk >= 2, f"{disk:.1f} GB free here (2 GB are enough)", essential=False
    )


def _weights(name: str) -> str:
    from rvc_jax.weights import bundled

    arrays = bundled.load(name)
    count = sum(array.size for array in arrays.values())
    return f"{count / 1e6:.1f} million parameters, sha256 {bundled.sha256(name)[:16]}"


def _sample() -> str:
    from rvc_jax.audio.reading import find_audio
    from rvc_jax.data.sources import find_bundled_sample

    counts = [len(find_audio(find_bundled_sample(part))) for part in ("voice", "other")]
    return f"{counts[0]} recordings of a voice, {counts[1]} of another speaker"


def _cache() -> str:
    from rvc_jax.storage.environment import cache_dir

    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    held = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return f"{folder}, {held / 1e6:.0f} MB kept"


def _formats() -> Iterator[Check]:
    """Writes and reads a second of sound in every format."""
    from rvc_jax.audio.reading import SAVE_FORMATS, save

    with tempfile.TemporaryDirectory() as folder:
        for ending in SAVE_FORMATS:
            path = Path(folder) / f"sound{ending}"
            yield _guarded(
                f"write and read {ending}", functools.partial(_write_and_read, path, save)
            )
        for ending, codec in ((".m4a", "aac"), (".opus", "libopus"), (".mkv", "aac")):
            path = Path(folder) / f"sound{ending}"
            encode = functools.partial(_encode, codec)
            yield _guarded(f"read {ending}", functools.partial(_write_and_read, path, encode))


def _write_and_read(path: Path, write: Callable[[Path, Any, int], None]) -> str:
    import numpy as np

    from rvc_jax.audio.reading import decode

    wave = 0.1 * np.sin(2 * np.pi * 440 * np.arange(_RATE) / _RATE).astype(np.float32)
    write(path, wave, _RATE)
    read, rate = decode(path)
    if abs(read.shape[1] / rate - 1) > 0.1 or not 0.05 < np.abs(read).max() < 0.2:
        raise ValueError("what was read is not what was written")
    return "works"


def _encode(codec: str, path: Path, wave: Any, rate: int) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        size = stream.codec_context.frame_size or 960
        for start in range(0, len(wave), size):
            frame = av.AudioFrame.from_ndarray(
                wave[None, start : start + size], format="fltp", layout="mono"
            )
            frame.sample_rate = rate
            frame.pts = start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
