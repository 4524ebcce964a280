"""Compares the speed of every pitch method and content encoder with its original.

    python tests/benchmarks/features_speed.py [--methods crepe-tiny,swift] [--shapes "16 x 3.36 s"]
        [--rounds 3] [--whisper-onnx ENCODER_INT8.onnx]

The output is a Markdown table in seconds of audio per second. Ours and the original run on speech,
in alternating rounds, each in its own process, with one thread per core. The table shows the ratios
of wall time and of CPU time: other work on the machine disturbs CPU time less (the threads of
onnxruntime use CPU time even while they wait). Weights are random if the real ones are missing:
speed does not depend on them. The originals need torch, torchcrepe (with torchaudio and resampy),
torchfcpe, swift-f0, onnxruntime, pyworld and praat-parselmouth; a method whose packages are missing
is reported and left out. CREPE's original takes minutes per round.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import content_speed
import numpy as np
import pitch_rmvpe_fcpe

SHAPES = {"16 x 3.36 s": (16, 53760), "1 x 30 s": (1, 480000)}
RATE = 16000
Run = Callable[[np.ndarray], object]


def ours(name: str) -> Run:
    from rvc_jax.features.f0 import load_pitch_extractor

    return load_pitch_extractor(name)


def swift_f0() -> Run:
    import swift_f0

    detector = swift_f0.SwiftF0(threads=os.cpu_count())
    return lambda audio: [detector.detect(row, RATE) for row in audio]


def torchcrepe(capacity: str) -> Run:
    """The original CREPE, called as in RVC's tools."""
    import torch
    import torchcrepe

    torch.set_num_threads(os.cpu_count())

    def row_pitch(row: np.ndarray) -> np.ndarray:
        pitch, periodicity = torchcrepe.predict(
            torch.from_numpy(row)[None],
            RATE,
            160,
            50,
            1100,
            capacity,
            batch_size=512,
            return_periodicity=True,
        )
        pitch = torchcrepe.filter.mean(pitch, 3)
        pitch[torchcrepe.filter.median(periodicity, 3) < 0.1] = 0
        return pitch.numpy()

    return lambda audio: [row_pitch(row) for row in audio]


def row_by_row(name: str) -> Run:
    """The classical methods, called as in RVC's tools: the same packages, one row after another."""
    from rvc_jax.features.f0 import load_pitch_extractor

    extractor = load_pitch_extractor(name)
    return lambda audio: [extractor(row[None]) for row in audio]


@dataclasses.dataclass(frozen=True)
class Pair:
    """A method, with the functions that build it and its original. Each runs in its own process."""

    method: str
    ours: Callable[[], Run]
    original: str
    theirs: Callable[[], Run]
    shapes: tuple[str, ...] = tuple(SHAPES)
    """Shapes that the original supports."""


def pairs(whisper_onnx: str) -> Iterator[Pair]:
    make = functools.partial
    yield Pair("swift", make(ours, "swift"), "swift-f0 (onnxruntime)", swift_f0)
    for name, capacity in (("crepe-tiny", "tiny"), ("crepe", "full")):
        yield Pair(name, make(ours, name), "torchcrepe", make(torchcrepe, capacity))
    for name, original in (("rmvpe", "PyTorch"), ("fcpe", "torchfcpe")):
        yield Pair(
            name,
            make(pitch_rmvpe_fcpe.ours, name),
            original,
            make(pitch_rmvpe_fcpe.pytorch, name),
        )
    for name, original in (("harvest", "pyworld"), ("dio", "pyworld"), ("pm", "parselmouth")):
        yield Pair(name, make(ours, name), f"{original}, row by row", make(row_by_row, name))
    for name in content_speed.NAMES:
        yield Pair(
            name,
            make(content_speed.ours, name, ""),
            "PyTorch",
            make(content_speed.pytorch, name, ""),
        )
    if whisper_onnx:
        name = "whisper-tiny"
        theirs = make(content_speed.onnxruntime, name, whisper_onnx)
        yield Pair(
            name,
            make(content_speed.ours, name, ""),
            "onnxruntime, 8 bits",
            theirs,
            ("1 x 30 s",),
        )


