"""A run's folder: its settings, what happened, and its voices."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.config import Preset, to_dict
from rvc_jax.data.dataset import DatasetInfo
from rvc_jax.errors import UserError, sanitize
from rvc_jax.runs.history import FILE as HISTORY_FILE
from rvc_jax.runs.history import Line, read_history, select_datasets, select_present
from rvc_jax.runs.settings import FORMAT, parse_settings
from rvc_jax.storage.arrays import read_npy
from rvc_jax.storage.files import LOCK_NAME, is_vacant, write_array, write_json
from rvc_jax.storage.places import Location, find_bucket, is_remote
from rvc_jax.storage.plain_files import read_plain
from rvc_jax.version import __version__

_INDEX = "index.npy"


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder of a run, and what its `config.json` says.

    It has `config.json`, `checkpoints/`, `best/`, `history.jsonl`, `metrics/` (TensorBoard),
    `index.npy`, `spent.json`, `heartbeat.json` and `report.html`.
    """

    path: Path
    preset: Preset
    """The preset, with everything that was changed of it."""
    dataset: DatasetInfo
    dataset_path: Location | None = None
    """Where the dataset was when the run was last trained."""
    devices: int = 1
    """Accelerators that the run was started on: they set the batch size, also on fewer or more."""
    started_from: dict[str, str] = dataclasses.field(default_factory=dict)
    """Name and SHA-256 of the file that each network started from; empty if from scratch."""

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """Read a run's `config.json`.

        Raises:
            UserError: The folder is missing or holds something else, or the file is damaged.
        """
        path = Path(path)
        file = path / "config.json"
        if not path.is_dir():
            raise UserError(f"there is no run folder at {path}")
        try:
            content = read_plain(file)
        except FileNotFoundError:
            raise UserError(f"{path} is not a run of rvc-jax: it has no config.json") from None
        settings = parse_settings(content, file)
        place = settings.dataset_path
        return cls(
            path,
            settings.preset,
            settings.dataset,
            place if place is None or is_remote(place) else Path(place),
            settings.devices,
            settings.started_from,
        )

    @classmethod
    def open_if_any(cls, path: Path) -> RunFolder | None:
        """Read a run's `config.json`; None if the folder does not have one yet."""
        return cls.open(path) if (path / "config.json").exists() else None

    def write(self) -> None:
        """Write everything that is needed to repeat the run. The index of another dataset is
        removed.

        Raises:
            UserError: The folder holds something else.
        """
        is_run = (self.path / "config.json").exists()
        if not is_run and not is_vacant(self.path, besides=LOCK_NAME):
            raise UserError(
                f"{self.path} is not empty and holds no run of rvc-jax: name another folder with "
                "--run"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        before = RunFolder.open_if_any(self.path)
        if before and before.dataset.fingerprint != self.dataset.fingerprint:
            # Before the new settings are written, so that they never stand beside the old index.
            (self.path / _INDEX).unlink(missing_ok=True)
        config = {
            "format": FORMAT,
            "version": __version__,
            "preset": to_dict(self.preset),
            "dataset": self.dataset.to_dict(),
            "dataset_path": str(self.dataset_path) if self.dataset_path else None,
            "devices": self.devices,
            "started_from": self.started_from,
        }
        write_json(self.path / "config.json", config)

    @property
    def has_index(self) -> bool:
        """Whether the index has been made."""
        return (self.path / _INDEX).exists()

    def write_index(self, index: np.ndarray) -> None:
        """Write the index.

        Args:
            index: Content features of the training speech [rows, channels], for retrieval.
        """
        write_array(self.path / _INDEX, index.astype(np.float16, copy=False))

    def find_dataset(self, named: Location | None, run: Location) -> Location:
        """Return where to read the run's dataset.

        A URL that only `config.json` names is used if the run itself is in that bucket. Else
        the maker of the run would decide which addresses this machine contacts.

        Args:
            named: The dataset that the user named, if any.
            run: The folder or URL of the run, as the user named it.

        Raises:
            UserError: The user has to name the dataset.
        """
        if named is not None:
            return named
        place = self.dataset_path
        if place is None:
            raise UserError(f"{run} does not say where its dataset is: name it with --dataset")
        if is_remote(place) and not _is_in_bucket_of(place, run):
            raise UserError(
                f"the dataset of {run} is at {sanitize(place)}, which only its config.json says: "
                "if you trust it, name it with --dataset"
            )
        return place

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """Folder of the best voice."""
        return self.path / "best"

    def history(self, whole: bool = False) -> list[Line]:
        """Read what the run has recorded (`runs.history`), oldest first.

        Args:
            whole: Also what was recorded before the present dataset.
        """
        lines = read_history(self.path / HISTORY_FILE)
        return list(lines) if whole else select_present(lines)

    def describe_damage(self) -> str:
        """Return what to say about lines of the history that can't be read; empty without any."""
        return read_history(self.path / HISTORY_FILE).describe_unreadable()

    def datasets(self) -> list[Line]:
        """Read since which steps the run has been trained on which datasets, oldest first."""
        return select_datasets(self.history(whole=True))

    def index(self) -> np.ndarray | None:
        """Read the content features of the training speech; None if the run has none.

        Returns:
            float16 [rows, channels].
        """
        path = self.path / _INDEX
        try:
            return check_rows(read_npy(path), path)
        except FileNotFoundError:
            return None

    def voice_folder(self, which: str = "best", step: int | None = None) -> Path:
        """Return the folder of a voice's checkpoint.

        Args:
            which: "best" by the hold-out, or "latest".
            step: The checkpoint of this step instead.

        Raises:
            UserError: There is no such checkpoint.
        """
        from rvc_jax.runs import checkpoint  # imports Orbax, which takes seconds

        if step is not None:
            saved = {
                number: folder
                for folder in (self.best, self.checkpoints)
                for number in checkpoint.list_steps(folder)
            }
            if step not in saved:
                there = ", ".join(map(str, sorted(saved))) or "none"
                raise UserError(
                    f"the run {self.path} has no checkpoint of step {step}; it has {there}"
                )
            return saved[step] / str(step)
        folder = checkpoint.find_newest(self.best if which == "best" else self.checkpoints)
        if folder is None:
            raise UserError(f"the run {self.path} holds no {which} voice yet: train it first")
        return folder

    def load_generator(
        self, which: str = "best", step: int | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Read the synthesizer and its parameters from the checkpoint of `voice_folder`.

        Raises:
            UserError: Nothing has been saved yet, or the checkpoint is damaged.
        """
        from rvc_jax.models.synthesizer import build_synthesizer
        from rvc_jax.runs import checkpoint

        folder = self.voice_folder(which, step)
        try:
            network = build_synthesizer(self.preset.generator, self.preset.audio)
        except Exception as error:  # networks of impossible sizes fail in many ways
            raise UserError(
                f"{self.path / 'config.json'} is damaged: its networks can't be built: "
                f"{sanitize(error)}"
            ) from error
        # Without memory for their values: the shapes may be those of a damaged config.json.
        zero = np.zeros((), np.float32)
        shapes = {name: np.broadcast_to(zero, shape) for name, shape in network.shapes.items()}
        return network, checkpoint.read(folder, {"generator": shapes})["generator"]


def _is_in_bucket_of(place: Location, run: Location) -> bool:
    try:
        return is_remote(run) and find_bucket(place) == find_bucket(run)
    except UserError:  # no URL of a bucket
        return False


def check_rows(rows: np.ndarray, path: Path) -> np.ndarray:
    """Check that an array can be an index: floats [rows, channels], at least one row.

    Raises:
        UserError: It is something else.
    """
    if rows.ndim != 2 or rows.dtype.kind != "f" or not all(rows.shape):
        raise UserError(f"{path} is damaged: it holds {rows.dtype} {list(rows.shape)}")
    return rows
