"""What minutes of training and minutes of speech give, from the base voice of small.

    rvc-jax download resemblyzer && pip install -e ".[eval]"
    python -m tests.benchmarks.minutes_of_training --out minutes [--callie FOLDER]

Every cell is a voice: a target, minutes of its speech, minutes of training. The runs of 1, 3, 10
and 30 minutes on the same speech are one run that is continued. Each voice converts the sentences
of first_voice.py, without those of its target. A cell that has its JSON file in OUT is not made
again: after a stop, the same command goes on. At the end, or with --table at any time, it prints
the table as Markdown.

Run it on a machine that does nothing else: the training is limited by the clock. The step is
compiled before, as for everyone who has trained a voice once.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.base.packages import (
    fetch_files,
    hash_file,
    list_package_members,
    read_package_members,
)
from data.base.recordings import decode, read_clips, write_recordings
from rvc_jax.audio.reading import find_audio
from rvc_jax.config import ConvertConfig
from rvc_jax.data.dataset import read_info
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.infer.voice import Voice
from rvc_jax.runs.folder import RunFolder
from rvc_jax.storage.environment import start_jax
from rvc_jax.weights import bundled
from tests.benchmarks import first_voice

SETTINGS = Path(__file__).with_suffix(".toml")
PRESET = "small"
REFERENCE_SECONDS = 120.0
"""Speech of the target that the similarity is measured with."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A voice to train."""

    name: str
    without: list[str]
    """Speakers whose sentences are not converted to it."""
    package: str = ""
    """Package of its recordings; empty: a folder."""
    files: str = ""
    """Regular expression for their paths in the package."""
    exclude: str = "(?!)"
    """Regular expression for those to leave out."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A voice of the table."""

    target: str
    speech: float
    """Minutes of recordings, at most."""
    training: float
    """Minutes."""

    @property
    def folder(self) -> Path:
        """Folder of its dataset and its run, in OUT; cells that differ in training share it."""
        return Path(self.target) / f"{self.speech:g}-of-speech"

    @property
    def file(self) -> Path:
        """Its figures, in OUT."""
        return self.folder / f"{self.training:g}-of-training.json"