def speech(batch: int, samples: int) -> np.ndarray:
    """Speech of the bundled sample, repeated as needed."""
    from rvc_jax.audio.reading import find_audio, load
    from rvc_jax.data.sources import find_bundled_sample

    wave = np.concatenate(
        [load(path, RATE) for path in find_audio(find_bundled_sample("voice"))[:10]]
    )
    return np.resize(wave, (batch, samples)).astype(np.float32)


def work(make: Callable[[], Run], compiles: bool, pipe: Connection) -> None:
    """Receives shapes from the pipe, and sends the wall and CPU seconds of a run on each.

    None ends the loop and sends the peak memory in GiB. A run of less than ten seconds is repeated,
    so that caches are warm.
    """
    sys.stdout = sys.stderr  # originals print; standard output is for the table only
    try:
        run = make()
    except Exception as error:  # a missing package or missing weights: the table shows it
        pipe.send(f"{type(error).__name__}: {error}")
        return
    pipe.send(None)
    compiled: set[tuple[int, int]] = set()
    while shape := pipe.recv():
        audio = speech(*shape)
        if compiles and shape not in compiled:
            run(audio)
            compiled.add(shape)
        taken = timed(run, audio)
        pipe.send(taken if taken[0] > 10 else timed(run, audio))
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def timed(run: Run, audio: np.ndarray) -> tuple[float, float]:
    """Wall and CPU seconds of a run."""
    clock = time.perf_counter()
    processor = time.process_time()
    run(audio)
    return time.perf_counter() - clock, time.process_time() - processor


def compare(pair: Pair, shapes: list[str], rounds: int) -> str:
    """Measures one method and its original, and returns a row of the table."""
    context = multiprocessing.get_context("spawn")
    pipes = []
    for make, compiles in ((pair.ours, True), (pair.theirs, False)):
        here, there = context.Pipe()
        context.Process(target=work, args=(make, compiles, there), daemon=True).start()
        pipes.append(here)
    failures = [failure for pipe in pipes if (failure := pipe.recv())]
    if failures:
        return f"| {pair.method} | {pair.original} | left out: {'; '.join(failures)} |"
    cells = []
    for label in shapes:
        if label not in pair.shapes:
            cells += ["-"] * 4
            continue
        shape = SHAPES[label]
        taken = np.array(
            [[pipe.send(shape) or pipe.recv() for pipe in pipes] for _ in range(rounds)]
        )
        ours, theirs = np.prod(shape) / RATE / np.median(taken[..., 0], axis=0)
        clock, processor = np.median(taken[:, 1] / taken[:, 0], axis=0)
        cells += [f"{ours:.1f}", f"{theirs:.1f}", f"**{clock:.2f}**", f"{processor:.2f}"]
    memory = [f"{pipe.send(None) or pipe.recv():.2f}" for pipe in pipes]
    return f"| {pair.method} | {pair.original} | {' | '.join(cells)} | {' / '.join(memory)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", default="", help="comma-separated (default: all)")
    parser.add_argument(
        "--shapes", default=",".join(SHAPES), help="comma-separated (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds per shape (default: 3)")
    parser.add_argument("--whisper-onnx", default="", help="8-bit encoder of Whisper tiny")
    options = parser.parse_args()
    known = list(pairs(options.whisper_onnx))
    wanted = options.methods.split(",") if options.methods else [pair.method for pair in known]
    if unknown := set(wanted) - {pair.method for pair in known}:
        methods = ", ".join(pair.method for pair in known)
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {methods}")
    shapes = options.shapes.split(",")
    if unknown := set(shapes) - set(SHAPES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(SHAPES)}")
    columns = [
        f"{shape}: {what}"
        for shape in shapes
        for what in ("ours", "original", "ratio", "ratio of CPU time")
    ]
    header = ["method", "original", *columns, "peak GiB, ours / original"]
    print(
        f"Seconds of audio per second on {os.cpu_count()} CPU cores, medians of {options.rounds} "
        "alternating rounds.\n"
    )
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}", flush=True)
    for pair in known:
        if pair.method in wanted:
            print(compare(pair, shapes, options.rounds), flush=True)


if __name__ == "__main__":
    main()
