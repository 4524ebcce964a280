"""From sources to the weights of the base voice: speech, training, files of the package.

    python -m data.base.train --packages PACKAGES --work WORK --clips CLIPS [--steps N] [--publish]

WORK/dataset-PRESET is made first, if it is not there (see `make.py`). WORK/run is trained on it
with the options of recipe.toml, and goes on where it was stopped. --publish writes the best voice
so far, with its curve and its model card, to rvc_jax/weights/bundled; --figures adds those of
tests/benchmarks/first_voice.py to the card.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.base.card import Row, describe
from data.base.make import make_dataset, write_json
from data.base.recipe import Recipe, read_recipe
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.history import best_evaluation, best_mel
from rvc_jax.storage.files import atomic_write
from rvc_jax.train.pretrained import SPEAKERS
from rvc_jax.voices.export_writer import read_training_state
from rvc_jax.voices.model import VoiceModel
from rvc_jax.weights import bundled, safetensors_file

CARD = Path(__file__).with_name("model_card.md")
"""Text of the model card, with names in braces for what differs."""


def train(recipe: Recipe, dataset: Path, run: Path, limits: Sequence[str]) -> None:
    """Train, or go on; `limits` are further options, such as --steps.

    Raises:
      subprocess.CalledProcessError: `rvc-jax train` failed, and said why.
    """
    command: list[Any] = [sys.executable, "-m", "rvc_jax", "train", dataset, "--run", run]
    for name, value in recipe.training.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    subprocess.run([*command, *limits], check=True)


def publish(
    recipe: Recipe, work: Path, out: Path, machine: str, figures: Mapping[str, Any]
) -> list[Path]:
    """Write both networks in float16, the curve of the hold-out and the model card; return them.

    The generator is the best voice by the hold-out. Its table of speakers becomes one row, their
    mean, from which a new speaker starts.
    """
    run = RunFolder.open(work / "run")
    name = recipe.training["preset"]
    voice = VoiceModel.from_run(run)
    generator = dict(voice.weights)
    generator[SPEAKERS] = generator[SPEAKERS].mean(axis=0, keepdims=True)
    step, _, _, (_, discriminator) = read_training_state(run)
    paths = []
    for network, weights in zip(bundled.NETWORKS, (generator, discriminator), strict=True):
        halves = {key: np.asarray(value, np.float16) for key, value in weights.items()}
        path = out / bundled.name_base(name, network)
        safetensors_file.write(path, halves)
        paths.append(path)
    curve_file = out / f"base_{name}_curve.json"
    write_json(curve_file, read_curve(run.history()))
    card = out / f"base_{name}.md"
    rows = [Row(**row) for row in json.loads((work / "data_card.json").read_text())]
    text = describe_base(recipe, run, rows, step, machine, figures)
    with atomic_write(card) as file:
        file.write(text.encode())
    return [*paths, curve_file, card]


def read_curve(history: Any) -> list[dict[str, float]]:
    """Return the hold-out's log-mel error by step: of the averaged weights and of the raw ones."""
    names = {"holdout_ema/mel": "averaged", "holdout/mel": "raw"}
    return [
        {"step": line["step"]}
        | {short: round(line[name], 4) for name, short in names.items() if name in line}
        for line in history
        if "holdout/mel" in line
    ]


def describe_base(
    recipe: Recipe,
    run: RunFolder,
    rows: Sequence[Row],
    step: int,
    machine: str,
    figures: Mapping[str, Any],
) -> str:
    """Return the model card as Markdown.

    step: the last one. machine: what it was trained on. figures: medians of first_voice.py.
    """
    best = best_evaluation(run.history())
    assert best is not None
    options = ", ".join(
        f"{key} {value}" for key, value in recipe.training.items() if value != ""
    )
    table = "\n".join(f"| {key} | {value:.3f} |" for key, value in figures.items())
    speech = describe(recipe, rows).replace("# Speech of the base voice\n\n", "", 1)
    return CARD.read_text().format(
        preset=recipe.training["preset"],
        best_step=best["step"],
        step=step,
        error=best_mel(best),
        machine=machine,
        options=options,
        figures=table,
        speech=speech.replace("\n## ", "\n### "),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--clips", type=Path, help="folder of the synthesized clips")
    parser.add_argument("--steps", help="end after this many steps")
    parser.add_argument(
        "--publish", action="store_true", help="write the files, train no further"
    )
    parser.add_argument("--machine", default="2 CPU cores", help="trained on, for the card")
    parser.add_argument("--figures", type=Path, help="figures.json of first_voice.py")
    options = parser.parse_args()
    recipe = read_recipe()
    if options.publish:
        found = json.loads(options.figures.read_text()) if options.figures else {}
        medians = next(iter(found["medians"].values())) if found else {}
        for path in publish(recipe, options.work, bundled.FOLDER, options.machine, medians):
            print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)")
        return
    limits = ["--steps", options.steps] if options.steps else []
    dataset = make_dataset(options.work, recipe.training["preset"])
    train(recipe, dataset, options.work / "run", limits)


if __name__ == "__main__":
    main()
