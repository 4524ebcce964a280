"""Seconds per full training step (generator and discriminator, both optimisers) on random data.

python tests/benchmarks/train_step.py --preset 40k --batch 4 --frames 300 --precision float32 --steps 3
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import jax
import numpy as np

from rvc_jax.config import PRESETS, Preset
from rvc_jax.train.state import fresh_state
from rvc_jax.train.step import build_networks, make_step


def random_batch(preset: Preset, batch: int, frames: int) -> dict[str, np.ndarray]:
    """A batch of the right shapes with noise for speech; half of the frames are voiced."""
    random = np.random.default_rng(0)
    voiced = random.random((batch, frames)) < 0.5
    return {
        "wave": 0.1 * random.standard_normal((batch, frames * preset.audio.hop)).astype(np.float32),
        "content": random.standard_normal((batch, frames // 2, preset.generator.content_channels)).astype(np.float16),
        "f0": np.where(voiced, random.uniform(80, 400, (batch, frames)), 0).astype(np.float32),
        "lengths": np.full(batch, frames, np.int32),
        "speaker": np.zeros(batch, np.int32),
    }


def measure(preset: Preset, batch: int, frames: int, steps: int) -> dict[str, float]:
    """Compile time and the fastest and mean step time in seconds."""
    networks = build_networks(preset, steps_per_epoch=100)
    state = jax.device_put(
        fresh_state(networks.synthesizer, networks.discriminator, networks.optimizer, preset.train.seed)
    )
    data = jax.device_put(random_batch(preset, batch, frames))
    begin = time.perf_counter()
    step = jax.jit(make_step(networks), donate_argnums=0).lower(state, data).compile()
    compiled = time.perf_counter() - begin
    times = []
    for _ in range(steps + 1):
        begin = time.perf_counter()
        state, metrics = step(state, data)
        jax.block_until_ready(metrics)
        times.append(time.perf_counter() - begin)
    return {"compile_s": compiled, "best_s": min(times[1:]), "mean_s": sum(times[1:]) / steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="40k", choices=PRESETS)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    options = parser.parse_args()
    preset = PRESETS[options.preset]
    preset = dataclasses.replace(preset, train=dataclasses.replace(preset.train, precision=options.precision))
    figures = measure(preset, options.batch, options.frames, options.steps)
    print(
        f"{options.preset}, batch {options.batch}, {options.frames} frames, {options.precision}, "
        f"{jax.default_backend()}: {figures['best_s']:.3f} s/step (mean {figures['mean_s']:.3f}), "
        f"compiled in {figures['compile_s']:.0f} s"
    )


if __name__ == "__main__":
    main()
