"""A run's folder: what was asked for, what happened, and the voice that came of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from rvc_jax.config import Preset, from_dict, to_dict
from rvc_jax.data.dataset import DatasetInfo
from rvc_jax.errors import UserError
from rvc_jax.storage.files import write_array, write_json
from rvc_jax.storage.places import Location, is_remote
from rvc_jax.version import __version__

FORMAT = "rvc_jax run"


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """`config.json`, `checkpoints/`, `best/`, `history.jsonl`, `metrics/` (TensorBoard),
    `index.npy`, `report.html`."""

    path: Path
    preset: Preset
    dataset: DatasetInfo
    dataset_path: Location | None = None
    """Where the dataset was when the run was last trained."""
    devices: int = 1
    """Accelerators that the run was started on. A step has as many windows on any other number of
    them."""
    started_from: dict[str, str] = dataclasses.field(default_factory=dict)
    """Name and SHA-256 of the file that each network started from; nothing for one from scratch."""

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """Reads a run's description.

        Raises:
          UserError: if the folder is missing, holds something else, or its description is damaged.
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
            where = config.get("dataset_path")
            where = where if where is None or is_remote(where) else Path(where)
            return cls(
                path,
                preset,
                dataset,
                where,
                config.get("devices", 1),
                config.get("started_from", {}),
            )
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{file} is damaged, or from another version of rvc-jax: {error}"
            ) from None

    @classmethod
    def open_if_any(cls, path: Path) -> RunFolder | None:
        """`open`, or None if the folder holds no run yet."""
        return cls.open(path) if (path / "config.json").exists() else None

    def write(self, index: np.ndarray) -> None:
        """Keeps everything that is needed to repeat the run and to use its voice.

        index: content features of the training speech [rows, channels], for retrieval.

        Raises:
          UserError: if something else is in the folder.
        """
        is_run = (self.path / "config.json").exists()
        if (
            not is_run
            and self.path.exists()
            and (not self.path.is_dir() or any(self.path.iterdir()))
        ):
            raise UserError(
                f"{self.path} is not empty and holds no run of rvc-jax: name another folder with --run"
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
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        return self.path / "best"

    def history(self) -> list[dict[str, Any]]:
        """Everything recorded: training losses and `holdout/mel`, each with its `step`, oldest
        first."""
        try:
            lines = (self.path / "history.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def index(self) -> np.ndarray | None:
        """Content features of the training speech [rows, channels], float16; None if the run has
        none."""
        path = self.path / "index.npy"
        return np.load(path) if path.exists() else None

    def voice_folder(self, which: str = "best", step: int | None = None) -> Path:
        """The checkpoint of a voice: `best` by the hold-out, `latest`, or that of a step. Raises
        UserError."""
        from rvc_jax.runs import checkpoint

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
        """The synthesizer and its parameters: those of `voice_folder`.

        Raises:
          UserError: if nothing has been saved yet, or the checkpoint is damaged.
        """
        from rvc_jax.models.synthesizer import build_synthesizer
        from rvc_jax.runs import checkpoint

        folder = self.voice_folder(which, step)
        network = build_synthesizer(self.preset.generator, self.preset.audio)
        shapes = {name: np.zeros(shape, np.float32) for name, shape in network.shapes.items()}
        return network, checkpoint.read(folder, {"generator": shapes})["generator"]
