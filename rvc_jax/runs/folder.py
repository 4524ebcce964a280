"""A run's folder: its settings, what happened, and its voices."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.config import Preset, from_dict, to_dict
from rvc_jax.data.dataset import DatasetInfo
from rvc_jax.errors import UserError
from rvc_jax.runs.history import FILE as HISTORY_FILE
from rvc_jax.runs.history import Line, read_history, select_datasets, select_present
from rvc_jax.storage.files import LOCK_NAME, is_vacant, write_array, write_json
from rvc_jax.storage.places import Location, is_remote
from rvc_jax.version import __version__

FORMAT = "rvc_jax run"


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
            config = json.loads(file.read_text())
        except FileNotFoundError:
            raise UserError(f"{path} is not a run of rvc-jax: it has no config.json") from None
        except ValueError:
            raise UserError(f"{file} is damaged: it is not JSON") from None
        if not isinstance(config, dict) or config.get("format") != FORMAT:
            raise UserError(
                f"{path} is not a run of rvc-jax: its config.json is another program's"
            )
        try:
            preset = from_dict(Preset, config["preset"])
            dataset = DatasetInfo.from_dict(config["dataset"])
            place = config.get("dataset_path")
            if place is not None and not is_remote(place):
                place = Path(place)
            return cls(
                path,
                preset,
                dataset,
                place,
                config.get("devices", 1),
                config.get("started_from", {}),
            )
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{file} is damaged, or from another version of rvc-jax: {error}"
            ) from None

    @classmethod
    def open_if_any(cls, path: Path) -> RunFolder | None:
        """Read a run's `config.json`; None if the folder does not have one yet."""
        return cls.open(path) if (path / "config.json").exists() else None

    def write(self, index: np.ndarray) -> None:
        """Write everything that is needed to repeat the run and to use its voice.

        Args:
            index: Content features of the training speech [rows, channels], for retrieval.

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
        write_array(self.path / "index.npy", index.astype(np.float16))

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

    def datasets(self) -> list[Line]:
        """Read since which steps the run has been trained on which datasets, oldest first."""
        return select_datasets(self.history(whole=True))

    def index(self) -> np.ndarray | None:
        """Read the content features of the training speech; None if the run has none.

        Returns:
            float16 [rows, channels].
        """
        path = self.path / "index.npy"
        return np.load(path) if path.exists() else None

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
        network = build_synthesizer(self.preset.generator, self.preset.audio)
        shapes = {name: np.zeros(shape, np.float32) for name, shape in network.shapes.items()}
        return network, checkpoint.read(folder, {"generator": shapes})["generator"]
