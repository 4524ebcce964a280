"""Runs programs of the tests on several devices that the CPU simulates."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_TESTS = Path(__file__).parent


def start_on_devices(devices: int, script: Path, *arguments: object) -> subprocess.Popen[str]:
    """Starts a script, which can import the modules of `tests`, its helpers and its benchmarks."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    folders = [str(_TESTS), str(_TESTS / "helpers"), str(_TESTS / "benchmarks")]
    if "PYTHONPATH" in os.environ:
        folders.append(os.environ["PYTHONPATH"])
    environment = os.environ | {
        "XLA_FLAGS": flags,
        "PYTHONPATH": os.pathsep.join(folders),
    }
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run_on_devices(devices: int, script: Path) -> str:
    """Runs a script, which must succeed, and returns what it prints."""
    process = start_on_devices(devices, script)
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out
