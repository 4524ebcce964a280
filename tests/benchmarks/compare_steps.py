"""Times our training step and PyTorch's by turns, each in its own process.

    python tests/benchmarks/compare_steps.py --preset 40k --batch 4 --frames 300 --rounds 5

By turns, because a machine whose speed drifts then slows both alike.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from rvc_jax.config import PRESETS, Preset


def make_our_step(preset: Preset, batch: int, frames: int) -> Callable[[], None]:
    """Returns a function that takes a step of rvc_jax."""
    import jax
    from train_step import random_batch

    from rvc_jax.train.networks import build_networks
    from rvc_jax.train.state import init_state
    from rvc_jax.train.step import make_step

    networks = build_networks(preset, steps_per_epoch=100)
    state = jax.device_put(
        init_state(networks.synthesizer, networks.discriminator, networks.optimizer, 0)
    )
    data = jax.device_put(random_batch(preset, batch, frames))
    step = jax.jit(make_step(networks), donate_argnums=0)

    def run() -> None:
        nonlocal state
        state, metrics = step(state, data)
        jax.block_until_ready((state, metrics))

    return run


def make_torch_step(preset: Preset, batch: int, frames: int) -> Callable[[], None]:
    """Returns a function that takes a step of PyTorch."""
    import torch_yardstick

    models, optimizers = torch_yardstick.build(preset)
    data = torch_yardstick.random_batch(preset, batch, frames, "cpu")
    return lambda: torch_yardstick.train_step(models, optimizers, data)


def run_rounds(
    make: Callable[..., Callable[[], None]],
    preset: Preset,
    batch: int,
    frames: int,
    pipe: Connection,
) -> None:
    """Takes three steps for every message, and sends the mean seconds of the last two.

    The first one warms up the memory, which was idle during the other process's turn.
    """
    step = make(preset, batch, frames)
    step()
    pipe.send("ready")
    while pipe.recv():
        step()
        begin = time.perf_counter()
        step()
        step()
        pipe.send((time.perf_counter() - begin) / 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="40k", choices=PRESETS)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    preset = PRESETS[options.preset]
    preset = dataclasses.replace(
        preset, train=dataclasses.replace(preset.train, precision="float32")
    )
    context = multiprocessing.get_context("spawn")
    pipes = []
    for make in (make_our_step, make_torch_step):
        ours, theirs = context.Pipe()
        arguments = (make, preset, options.batch, options.frames, theirs)
        context.Process(target=run_rounds, args=arguments, daemon=True).start()
        ours.recv()
        pipes.append(ours)
    rounds = []
    for _ in range(options.rounds):
        seconds = []
        for pipe in pipes:
            pipe.send(True)
            seconds.append(pipe.recv())
        rounds.append(seconds)
    for pipe in pipes:
        pipe.send(False)
    ours, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratios = sorted(a / b for a, b in rounds)
    print(
        f"{options.preset}, batch {options.batch}, {options.frames} frames, float32: "
        f"rvc_jax {ours:.2f} s a step, PyTorch eager {theirs:.2f} s "
        f"(medians of {options.rounds} rounds); "
        f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


if __name__ == "__main__":
    main()
