"""Measure the memory and time that preparation takes for a long recording.

    python tests/benchmarks/long_file_memory.py --hours 3

The bundled voice is repeated into one stereo file at 48 kHz. It is opened, sliced, and its slices
are read, as preparation does it.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import soundfile

from rvc_jax.audio.reading import load
from rvc_jax.config import PrepareConfig
from rvc_jax.data.recording import find_slices, open_recording, read_slice
from rvc_jax.data.sources import find_bundled_sample

RATE = 48000


def write_long_file(path: Path, hours: float) -> None:
    """Repeat the bundled voice in two channels of different level, block by block."""
    clips = [load(file, RATE) for file in sorted(find_bundled_sample("voice").glob("*.flac"))]
    speech = np.concatenate(clips)[:, None] * np.array([0.5, 0.4], np.float32)
    wanted = round(hours * 3600 * RATE)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        while wanted:
            file.write(speech[:wanted])
            wanted -= min(wanted, len(speech))


def peak_memory() -> float:
    """Return the largest amount of memory that this process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--rate", type=int, default=40000, help="of the dataset, in Hz")
    parser.add_argument("--format", default="flac", choices=("flac", "wav"))
    parser.add_argument("--slicing", default="auto", choices=("auto", "simple", "skip"))
    parser.add_argument(
        "--normalization", default="post", choices=("none", "pre", "post", "loudness")
    )
    parser.add_argument("--clean-audio", action="store_true")
    parser.add_argument("--vad", action="store_true")
    options = vars(parser.parse_args())
    hours = options.pop("hours")
    rate = options.pop("rate")
    format = options.pop("format")
    config = dataclasses.replace(PrepareConfig(), **options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"long.{format}"
        write_long_file(path, hours)
        now = psutil.Process().memory_info().rss / 2**30
        print(
            f"{hours:g} h, {path.stat().st_size / 2**30:.2f} GiB; {now:.2f} GiB in use, "
            f"{peak_memory():.2f} GiB so far"
        )
        began = time.perf_counter()
        recording = open_recording(path, rate, config, Path(folder))
        opened = time.perf_counter()
        print(f"open_recording {opened - began:.1f} s, {peak_memory():.2f} GiB")
        found = find_slices(recording, config)
        sliced = time.perf_counter()
        good = [(start, stop) for start, stop, reason in found if reason is None]
        print(
            f"find_slices {sliced - opened:.1f} s, {peak_memory():.2f} GiB: {len(good)} good ones "
            f"of {len(found)}"
        )
        seconds = (
            sum(len(read_slice(recording, start, stop, config)) for start, stop in good) / rate
        )
        finished = time.perf_counter()
        print(
            f"read_slice {finished - sliced:.1f} s, {peak_memory():.2f} GiB: {seconds / 3600:.2f} h"
        )


if __name__ == "__main__":
    main()
