"""Programs of the tests, on a number of devices that the CPU stands in for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_TESTS = Path(__file__).parent


def start_on_devices(devices: int, script: Path, *arguments: object) -> subprocess.Popen[str]:
    """Starts a script, which finds the modules that stand in `tests` and in its benchmarks."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    folders = (str(_TESTS), str(_TESTS / "benchmarks"), os.environ.get("PYTHONPATH", ""))
    environment = os.environ | {
        "XLA_FLAGS": flags,
        "PYTHONPATH": os.pathsep.join(filter(None, folders)),
    }
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run_on_devices(devices: int, script: Path) -> str:
    """What a script prints; it must not fail."""
    process = start_on_devices(devices, script)
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out