def read_speech(
    target: Target, file: Path | None, folder: Path, seed: int, backwards: bool = False
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield samples and sample rate of a target's recordings, in an order drawn by the seed.

    file: its package; without one, the recordings are in the folder. backwards: the last ones
    first.
    """
    step = -1 if backwards else 1
    order = random.Random(f"{seed} {target.name}")
    if file is None:
        paths = sorted(find_audio(folder))
        order.shuffle(paths)
        yield from read_clips(paths[::step])
        return
    names = [
        name
        for name in list_package_members(file)
        if re.fullmatch(target.files, name) and not re.search(target.exclude, name)
    ]
    order.shuffle(names)
    contents = read_package_members(file, set(names))
    for name in names[::step]:
        yield decode(contents[name], Path(name).suffix)


def run_program(*arguments: Any) -> None:
    """Run `rvc-jax`. Raises subprocess.CalledProcessError if it fails."""
    subprocess.run([sys.executable, "-m", "rvc_jax", *map(str, arguments)], check=True)


def make_dataset(waves: Iterator[tuple[np.ndarray, int]], minutes: float, folder: Path) -> None:
    """Prepare the first minutes of recordings, unless it is done.

    They are written as files of about a quarter of a minute: the hold-out of one minute must not
    be all of it.
    """
    if (folder / "dataset").exists():
        return
    write_recordings(waves, folder / "speech" / "part", 60 * minutes, 15)
    run_program("prepare", folder / "speech", "--out", folder / "dataset", "--preset", PRESET)


def warm_up(dataset: Path, run: Path) -> None:
    """Compile the step once: later runs of all datasets find it in the cache."""
    if not run.exists():
        run_program("train", dataset, "--run", run, "--steps", 1)


def measure_cell(cell: Cell, out: Path, sources: Path, target: Path) -> dict[str, Any]:
    """Train a cell's voice to its time and measure it."""
    folder = out / cell.folder
    run_program(
        "train", folder / "dataset", "--run", folder / "run", "--minutes", cell.training
    )
    run = RunFolder.open(folder / "run")
    converted = folder / f"{cell.training:g}-of-training"
    first_voice.convert_sentences(
        Voice.load(run.path),
        sorted(sources.rglob("*.wav")),
        sources,
        converted,
        ConvertConfig(auto_transpose=True),
    )
    measured = first_voice.measure_sentences(converted, sources, target)
    everything = [item for items in measured.values() for item in items]
    history = run.history()
    base = bundled.find_base(PRESET, "generator")
    return {
        "target": cell.target,
        "speech_minutes": run.dataset.speech_minutes,
        "training_minutes": cell.training,
        "steps": max(line["step"] for line in history),
        "holdout_of_the_base": next(
            line["holdout/mel"] for line in history if "holdout/mel" in line
        ),
        "holdout": first_voice.holdout_error(run.path),
        "base_sha256": hash_file(base) if base else None,
        "medians": first_voice.summarize(everything),
        "conversions": first_voice.describe_conversions(everything),
    }


def format_table(figures: Sequence[Mapping[str, Any]]) -> str:
    """The cells as a Markdown table."""
    lines = [
        "| voice | speech | training | steps | word error rate | similarity (source's) | hold-out "
        "error (base's) |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in figures:
        medians = cell["medians"]
        words = medians.get("word_error_rate")
        similarity = medians.get("similarity")
        cells = [
            cell["target"],
            f"{cell['speech_minutes']:.1f} min",
            f"{cell['training_minutes']:g} min",
            str(cell["steps"]),
            "-" if words is None else f"{words:.2f}",
            "-"
            if similarity is None
            else f"{similarity:.2f} ({medians['source_similarity']:.2f})",
            f"{cell['holdout']:.3f} ({cell['holdout_of_the_base']:.3f})",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def read_cells(out: Path, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The figures of all cells that are made."""
    files = [out / cell.file for cell in cells]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def write_atomically(file: Path, figures: Mapping[str, Any]) -> None:
    temporary = file.with_suffix(".partial")
    temporary.write_text(json.dumps(figures, indent=1, ensure_ascii=False))
    temporary.rename(file)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--packages", type=Path, default=Path("first_voice_packages"))
    parser.add_argument("--callie", type=Path, help="more recordings of the bundled voice")
    parser.add_argument("--targets", nargs="*", default=["callie", "june"])
    parser.add_argument("--speech", nargs="*", type=float, default=[1, 3, 10])
    parser.add_argument("--training", nargs="*", type=float, default=[1, 3, 10, 30])
    parser.add_argument(
        "--sentences", type=int, help="convert this many of every speaker alone"
    )
    parser.add_argument("--table", action="store_true", help="print what is there")
    options = parser.parse_args()
    settings = tomllib.loads(SETTINGS.read_text())
    targets = [Target(**item) for item in settings["target"] if item["name"] in options.targets]
    cells = [
        Cell(target.name, speech, training)
        for target in targets
        for speech in sorted(options.speech)
        for training in sorted(options.training)
    ]
    if not options.table:
        start_jax()
        make_cells(options, settings["seed"], targets, cells)
    print(format_table(read_cells(options.out, cells)))


def make_cells(
    options: argparse.Namespace, seed: int, targets: Sequence[Target], cells: Sequence[Cell]
) -> None:
    """Make the cells that are missing, and write each as soon as it is measured."""
    settings, packages = first_voice.read_settings()
    fetch_files(packages.values(), options.packages)
    first_voice.install_recognizer(settings, packages, options.packages)
    for target in targets:
        sources = options.out / target.name / "sources"
        written = first_voice.write_sources(
            settings, packages, options.packages, set(target.without), sources
        )
        keep_some(list(written), options.sentences)
        package = packages.get(target.package)
        file = options.packages / package.file if package else None
        folder = options.callie or find_bundled_sample("voice")
        # Of other sentences than those trained on, where there are that many.
        reference = options.out / target.name / "reference"
        last = read_speech(target, file, folder, seed, backwards=True)
        write_recordings(last, reference / "part", REFERENCE_SECONDS)
        for cell in cells:
            if cell.target != target.name or (options.out / cell.file).exists():
                continue
            waves = read_speech(target, file, folder, seed)
            make_dataset(waves, cell.speech, options.out / cell.folder)
            warm_up(options.out / cell.folder / "dataset", options.out / "warm_up")
            figures = measure_cell(cell, options.out, sources, reference)
            write_atomically(options.out / cell.file, figures)
            minutes = read_info(options.out / cell.folder / "dataset").speech_minutes
            print(f"{cell.file}: {minutes:.1f} minutes of speech, {figures['medians']}")


def keep_some(sources: Sequence[Path], count: int | None) -> None:
    """Remove all sentences of a speaker but the first ones."""
    seen: dict[str, int] = {}
    for path in sources:
        speaker = path.name.partition("-")[0]
        seen[speaker] = seen.get(speaker, 0) + 1
        if count is not None and seen[speaker] > count:
            path.unlink()


if __name__ == "__main__":
    main()
