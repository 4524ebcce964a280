"""Measure the seconds from the command to the first training step, cold and with cached programs.

python tests/benchmarks/cold_start.py DATASET --preset nano --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def seconds_to_first_step(dataset: str, run: Path, preset: str, home: Path) -> dict[str, float]:
    """Measure from the start of a run to its first progress, and to its end after one step."""
    command = [
        sys.executable,
        "-m",
        "rvc_jax",
        "train",
        dataset,
        "--run",
        str(run),
        "--preset",
        preset,
    ]
    options = ["--steps", "1", "--pretrained", "none", "--progress", "json"]
    environment = os.environ | {
        "RVC_JAX_HOME": str(home),
        "JAX_COMPILATION_CACHE_DIR": str(home / "xla"),
    }
    began = time.monotonic()
    first = 0.0
    with subprocess.Popen(
        command + options,
        env=environment,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        for line in process.stderr:
            event = json.loads(line)
            if not first and event["event"] == "training" and event["step"] >= 1:
                first = time.monotonic() - began
    if process.returncode or not first:
        sys.exit(f"the training ended with exit code {process.returncode}")
    return {"first_step_s": first, "end_s": time.monotonic() - began}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset")
    parser.add_argument("--preset", default="nano")
    parser.add_argument(
        "--rounds", type=int, default=3, help="number of starts with cached programs"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        times = [
            seconds_to_first_step(
                options.dataset, folder / f"run{i}", options.preset, folder / "home"
            )
            for i in range(1 + options.rounds)
        ]
    warm = statistics.median(time["first_step_s"] for time in times[1:])
    print(
        json.dumps({"cold": times[0], "warm": times[1:], "warm_first_step_s": warm}, indent=1)
    )


if __name__ == "__main__":
    main()
