"""Trainings by `tests/micro.py`, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

MICRO = Path(__file__).parents[1] / "micro.py"


def start(dataset: Path, run: Path, options: Sequence[str]) -> subprocess.Popen:
    command = [sys.executable, str(MICRO), "train", str(dataset), "--run", str(run), *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(dataset: Path, run: Path, options: Sequence[str]) -> str:
    """Train to the end, and return what was printed."""
    process = start(dataset, run, options)
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 0, output
    return output
