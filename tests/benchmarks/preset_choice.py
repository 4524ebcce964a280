"""Trains variants of the small presets from scratch for equal CPU time, and compares them.

    rvc-jax prepare SPEECH --out dataset --preset small
    python tests/benchmarks/preset_choice.py dataset --out choice --cpu-seconds 2400
    python tests/benchmarks/preset_choice.py --out choice --publish

Each variant takes as many steps as fit into the CPU time of all threads; compiling and evaluations
do not count. The table has the hold-out's log-mel error (1024 samples, 80 bands, the same for all)
of the raw or the averaged weights, whichever is lower, by CPU seconds. Finished variants are kept
in the folder and not trained again. --publish writes the table to docs/presets.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from page_table import write_table

from rvc_jax.config import PRESETS, Preset, SpectralGeneratorConfig
from rvc_jax.data.dataset import VoiceDataset, load_dataset
from rvc_jax.storage.environment import start_jax
from rvc_jax.storage.files import atomic_write
from rvc_jax.train import losses
from rvc_jax.train.evaluator import Evaluator
from rvc_jax.train.loader import BatchSampler, ResidentLoader, as_batch
from rvc_jax.train.networks import Networks, build_networks
from rvc_jax.train.segments import draw_segments
from rvc_jax.train.state import TrainState, create_state
from rvc_jax.train.step import Step, forward, make_step, update_generator

PAGE = Path(__file__).parents[2] / "docs" / "presets.md"
BEGIN = "<!-- preset_choice.py -->"
END = "<!-- end of preset_choice.py -->"
SMALL = PRESETS["small"]
RECIPE: dict[str, Any] = {
    "learning_rate": 1e-3,
    "learning_rate_decay": 1.0,
    "warmup_steps": 200,
    "clip_norm": 5.0,
    "ema": 0.999,
    "precision": "float32",
    "freeze": "",
}
"""Options of all variants, those of the base voice."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A preset, and for which share of the time it is trained by the mel loss alone."""

    preset: Preset
    alone: float = 0.0


def with_channels(channels: int) -> Preset:
    assert isinstance(SMALL.generator, SpectralGeneratorConfig)
    sizes = dataclasses.replace(SMALL.generator, channels=channels, step_channels=channels)
    return dataclasses.replace(SMALL, generator=sizes)


def with_segment(frames: int) -> Preset:
    audio = dataclasses.replace(SMALL.audio, segment_frames=frames)
    return dataclasses.replace(SMALL, audio=audio)


VARIANTS = {
    "nano": Variant(PRESETS["nano"]),
    "small": Variant(SMALL),
    "small, 128 channels": Variant(with_channels(128)),
    "small, 256 channels": Variant(with_channels(256)),
    "small, segments of 64 frames": Variant(with_segment(64)),
    "small, segments of 128 frames": Variant(with_segment(128)),
    "small, discriminators after half of the time": Variant(SMALL, alone=0.5),
}


def fit(preset: Preset, dataset: VoiceDataset) -> Preset:
    """The preset with the recipe, and room for the dataset's speakers."""
    info = dataset.info
    if preset.audio.sample_rate != info.sample_rate:
        raise SystemExit(f"the dataset has {info.sample_rate} Hz: prepare it with small")
    sizes = dataclasses.replace(
        preset.generator,
        content_channels=info.content_channels,
        speakers=max(preset.generator.speakers, len(info.speakers)),
    )
    train = dataclasses.replace(preset.train, **RECIPE)
    return dataclasses.replace(preset, generator=sizes, train=train)


def make_mel_step(networks: Networks) -> Step:
    """A step of the generator by the mel loss alone; the discriminators rest."""
    preset = networks.preset

    def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        segments, rng = draw_segments(preset, state.step, batch)
        rendered, pullback = forward(networks, state.generator.params, segments, rng)

        def loss(outputs: Any) -> jax.Array:
            wave, latents = outputs
            mel = losses.mel_loss(wave, rendered.target, preset.audio)
            total = preset.train.mel_weight * mel
            if latents is not None:
                total += preset.train.kl_weight * losses.kl_loss(latents)
            return total

        total, cotangents = jax.value_and_grad(loss)(rendered.outputs)
        (grads,) = pullback(cotangents)
        generator, average, metrics = update_generator(
            networks,
            state.generator,
            state.average,
            state.step,
            state.rate,
            {"loss/generator": total},
            grads,
        )
        new = TrainState(state.step + 1, state.rate, generator, state.discriminator, average)
        return new, metrics

    return step


