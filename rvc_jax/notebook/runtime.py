"""The machine under the notebook: its accelerator, and a Python with rvc_jax and its
dependencies."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from rvc_jax.config import Rate
from rvc_jax.errors import UserError
from rvc_jax.storage.files import write_json
from rvc_jax.train.budget import lookup_rate

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_GOOGLE = "0x1ae0"
_TPUS = {
    "0x0063": "v5e",
    "0x006f": "v6e",
    "0x005e": "v4",
    "0x0062": "v5p",
    "0x0027": "v3",
    "0x0076": "v7x",
}
"""TPU generations by PCI device number, the same table as in JAX."""
_TPU_TYPES = {"v5litepod": "v5e", "v5e": "v5e", "v6e": "v6e"}
_PLUGINS = {"tpu": ("libtpu",), "gpu": ("jax-cuda12-plugin", "jax-cuda13-plugin"), "cpu": ()}
"""Packages that connect JAX to an accelerator; one of each is enough."""
_PLATFORMS = {"tpu": "tpu,cpu", "gpu": "cuda,cpu", "cpu": "cpu"}
PROBE = (
    "import json, jax; d = jax.devices(); "
    "print(json.dumps([d[0].device_kind, len(d), jax.__version__]))"
)
"""Prints the values of `Devices`, in the Python that has JAX."""
_STAMP = "rvc_jax.json"
_OF_COLAB = ("UV_SYSTEM_PYTHON", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_BUILD_CONSTRAINT")
"""Settings for the notebook's own Python, which must not bind ours."""


class Accelerator(NamedTuple):
    """The accelerator of a machine."""

    kind: Literal["tpu", "gpu", "cpu"]
    name: str
    """Its name, such as v5e or Tesla T4; empty for none."""

    @property
    def rate(self) -> Rate | None:
        """The cost of an hour; None if it is not known."""
        return lookup_rate(self.name)

    @property
    def platforms(self) -> str:
        """The value of JAX_PLATFORMS. An accelerator that is paid for but not reached is an error,
        not a slow CPU."""
        return _PLATFORMS[self.kind]


class Devices(NamedTuple):
    """What JAX found."""

    kind: str
    count: int
    jax: str

    def __str__(self) -> str:
        return f"{self.count} x {self.kind}"


def accelerator(
    environment: Mapping[str, str] = os.environ, pci: Path = Path("/sys/bus/pci/devices")
) -> Accelerator:
    """Find a TPU or a GPU without JAX, which would occupy it for this process."""
    if written := environment.get("TPU_ACCELERATOR_TYPE"):
        kind = written.split("-")[0].lower()
        return Accelerator("tpu", _TPU_TYPES.get(kind, kind))
    for device in sorted(pci.glob("*")):
        with contextlib.suppress(OSError):
            if (device / "vendor").read_text().strip() == _GOOGLE:
                number = (device / "device").read_text().strip()
                if number in _TPUS:  # the network card is Google's, too
                    return Accelerator("tpu", _TPUS[number])
    if gpu := _gpu(environment):
        return Accelerator("gpu", gpu)
    return Accelerator("cpu", "")


def _gpu(environment: Mapping[str, str]) -> str:
    program = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if program is None:
        return ""
    asked = [program, "--query-gpu=name", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60)
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.splitlines()[0].strip()
    return ""


def is_complete(kind: str) -> bool:
    """Return whether this Python has all that rvc_jax needs for an accelerator, in the right
    versions."""
    from packaging.requirements import Requirement

    try:
        required = [Requirement(text) for text in importlib.metadata.requires("rvc_jax") or ()]
    except importlib.metadata.PackageNotFoundError:
        return False
    base = (
        each for each in required if each.marker is None or each.marker.evaluate({"extra": ""})
    )
    return all(map(_is_met, base)) and (
        not _PLUGINS[kind] or any(map(_version, _PLUGINS[kind]))
    )


def _is_met(requirement: Requirement) -> bool:
    version = _version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def requirements(source: str, kind: str) -> list[str]:
    """Return what to install for an accelerator.

    TPUs get JAX's own libtpu, and never `tensorflow-tpu`, which would replace it.

    Args:
      source: `git+https://...`, or the path of a zip, a wheel or a folder.
      kind: of the accelerator.
    """
    if "://" not in source:
        source = Path(source).absolute().as_uri()
    extras = "onnx,tpu" if kind == "tpu" else "onnx"
    return [f"rvc_jax[{extras}] @ {source}", *(["jax[cuda12]"] if kind == "gpu" else [])]


def install(source: str, kind: str, folder: Path) -> Path:
    """Install rvc_jax into an environment of its own, or use the one that is there.

    The notebook's packages stay as they are (including an old JAX), and no restart is needed.

    Args:
      source: as for `requirements`.
      kind: of the accelerator.
      folder: for the environment.

    Returns:
      The environment's Python.

    Raises:
      UserError: the installer failed; the message is its last line.
    """
    python = folder / "bin" / "python"
    wanted = requirements(source, kind)
    with contextlib.suppress(OSError, ValueError):
        if json.loads((folder / _STAMP).read_text()) == wanted and python.exists():
            return python
    uv = _uv()
    _do([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    _do([*uv, "pip", "install", "--quiet", "--python", str(python), *wanted])
    write_json(folder / _STAMP, wanted)
    return python


def _uv() -> list[str]:
    """Return the command of uv: Colab's Python lacks what `python -m venv` needs."""
    if found := shutil.which("uv"):
        return [found]
    _do([sys.executable, "-m", "pip", "install", "--quiet", "uv"])
    return [sys.executable, "-m", "uv"]


def _do(command: Sequence[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in _OF_COLAB}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        lines = [
            line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()
        ]
        raise UserError(
            lines[-1] if lines else f"{command[0]} ended with code {done.returncode}"
        )
