"""Seconds of processor time to decode ten minutes of stereo, by format.

    python tests/benchmarks/decode_speed.py [--minutes 10]

Run it with PYTHONPATH at another checkout to compare.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from rvc_jax.audio.reading import decode_blocks

RATE = 44100
FORMATS = {
    "16 bits.wav": "PCM_16",
    "24 bits.wav": "PCM_24",
    "float.wav": "FLOAT",
    "a.flac": "PCM_16",
    "a.mp3": None,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    samples = round(parser.parse_args().minutes * 60 * RATE)
    noise = np.random.default_rng(0).normal(size=(samples, 2)).astype(np.float32) * 0.05
    with tempfile.TemporaryDirectory() as folder:
        for name, subtype in FORMATS.items():
            path = Path(folder) / name
            soundfile.write(path, noise, RATE, subtype=subtype)
            print(f"{name:12} {min(measure(path) for _ in range(3)):.3f} s")


def measure(path: Path) -> float:
    begun = time.process_time()
    for _ in decode_blocks(path)[1]:
        pass
    return time.process_time() - begun


if __name__ == "__main__":
    main()
