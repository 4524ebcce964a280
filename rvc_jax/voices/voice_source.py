"""A voice to be written somewhere, wherever it comes from: a run, or a file of any tool."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.errors import UserError, sanitize
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.history import steps_per_epoch
from rvc_jax.runs.mirror import VOICE_FOLDERS, fetch_run
from rvc_jax.storage.files import WINDOWS_RESERVED_NAME
from rvc_jax.storage.places import Location, is_remote
from rvc_jax.voices.model import VoiceModel

_LONGEST_NAME = 100
_CHECKPOINT = re.compile(r"[GD]_\d+.*", re.DOTALL)
_FORBIDDEN = re.compile(r'[\\/:*?"<>|]')


@dataclasses.dataclass(frozen=True)
class VoiceSource:
    """A voice, and what belongs to it."""

    model: VoiceModel
    """Its facts have name, and where they are known epoch, step, dataset_length and author."""
    rows: np.ndarray | None
    """Content features of its training speech [rows, channels]; None if it has none."""
    run: RunFolder | None = None
    """The run that it is of."""


def open_source(
    place: Location, which: str = "best", step: int | None = None, with_training: bool = False
) -> VoiceSource:
    """The voice of a run's folder or URL, or of a file, archive or folder that `opened.open_voice`
    opens.

    which: `best` or `latest`, or the checkpoint of a step; of runs only. with_training: the newest
    checkpoint of a run is needed as well.

    Raises:
      UserError: there is no voice, or it is damaged.
    """
    if is_remote(place) or (Path(place) / "config.json").is_file():
        every = step is not None or with_training
        wanted = ("best", "checkpoints") if every else (VOICE_FOLDERS[which],)
        run = RunFolder.open(fetch_run(place, "history.jsonl", "index.npy", *wanted))
        return _of_run(run, name_of_run(place), which, step)
    if step is not None:
        raise UserError(
            f"{place} is no run: only a run has checkpoints to choose from by their step"
        )
    if not Path(place).exists():
        raise UserError(f"there is neither a run nor a voice at {place}")
    from rvc_jax.voices.open import open_voice

    found = open_voice(Path(place))
    path = Path(place).absolute()
    # The name of a training checkpoint is no voice's; it lies in the folder of its experiment.
    name = path.parent.name if _CHECKPOINT.fullmatch(path.stem) else path.stem
    return VoiceSource(named(found.model, name), found.index)


def named(model: VoiceModel, otherwise: str) -> VoiceModel:
    """A voice with a name that files can have: its own, made usable, or another one if it has
    none."""
    own = str(model.facts.get("name") or "")
    name = to_usable_name(otherwise if not own or _CHECKPOINT.fullmatch(own) else own)
    return dataclasses.replace(model, facts=dict(model.facts) | {"name": name})


def name_of_run(place: Location) -> str:
    """A run's name: that of its folder."""
    last = str(place).rstrip("/") if is_remote(place) else str(Path(place).absolute())
    return to_usable_name(re.split(r"[\\/]", last)[-1])


def to_usable_name(text: str) -> str:
    """A text in letters, digits, `-`, `.` and `_` that any system and any tool takes as a file's
    name."""
    text = re.sub(r"[^\w.-]+", "_", text).strip("._-")[:_LONGEST_NAME]
    return (
        f"voice_{text}"
        if not text or WINDOWS_RESERVED_NAME.fullmatch(text) or _CHECKPOINT.fullmatch(text)
        else text
    )


def check_name(name: str) -> None:
    """Raises UserError unless a voice's name can be that of files, on every system."""
    if (
        not name
        or name != name.strip(" .")
        or not name.isprintable()
        or _FORBIDDEN.search(name)
    ):
        raise UserError(
            f"--name {sanitize(name)!r} can't be the name of a file: use letters, digits, spaces, '-', '_' and '.'"
        )
    if _CHECKPOINT.fullmatch(name):
        raise UserError(
            f"--name {sanitize(name)!r} is how training checkpoints are called: take another"
        )
    if len(name.encode()) > _LONGEST_NAME or WINDOWS_RESERVED_NAME.fullmatch(name):
        raise UserError(
            f"--name {sanitize(name)!r} is too long, or Windows keeps it for itself: take another"
        )


def epochs_of(run: RunFolder, step: int) -> int:
    """Return the epochs that a run has done by a step; 0 if its history doesn't say how long one is."""
    per_epoch = steps_per_epoch(run.history())
    return round(step / per_epoch) if per_epoch else 0


def _of_run(run: RunFolder, name: str, which: str, step: int | None) -> VoiceSource:
    step = int(run.voice_folder(which, step).name)
    facts: dict[str, Any] = {
        "name": name,
        "epoch": epochs_of(run, step),
        "step": step,
        "dataset_length": clock(run.dataset.speech_minutes),
    }
    model = VoiceModel.from_run(run, which, step)
    return VoiceSource(dataclasses.replace(model, facts=facts), run.index(), run)


def clock(minutes: float) -> str:
    """Minutes as HH:MM:SS."""
    seconds = round(60 * minutes)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
