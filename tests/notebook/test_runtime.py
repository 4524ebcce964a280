"""Which accelerator a runtime has, and how rvc_jax is installed for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from rvc_jax.config import RATES
from rvc_jax.errors import UserError
from rvc_jax.notebook import runtime
from rvc_jax.notebook.runtime import (
    Accelerator,
    accelerator,
    install,
    is_complete,
    requirements,
)

NOWHERE = Path("/nonexistent")


@pytest.mark.parametrize(
    ("written", "name"),
    [("v5litepod-1", "v5e"), ("v5e-1", "v5e"), ("v6e-1", "v6e"), ("v2-8", "v2")],
)
def test_a_tpu_by_its_environment(written: str, name: str) -> None:
    assert accelerator({"TPU_ACCELERATOR_TYPE": written}, NOWHERE) == Accelerator("tpu", name)


def test_a_tpu_by_its_device(tmp_path: Path) -> None:
    for number, (vendor, device) in enumerate(
        (("0x8086", "0x1237"), ("0x1ae0", "0x0042"), ("0x1ae0", "0x006f"))
    ):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "vendor").write_text(f"{vendor}\n")
        (tmp_path / str(number) / "device").write_text(f"{device}\n")
    assert accelerator({"PATH": ""}, tmp_path) == Accelerator("tpu", "v6e")


def test_a_gpu_by_its_driver(tmp_path: Path) -> None:
    program(tmp_path, "nvidia-smi", "echo Tesla T4")
    assert accelerator({"PATH": f"{tmp_path}:/bin"}, NOWHERE) == Accelerator("gpu", "Tesla T4")
    program(tmp_path, "nvidia-smi", "echo no devices >&2; exit 9")
    assert accelerator({"PATH": f"{tmp_path}:/bin"}, NOWHERE) == Accelerator("cpu", "")


@pytest.mark.parametrize(
    ("name", "known"), [("v5e", "v5e"), ("Tesla T4", "T4"), ("NVIDIA L4", "L4")]
)
def test_rates(name: str, known: str) -> None:
    assert Accelerator("gpu", name).rate == RATES[known]
    assert Accelerator("cpu", "").rate is None


def test_what_is_installed() -> None:
    git = "git+https://host.example/rvc_jax"
    assert requirements(git, "tpu") == [f"rvc_jax[onnx,tpu] @ {git}"]
    assert requirements(git, "gpu") == [f"rvc_jax[onnx] @ {git}", "jax[cuda12]"]
    assert requirements("/content/my rvc.zip", "cpu") == [
        "rvc_jax[onnx] @ file:///content/my%20rvc.zip"
    ]


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the installer that notes what it is asked; a file `fails` beside it makes it
    fail."""
    script = (
        f'echo "$@" >> {tmp_path}/asked; '
        f'test -e {tmp_path}/fails && echo "error: no such repository" >&2 && exit 1; '
        "for last; do :; done; "
        'test "$1" = venv && mkdir -p "$last/bin" && touch "$last/bin/python"; true'
    )
    program(tmp_path, "uv", script)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    return tmp_path


def test_installing_once_in_an_environment_of_its_own(uv: Path) -> None:
    folder = uv / "environment"
    python = install("git+https://host.example/rvc_jax", "gpu", folder)
    assert python == folder / "bin" / "python"
    made, filled = (uv / "asked").read_text().splitlines()
    assert made == f"venv --quiet --clear --python {sys.executable} {folder}"
    assert (
        filled.endswith("rvc_jax[onnx] @ git+https://host.example/rvc_jax jax[cuda12]")
        and str(python) in filled
    )
    assert install("git+https://host.example/rvc_jax", "gpu", folder) == python
    assert len((uv / "asked").read_text().splitlines()) == 2
    install("git+https://host.example/rvc_jax@next", "gpu", folder)
    assert len((uv / "asked").read_text().splitlines()) == 4


def test_an_installation_that_fails_is_tried_again(uv: Path) -> None:
    (uv / "fails").touch()
    with pytest.raises(UserError, match="^error: no such repository$"):
        install("git+https://host.example/none", "cpu", uv / "environment")
    (uv / "fails").unlink()
    install("git+https://host.example/none", "cpu", uv / "environment")
    assert json.loads((uv / "environment" / "rvc_jax.json").read_text())


def test_this_python_is_complete_for_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_complete("cpu")
    monkeypatch.setattr(
        runtime.importlib.metadata, "version", lambda name: "0.7.2" if name == "jax" else "99.0"
    )
    assert not is_complete("cpu")  # Colab's own JAX


def test_an_accelerator_needs_its_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    there = dict.fromkeys(("libtpu",), "0.0.42")
    genuine = runtime._version
    monkeypatch.setattr(
        runtime,
        "_version",
        lambda name: there.get(name) if "jax-cuda" in name else genuine(name),
    )
    assert not is_complete("gpu")
