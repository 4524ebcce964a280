"""Measure seconds per full training step (both networks, both optimizers) on random data.

    python tests/benchmarks/train_step.py --preset 40k --batch 4 --frames 300 \\
        --precision float32 --steps 3
    python tests/benchmarks/train_step.py --batch 8 --precision bfloat16 --steps 20 \\
        --kernels merge_to=64 fold_to=64

`--dispatch N` takes N steps in one call, as training does. `--trace FOLDER` writes a profile of
three calls there, and the compiled program's text.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tpu_kernels import with_fields

from rvc_jax.config import PRESETS, STEP_FRAMES, Preset
from rvc_jax.models.kernels.options import KernelConfig, kernel_config_for
from rvc_jax.train.dispatch import make_dispatch
from rvc_jax.train.loader import Batch, ResidentLoader
from rvc_jax.train.networks import build_networks
from rvc_jax.train.state import init_state
from rvc_jax.train.step import make_step


def random_batch(preset: Preset, batch: int, frames: int) -> Batch:
    """Make a batch of the right shapes with noise for speech; half of the frames are voiced."""
    if frames > STEP_FRAMES:
        raise SystemExit(
            f"--frames {frames}: a step takes {STEP_FRAMES} of them, and other networks would "
            "take all"
        )
    random = np.random.default_rng(0)
    voiced = random.random((batch, frames)) < 0.5
    # Drawn in this order: the numbers stay those of earlier measurements.
    wave = 0.1 * random.standard_normal((batch, frames * preset.audio.hop)).astype(np.float32)
    content = random.standard_normal((batch, frames // 2, preset.generator.content_channels))
    f0 = np.where(voiced, random.uniform(80, 400, (batch, frames)), 0)
    return Batch(
        content=content.astype(np.float16),
        f0=f0.astype(np.float32),
        lengths=np.full(batch, frames, np.int32),
        speaker=np.zeros(batch, np.int32),
        wave=wave,
    )


def measure(
    preset: Preset,
    batch: int,
    frames: int,
    steps: int,
    kernels: KernelConfig,
    dispatch: int = 1,
    trace: Path | None = None,
) -> dict[str, float]:
    """Measure compile time, mean and best time of a step in seconds, and peak memory in bytes."""
    networks = build_networks(preset, steps_per_epoch=100, kernels=kernels)
    state = init_state(
        networks.synthesizer, networks.discriminator, networks.optimizer, preset.train.seed
    )
    resident = jax.device_put(random_batch(preset, batch, frames))
    rows = jnp.tile(jnp.arange(batch), (dispatch, 1))
    function = make_dispatch(networks, make_step(networks), ResidentLoader, dispatch)
    arguments: tuple[Any, ...] = (resident, rows, jnp.int32(dispatch))
    begin = time.perf_counter()
    function = jax.jit(function, donate_argnums=0, compiler_options=networks.compiler_options)
    program = function.lower(state, *arguments).compile()
    compiled = time.perf_counter() - begin
    state = jax.block_until_ready(program(jax.device_put(state), *arguments))[0]
    times = []
    calls = max(steps // dispatch, 1)
    for _ in range(3):
        begin = time.perf_counter()
        for _ in range(calls):
            state, metrics = program(state, *arguments)
        jax.block_until_ready((state, metrics))
        times.append((time.perf_counter() - begin) / (calls * dispatch))
    if trace:
        trace.mkdir(parents=True, exist_ok=True)
        (trace / "program.txt").write_text(program.as_text())
        with jax.profiler.trace(str(trace)):
            for _ in range(3):
                state, metrics = program(state, *arguments)
            jax.block_until_ready((state, metrics))
    memory = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
    return {
        "compile_s": compiled,
        "best_s": min(times),
        "mean_s": sum(times) / len(times),
        "bytes": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="40k", choices=PRESETS)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--dispatch", type=int, default=1)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument(
        "--kernels",
        nargs="*",
        default=[],
        help="kernel options that differ from those of this chip, as fold_to=64",
    )
    parser.add_argument("--trace", type=Path)
    options = parser.parse_args()
    preset = PRESETS[options.preset]
    preset = dataclasses.replace(
        preset, train=dataclasses.replace(preset.train, precision=options.precision)
    )
    chip = jax.devices()[0]
    kernels = with_fields(kernel_config_for(chip.platform, chip.device_kind), options.kernels)
    figures = measure(
        preset,
        options.batch,
        options.frames,
        options.steps,
        kernels,
        options.dispatch,
        options.trace,
    )
    print(
        f"{options.preset}, batch {options.batch}, {options.frames} frames, "
        f"{options.precision}, {chip.device_kind}, "
        f"{' '.join(options.kernels) or 'its own config'}, {options.dispatch} at once: "
        f"{1000 * figures['best_s']:.1f} ms a step (mean {1000 * figures['mean_s']:.1f}), "
        f"compiled in {figures['compile_s']:.0f} s, {figures['bytes'] / 1e9:.1f} GB"
    )


if __name__ == "__main__":
    main()
