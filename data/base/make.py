"""Make the dataset of the base voice: packages, recordings, shards, data card.

    python -m data.base.make --packages PACKAGES --work WORK [--clips CLIPS]

PACKAGES is filled first. WORK/recordings gets one folder for every speaker, WORK/dataset the
shards, WORK/data_card.md and .json what is in them. CLIPS are those of `synthesize.py`; whole
groups of them are used as far as they are there. The same command goes on where it was stopped.
With more clips it makes the dataset anew; features of older recordings come from the cache.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import soundfile

from data.base.card import Row, write_card
from data.base.packages import fetch_files
from data.base.recipe import Recipe, SyntheticVoice, read_recipe
from data.base.recordings import join_source, read_clips, write_recordings

CLIPS_PER_RECORDING = 2
HOLDOUT_SECONDS = "180"


def make_recordings(recipe: Recipe, packages: Path, work: Path) -> list[Row]:
    """Write the recordings of all real sources; those of an earlier call are kept."""
    rows = []
    for source in recipe.sources:
        listing = work / "listing" / f"{source.name}.json"
        if not listing.exists():
            counts = join_source(recipe, packages, source, work / "recordings")
            write_json(listing, counts)
        counts = json.loads(listing.read_text())
        rows.append(
            Row(
                source=source.name,
                speaker=source.speaker,
                sex=source.sex,
                language=source.language,
                seconds=counts["seconds"],
                license=source.license,
                copyright=source.copyright,
                is_synthetic=False,
            )
        )
        print(f"{source.name}: {counts['seconds'] / 60:.1f} min", flush=True)
    return rows


def join_clips(recipe: Recipe, clips: Path, work: Path) -> list[Row]:
    """Join whole groups of synthesized clips to recordings; return those that are there."""
    rows = []
    for voice in recipe.voices:
        seconds = sum(
            _join_group(voice, clips, work, group)
            for group in range(recipe.count_clips(voice) // CLIPS_PER_RECORDING)
        )
        if seconds:
            rows.append(
                Row(
                    source="kokoro",
                    speaker=voice.name,
                    sex=voice.sex,
                    language=voice.language,
                    seconds=seconds,
                    license=recipe.synthesis["license"],
                    copyright=recipe.synthesis["copyright"],
                    is_synthetic=True,
                )
            )
    return rows


def _join_group(voice: SyntheticVoice, clips: Path, work: Path, group: int) -> float:
    """Join one group of clips, if it is complete; return its seconds."""
    stem = work / "recordings" / voice.name / f"kokoro-{group:02d}"
    target = Path(f"{stem}-00.flac")
    if not target.exists():
        first = group * CLIPS_PER_RECORDING
        names = [
            clips / voice.name / f"{first + k:04d}.flac" for k in range(CLIPS_PER_RECORDING)
        ]
        good = [name for name in names if name.exists()]
        if not all(name in good or name.with_suffix(".rejected").exists() for name in names):
            return 0.0
        if not good:
            return 0.0
        # One file for one group: what is there is whole.
        write_recordings(read_clips(good), stem, seconds_per_recording=float("inf"))
    return soundfile.info(target).duration


def make_dataset(work: Path, preset: str) -> Path:
    """Prepare the recordings; a dataset of the same recordings is kept.

    Raises:
      subprocess.CalledProcessError: `rvc-jax prepare` failed, and said why.
    """
    out = work / f"dataset-{preset}"
    marker = work / "listing" / f"dataset-{preset}.json"
    recordings = sorted((work / "recordings").glob("*/*.flac"))
    state = {"recordings": hash_listing(recordings, work)}
    if out.exists() and marker.exists() and json.loads(marker.read_text()) == state:
        return out
    command = [sys.executable, "-m", "rvc_jax", "prepare", work / "recordings"]
    command += ["--out", out, "--preset", preset, "--cache", work / "features", "--overwrite"]
    subprocess.run([*command, "--holdout-max", HOLDOUT_SECONDS], check=True)
    write_json(marker, state)
    return out


def hash_listing(paths: list[Path], root: Path) -> str:
    """Return a hash of the files' names and sizes."""
    lines = [f"{path.relative_to(root)} {path.stat().st_size}\n" for path in paths]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_json(path: Path, data: Any) -> None:
    """Write a file of JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False))
    temporary.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--clips", type=Path, help="folder of the synthesized clips")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--recordings-only", action="store_true", help="make no dataset")
    options = parser.parse_args()
    recipe = read_recipe()
    fetch_files(recipe.packages.values(), options.packages)
    rows = make_recordings(recipe, options.packages, options.work)
    if options.clips:
        rows += join_clips(recipe, options.clips, options.work)
    write_json(options.work / "data_card.json", [dataclasses.asdict(row) for row in rows])
    write_card(recipe, rows, options.work / "data_card.md")
    if not options.recordings_only:
        print(make_dataset(options.work, options.preset))


if __name__ == "__main__":
    main()