class Trainer:
    """Takes steps, and counts the CPU seconds that they took."""

    def __init__(self, networks: Networks, dataset: VoiceDataset):
        recipe = networks.preset.train
        self.networks = networks
        self.cpu_seconds = 0.0
        self._sampler = BatchSampler(
            len(dataset.train), min(recipe.batch_per_chip, len(dataset.train)), recipe.seed
        )
        self._resident = jax.device_put(as_batch(dataset.train))
        self._programs: dict[bool, Callable[..., Any]] = {}
        self.state = create_state(
            networks.synthesizer.init(recipe.seed),
            networks.discriminator.init(recipe.seed),
            networks.optimizer,
            with_average=True,
        )

    def take_steps(self, until: float, alone: bool) -> None:
        """Train until the steps have taken so many CPU seconds."""
        program = self._compile(alone)
        while self.cpu_seconds < until:
            rows = self._rows(int(self.state.step))
            begin = time.process_time()
            self.state, metrics = program(self.state, self._resident, rows)
            jax.block_until_ready((self.state, metrics))
            self.cpu_seconds += time.process_time() - begin

    def _rows(self, step: int) -> jax.Array:
        return jnp.asarray(self._sampler.rows_for_steps(step, 1))

    def _compile(self, alone: bool) -> Callable[..., Any]:
        if alone not in self._programs:
            step = make_mel_step(self.networks) if alone else make_step(self.networks)

            def one_step(state: TrainState, resident: Any, rows: jax.Array) -> Any:
                return step(state, ResidentLoader.take(resident, rows, jnp.int32(0)))

            compiled = jax.jit(
                one_step, donate_argnums=0, compiler_options=self.networks.compiler_options
            )
            arguments = (self.state, self._resident, self._rows(0))
            self._programs[alone] = compiled.lower(*arguments).compile()
        return self._programs[alone]


def train(variant: Variant, dataset: VoiceDataset, ends: list[float]) -> Iterator[dict]:
    """Yields the errors at each of the ends, in CPU seconds."""
    preset = fit(variant.preset, dataset)
    networks = build_networks(preset, math.ceil(len(dataset.train) / 8))
    trainer = Trainer(networks, dataset)
    evaluator = Evaluator(networks, dataset.holdout)
    count = sum(math.prod(shape) for shape in networks.synthesizer.shapes.values())
    for end in ends:
        alone_until = min(end, variant.alone * ends[-1])
        if trainer.cpu_seconds < alone_until:
            trainer.take_steps(alone_until, alone=True)
        trainer.take_steps(end, alone=False)
        average = trainer.state.average
        assert average is not None
        steps = int(trainer.state.step)
        yield {
            "parameters": count,
            "cpu_seconds": trainer.cpu_seconds,
            "steps": steps,
            "raw": evaluator(trainer.state.generator.params).mel,
            "averaged": evaluator(average).mel,
        }


def render_table(results: dict[str, list[dict[str, float]]], ends: list[float]) -> str:
    columns = [f"{end:.0f} s" for end in ends]
    lines = [
        f"| variant | parameters | steps | CPU time of a step | {' | '.join(columns)} |",
        "|---" * (len(ends) + 4) + "|",
    ]
    for name, rows in results.items():
        last = rows[-1]
        errors = [f"{min(row['raw'], row['averaged']):.3f}" for row in rows]
        seconds = last["cpu_seconds"] / last["steps"]
        cells = [name, f"{last['parameters'] / 1e6:.1f} M", f"{last['steps']:,}"]
        lines.append(f"| {' | '.join([*cells, f'{seconds:.2f} s', *errors])} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", nargs="?", help="prepared for small or nano")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--cpu-seconds", type=float, default=2400.0, help="for each variant")
    parser.add_argument("--evaluations", type=int, default=4, help="evenly over this time")
    parser.add_argument("--variant", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--publish", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "results.json"
    kept = json.loads(file.read_text()) if file.exists() else {"ends": [], "variants": {}}
    if not options.publish:
        start_jax()
        count = options.evaluations
        ends = [options.cpu_seconds * (number + 1) / count for number in range(count)]
        if kept["ends"] not in ([], ends):
            raise SystemExit(f"{file} has other times: name another folder with --out")
        kept["ends"] = ends
        dataset = load_dataset(options.dataset)
        for name in options.variant:
            if name in kept["variants"]:
                continue
            rows = []
            for row in train(VARIANTS[name], dataset, ends):
                rows.append(row)
                print(name, json.dumps(row), flush=True)
            kept["variants"][name] = rows
            with atomic_write(file) as out:
                out.write(json.dumps(kept, indent=1).encode())
    ordered = {name: kept["variants"][name] for name in VARIANTS if name in kept["variants"]}
    table = render_table(ordered, kept["ends"])
    print(table)
    if options.publish:
        write_table(PAGE, BEGIN, END, table)


if __name__ == "__main__":
    main()
