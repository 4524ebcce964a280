"""Seconds of audio per second of RMVPE and FCPE, ours and PyTorch's by turns, each in a process of its own.

python tests/benchmarks/pitch_rmvpe_fcpe.py [--names rmvpe,fcpe] [--shapes "16 x 3.36 s,1 x 30 s"] [--rounds 5]

Both go from audio to pitch. FCPE's original is the package torchfcpe 0.0.4; RMVPE's is written in plain PyTorch, with
weights made from their names: speed does not depend on them. Seconds of the processor are told as well, since on a
machine with other work to do, threads that wait for each other lose more than their share.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "parity"), str(Path(__file__).parent)]

SHAPES = {"16 x 3.36 s": (16, 53760), "1 x 30 s": (1, 480000)}
Run = Callable[[np.ndarray], np.ndarray]


def rmvpe_state() -> dict[str, np.ndarray]:
    import reference

    names = json.loads((TESTS / "parity/names_features.json").read_text())["rmvpe."]
    return {name: reference.value(f"rmvpe.{name}", shape) for name, shape in names.items() if shape}


def ours(name: str) -> Run:
    from rvc_jax.features.f0 import fcpe, rmvpe
    from rvc_jax.weights import torch_file

    if name == "rmvpe":
        return rmvpe.RmvpePitch(rmvpe_state(), "")
    package = Path(importlib.util.find_spec("torchfcpe").origin).parent
    return fcpe.FcpePitch(torch_file.read(package / "assets/fcpe_c_v001.pt")["model"], "")


def pytorch(name: str) -> Run:
    import torch

    torch.set_num_threads(os.cpu_count())
    if name == "rmvpe":
        from torch_rmvpe import Rmvpe

        model = Rmvpe().eval()
        state = {key: torch.from_numpy(array) for key, array in rmvpe_state().items()}
        model.load_state_dict(state | {k: v for k, v in model.state_dict().items() if k.endswith("batches_tracked")})
        extract = model.pitch
    else:
        import torchfcpe

        model = torchfcpe.spawn_bundled_infer_model("cpu")
        extract = lambda audio: model.infer(audio[..., None], 16000)  # noqa: E731

    def run(audio: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return extract(torch.from_numpy(audio)).numpy()

    return run


def work(make: Callable[[str], Run], name: str, pipe: Connection) -> None:
    """Answers every shape with the mean seconds of two runs, by the clock and of the processor; None ends it."""
    run = make(name)
    pipe.send("ready")
    while shape := pipe.recv():
        audio = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
        run(audio)
        clock, processor = time.perf_counter(), time.process_time()
        run(audio)
        run(audio)
        pipe.send(((time.perf_counter() - clock) / 2, (time.process_time() - processor) / 2))
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def compare(name: str, shapes: list[str], rounds: int) -> None:
    context, pipes = multiprocessing.get_context("spawn"), []
    for make in (ours, pytorch):
        here, there = context.Pipe()
        context.Process(target=work, args=(make, name, there), daemon=True).start()
        here.recv()
        pipes.append(here)
    for shape in shapes:
        taken = np.array([[pipe.send(SHAPES[shape]) or pipe.recv() for pipe in pipes] for _ in range(rounds)])
        seconds = np.prod(SHAPES[shape]) / 16000 / np.median(taken, axis=0)  # [ours or PyTorch's, clock or processor]
        ratios = np.median(taken[:, 1] / taken[:, 0], axis=0)
        print(
            f"{name:6s} {shape:12s} audio s/s: ours {seconds[0, 0]:6.1f}, PyTorch {seconds[1, 0]:6.1f}; by the clock "
            f"ours is {ratios[0]:.2f} times as fast, by the processor's time {ratios[1]:.2f}",
            flush=True,
        )
    for make, pipe in zip((ours, pytorch), pipes, strict=True):
        pipe.send(None)
        print(f"{name:6s} {make.__name__}: peak memory {pipe.recv():.2f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", default="rmvpe,fcpe")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for name in options.names.split(","):
        compare(name, options.shapes.split(","), options.rounds)


if __name__ == "__main__":
    main()
