"""Measure training on a corpus larger than memory: speed and memory, from disk and from memory.

    python tests/benchmarks/large_corpus.py DATASET --hours 50

1. Speed: one compiled step takes windows of the dataset from memory and from disk, alternating in
   blocks of `--steps`; the ratio is that of the sums of both.
2. Memory: `rvc-jax train` takes `--steps` steps on the dataset with its windows in memory, and on
   `--hours` of speech from disk. A corpus of that length is made of the dataset's shards, by links
   or, with `--copy`, in files of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AxisType

from rvc_jax.config import PRESETS
from rvc_jax.data.dataset import VoiceDataset, load_dataset, open_dataset, read_info
from rvc_jax.train.dispatch import compile_dispatch
from rvc_jax.train.loader import BatchSampler, StreamingLoader
from rvc_jax.train.networks import build_networks
from rvc_jax.train.state import init_state

MANY_GIGABYTES = 1e6
A_BYTE = 1e-9


def repeat_dataset(dataset: Path, out: Path, times: int, copies: bool) -> None:
    """Make a dataset with the training shards of another one, repeated."""
    out.mkdir()
    description = json.loads((dataset / "dataset_info.json").read_text())
    metadata = json.loads((dataset / "metadata.json").read_text())
    (train,) = [split for split in description["splits"] if split["name"] == "train"]
    shards = sorted(dataset.glob("*-train.tfrecord-*"))
    train["shardLengths"] *= times
    for number in range(len(shards) * times):
        name = f"voice-train.tfrecord-{number:05d}-of-{len(shards) * times:05d}"
        source = shards[number % len(shards)].absolute()
        if copies:
            (out / name).write_bytes(source.read_bytes())
        else:
            (out / name).symlink_to(source)
    for shard in dataset.glob("*-holdout.tfrecord-*"):
        (out / shard.name).symlink_to(shard.absolute())
    for name in ("train_slices", "source_minutes", "speech_minutes"):
        metadata[name] *= times
    metadata["speaker_minutes"] = [minutes * times for minutes in metadata["speaker_minutes"]]
    (out / "features.json").write_bytes((dataset / "features.json").read_bytes())
    (out / "dataset_info.json").write_text(json.dumps(description))
    (out / "metadata.json").write_text(json.dumps(metadata))


def measure_speed(
    dataset: Path, hours_long: Path, preset: str, steps: int, rounds: int
) -> None:
    """Print steps per second from memory and from disk, alternating."""
    with contextlib.ExitStack() as stack:
        opened = {
            "memory": load_dataset(dataset),
            "disk": stack.enter_context(open_dataset(dataset, 0)),
            "disk, the long corpus": stack.enter_context(open_dataset(hours_long, 0)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in opened}
        for _ in range(rounds):
            for name, value in take_blocks(opened, preset, steps):
                seconds[name].append(value)
    for name, values in seconds.items():
        ratio = sum(seconds["memory"]) / sum(values)
        print(
            f"{name}: {steps / statistics.median(values):.3f} steps/s (median of {rounds}), "
            f"{ratio:.3f} of the speed from memory"
        )


def take_blocks(
    opened: dict[str, VoiceDataset], preset: str, steps: int
) -> Iterator[tuple[str, float]]:
    """Yield the seconds of a block of steps from each dataset."""
    mesh = jax.make_mesh(
        (1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1]
    )
    settings = PRESETS[preset]
    generator = dataclasses.replace(settings.generator, speakers=128)
    networks = build_networks(dataclasses.replace(settings, generator=generator), 1000)
    batch = settings.train.batch_per_chip
    steps_per_dispatch = 1 if jax.default_backend() == "cpu" else 32
    state = init_state(networks.synthesizer, networks.discriminator, networks.optimizer, 0)
    dispatch = None
    for name, data in opened.items():
        sampler = BatchSampler(len(data.train), batch, seed=0)
        loader = StreamingLoader(data.train, sampler, steps_per_dispatch, mesh)
        dispatch = dispatch or compile_dispatch(networks, loader, steps_per_dispatch, mesh)
        step = 0
        began = 0.0
        # The first dispatches compile, for fresh arrays and for those of the step, and fill the
        # queue.
        warmup = 3 * steps_per_dispatch
        while step < steps + warmup:
            if step == warmup:
                jax.block_until_ready(state)
                began = time.perf_counter()
            arguments = loader(step, steps_per_dispatch)
            state, _ = dispatch(state, None, arguments, np.int32(steps_per_dispatch))
            jax.block_until_ready(state)  # as training waits for the dispatch before
            step += steps_per_dispatch
        loader.close()
        yield name, time.perf_counter() - began


def measure_memory(dataset: Path, run: Path, preset: str, steps: int, gigabytes: float) -> None:
    """Print what a training of some steps takes."""
    command = [sys.executable, "-m", "rvc_jax", "train", str(dataset), "--run", str(run)]
    command += ["--preset", preset, "--pretrained", "none", "--steps", str(steps), "--json"]
    command += ["--memory-gigabytes", str(gigabytes)]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout.read() if process.stdout else ""
        # Of this child alone, unlike RUSAGE_CHILDREN.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"the training ended with exit code {process.returncode}")
    speed = json.loads(output)["steps_per_second"]
    index = np.load(run / "index.npy", mmap_mode="r")
    print(
        f"{read_info(dataset).speech_minutes / 60:.1f} h "
        f"{'from disk' if gigabytes == A_BYTE else 'in memory'}: "
        f"{usage.ru_maxrss / 1e6:.2f} GB at most, {speed:.3f} steps/s, "
        f"{time.monotonic() - began:.0f} s in all, an index of {len(index)} rows"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--hours", type=float, default=50.0)
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--copy", action="store_true", help="copy the shards instead of linking"
    )
    parser.add_argument("--only", choices=("speed", "memory"))
    options = parser.parse_args()
    hours = read_info(options.dataset).speech_minutes / 60
    times = max(1, round(options.hours / hours))
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        repeat_dataset(options.dataset, corpus, times, options.copy)
        if options.only != "speed":
            for number, (dataset, gigabytes) in enumerate(
                [(options.dataset, MANY_GIGABYTES), (options.dataset, A_BYTE), (corpus, A_BYTE)]
            ):
                run = Path(folder) / f"run{number}"
                measure_memory(dataset, run, options.preset, options.steps, gigabytes)
        if options.only != "memory":
            measure_speed(
                options.dataset, corpus, options.preset, options.steps, options.rounds
            )


if __name__ == "__main__":
    main()
