"""Checks that everything the program needs is installed and works."""

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
"""Packages that the program needs, and the module of each that must import."""

_GIGABYTE = 1e9
_SAMPLE_RATE = 48000


class Check(NamedTuple):
    """The result of one check."""

    name: str
    ok: bool
    detail: str
    essential: bool = True
    """Whether the program fails without it."""

    @property
    def mark(self) -> str:
        """The result as a word; upper case for what must be repaired."""
        if self.ok:
            return "yes"
        return "NO" if self.essential else "no"


def run_checks() -> Iterator[Check]:
    """Yield all checks in order. No check raises."""
    system = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Check("python", True, system)
    yield _run_check("tensorflow", _check_tensorflow)
    for package, module in PACKAGES.items():
        yield _run_check(package, functools.partial(_check_package, package, module))
    yield _run_check("devices", _check_devices)
    yield from _check_machine()
    for name in ("swift_f0", "whisper_tiny"):
        yield _run_check(f"weights {name}", functools.partial(_check_weights, name))
    yield _run_check("bundled sample", _check_sample, essential=False)
    yield _run_check("cache folder", _check_cache, essential=False)
    yield from _check_formats()


def _run_check(name: str, check: Callable[[], str], essential: bool = True) -> Check:
    try:
        return Check(name, True, check(), essential)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, "not installed", essential)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        return Check(name, False, f"{type(error).__name__}: {reason}", essential)


def _check_package(package: str, module: str) -> str:
    importlib.import_module(module)
    return importlib.metadata.version(package)


def _check_tensorflow() -> str:
    from rvc_jax.data.tfds_import import import_tfds

    import_tfds()
    for package in ("tensorflow-cpu", "tensorflow"):
        try:
            return f"{importlib.metadata.version(package)} ({package})"
        except importlib.metadata.PackageNotFoundError:
            continue
    raise importlib.metadata.PackageNotFoundError("tensorflow")


def _check_devices() -> str:
    import jax

    names = []
    for device in jax.devices():
        limit = (device.memory_stats() or {}).get("bytes_limit")
        memory = f" with {limit / _GIGABYTE:.1f} GB" if limit else ""
        names.append(device.device_kind + memory)
    counts = [f"{names.count(name)} x {name}" for name in dict.fromkeys(names)]
    return f"{jax.default_backend()}: {', '.join(counts)}"


def _check_machine() -> Iterator[Check]:
    import psutil

    # Not all cores of the machine may be this process's.
    can_ask = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if can_ask else os.cpu_count()
    yield Check("processor", True, f"{cores} cores")
    memory = psutil.virtual_memory()
    total = memory.total / _GIGABYTE
    free = memory.available / _GIGABYTE
    text = f"{free:.1f} of {total:.1f} GB free (4 GB are enough)"
    yield Check("memory", free >= 4, text, essential=False)
    disk = shutil.disk_usage(".").free / _GIGABYTE
    yield Check(
        "disk", disk >= 2, f"{disk:.1f} GB free here (2 GB are enough)", essential=False
    )


def _check_weights(name: str) -> str:
    from rvc_jax.weights import bundled

    arrays = bundled.load(name)
    count = sum(array.size for array in arrays.values())
    return f"{count / 1e6:.1f} million parameters, sha256 {bundled.sha256(name)[:16]}"


def _check_sample() -> str:
    from rvc_jax.audio.reading import find_audio
    from rvc_jax.data.sources import find_bundled_sample

    voice = len(find_audio(find_bundled_sample("voice")))
    other = len(find_audio(find_bundled_sample("other")))
    return f"{voice} recordings of a voice, {other} of another speaker"


def _check_cache() -> str:
    from rvc_jax.storage.environment import cache_dir

    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return f"{folder}, {size / 1e6:.0f} MB kept"


def _check_formats() -> Iterator[Check]:
    """Write and read a second of audio in every format."""
    from rvc_jax.audio.writing import SAVE_FORMATS, save

    with tempfile.TemporaryDirectory() as folder:
        for ending in SAVE_FORMATS:
            check = functools.partial(_check_format, Path(folder) / f"sound{ending}", save)
            yield _run_check(f"write and read {ending}", check)
        for ending, codec in ((".m4a", "aac"), (".opus", "libopus"), (".mkv", "aac")):
            encode = functools.partial(_encode, codec)
            check = functools.partial(_check_format, Path(folder) / f"sound{ending}", encode)
            yield _run_check(f"read {ending}", check)


def _check_format(path: Path, write: Callable[[Path, Any, int], None]) -> str:
    import numpy as np

    from rvc_jax.audio.reading import decode

    seconds = np.arange(_SAMPLE_RATE) / _SAMPLE_RATE
    wave = 0.1 * np.sin(2 * np.pi * 440 * seconds).astype(np.float32)
    write(path, wave, _SAMPLE_RATE)
    read, rate = decode(path)
    has_same_length = abs(read.shape[1] / rate - 1) <= 0.1
    if not has_same_length or not 0.05 < np.abs(read).max() < 0.2:
        raise ValueError("what was read is not what was written")
    return "works"


def _encode(codec: str, path: Path, wave: Any, rate: int) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, layout="mono")
        size = stream.codec_context.frame_size or 960
        for start in range(0, len(wave), size):
            samples = wave[None, start : start + size]
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = rate
            frame.pts = start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
