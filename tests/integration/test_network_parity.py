"""The networks against golden outputs of the reference implementation, at full size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from xla_flags import fast_compile_flags

PARITY = Path(__file__).parents[1] / "parity"
XLA_FLAGS = fast_compile_flags(0)
"""With these flags the 40k gradient of dec.conv_pre.weight was always on the golden one's side of a
rectifier's kink, so nothing is computed again (`recheck_gradients` in check.py)."""


def run_check(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PARITY / "check.py"), str(folder), *options]
    environment = os.environ | {"XLA_FLAGS": XLA_FLAGS}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_every_golden_value_is_within_its_bound() -> None:
    result = run_check(PARITY, "--rate", "40000")
    assert result.returncode == 0, result.stdout + result.stderr
    keys = {line.split()[1] for line in result.stdout.splitlines() if line.startswith("ok")}
    with np.load(PARITY / "parity_40000.npz") as golden:
        expected = {key for key in golden.files if not key.startswith("in.")}
    assert expected <= keys
    assert {f"logmel.{rate}" for rate in (32000, 40000, 48000)} <= keys
