"""Steps 4 and 5 of the notebook: estimate what the training takes, train, and show curves."""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rvc_jax.config import Rate
from rvc_jax.formatting import format_duration
from rvc_jax.notebook import estimate
from rvc_jax.notebook.page import frame, show_text
from rvc_jax.notebook.program import NotebookError
from rvc_jax.notebook.progress import Progress
from rvc_jax.notebook.session import step
from rvc_jax.notebook.trained_voice import TrainedVoiceSteps
from rvc_jax.train.budget import Budget


class TrainingSteps(TrainedVoiceSteps):
    """The cells of steps 4 and 5. A training can end with the steps after it."""

    @step
    def estimate(self, epochs: int, measure: bool = True) -> None:
        """Step 4: estimate time and units of the training."""
        dataset = self._prepared()
        steps = estimate.count_steps(
            dataset["train_slices"], epochs, dataset["preset"], self.devices.count
        )
        plan = estimate.find_plan(self.accelerator.name, self.devices.count, dataset["preset"])
        if plan is not None:
            step_seconds = plan["step_ms"] / 1000
            source = self.texts("estimated_by_plan")
        elif (known := self._measured(dataset["preset"], measure)) is not None:
            step_seconds = known
            source = self.texts(
                "estimated_by_steps", steps=estimate.MEASURED_STEPS[self.accelerator.kind]
            )
        else:
            show_text(self.texts("unknown"), "notice")
            return
        seconds = steps * step_seconds
        show_text(
            self.texts(
                "estimate",
                epochs=epochs,
                steps=steps,
                milliseconds=1000 * step_seconds,
                minutes=format_duration(seconds),
                units=self._units(seconds),
            ),
            "good",
        )
        show_text(source)
        if plan is not None:
            self._show_compilation(plan["compile_s"])
        if done := self.voice.beat.get("step"):
            show_text(self.texts("steps_done", done=done))

    def _show_compilation(self, seconds: float) -> None:
        folder = self.voice.compiled
        if folder.is_dir() and any(folder.iterdir()):
            show_text(self.texts("compiled_before"))
        else:
            show_text(
                self.texts(
                    "compile", minutes=format_duration(seconds), units=self._units(seconds)
                )
            )

    def _units(self, seconds: float) -> str:
        if not self._units_per_hour:
            return ""
        return self.texts("units", units=seconds / 3600 * self._units_per_hour)

    def _measured(self, preset: str, measure: bool) -> float | None:
        """Return the seconds per step on this chip, from the notes or measured; None if unknown."""
        what = f"{self.devices} {preset}"
        measured = self.voice.state.get("measured", {})
        if what not in measured and measure:
            show_text(self.texts("measuring"))
            with tempfile.TemporaryDirectory() as folder:
                trained = self.program.run(
                    "train",
                    self.voice.dataset,
                    "--run",
                    Path(folder) / "run",
                    "--steps",
                    estimate.MEASURED_STEPS[self.accelerator.kind],
                    "--pretrained",
                    "none",
                    "--progress",
                    "json",
                    on_event=Progress(self.texts),
                )
            if trained["steps_per_second"]:
                measured = {**measured, what: 1 / trained["steps_per_second"]}
                self.voice.note(measured=measured)
        return measured.get(what)

    @step
    def tensorboard(self) -> None:
        """Step 5, curves: show TensorBoard, which follows the training."""
        try:
            if importlib.util.find_spec("tensorboard") is None:
                subprocess.run(
                    [sys.executable, "-m", "pip", "install", "--quiet", "tensorboard"],
                    check=True,
                )
                importlib.invalidate_caches()
            from tensorboard import (  # pyright: ignore[reportMissingImports] installed above
                notebook,
            )

            folder = self.voice.run / "metrics"
            notebook.start(f"--logdir {shlex.quote(str(folder))} --reload_interval 15")
        except NotebookError:
            raise
        except Exception as error:  # training works without its curves
            show_text(self.texts("no_tensorboard", reason=error), "notice")

    @step
    def train(
        self,
        epochs: int,
        budget: str = "",
        save_every: int = 50,
        release: bool = False,
        delay_minutes: float = 0,
    ) -> None:
        """Step 5: start or continue the run; with `release`, then export the voice and end the
        runtime."""
        voice = self.voice
        dataset = self._prepared()
        spend = ["--budget", self._budget(budget)] if budget.strip() else []
        show_text(self.texts("training"))
        progress = Progress(self.texts, self._units_per_hour)
        trained = self.program.run(
            "train",
            voice.dataset,
            "--run",
            voice.run,
            "--preset",
            dataset["preset"],
            "--epochs",
            epochs,
            "--save-every",
            save_every,
            *spend,
            "--progress",
            "json",
            on_event=progress,
            on_interrupt=progress.show_saving,
        )
        stopped = trained["interrupted"] and not trained["used_up"]
        ending = "used_up" if trained["used_up"] else "interrupted" if stopped else "trained"
        show_text(self.texts(ending, steps=trained["steps"]), "notice" if stopped else "good")
        self._show_training(trained)
        if release and stopped:
            show_text(self.texts("kept"), "notice")
        elif release:
            self.export(download=False)
            self.release(True, delay_minutes)

    def _budget(self, written: str) -> str:
        """Return the budget for the command; units become time if the user has stated another
        rate."""
        rate = self.accelerator.rate
        if self._has_stated_rate and self._units_per_hour is not None:
            rate = Rate(self._units_per_hour, 0.0)
        budget = Budget.parse(written, rate, 1)
        return (
            f"{budget.seconds / 60:.2f}min"
            if self._has_stated_rate and budget.unit == "unit"
            else written.strip()
        )

    def _show_training(self, trained: dict[str, Any]) -> None:
        if trained["holdout_before"] is not None and trained["holdout_after"] is not None:
            show_text(
                self.texts(
                    "better", before=trained["holdout_before"], after=trained["holdout_after"]
                )
            )
        for sentence in trained["outlook"]:
            show_text(sentence)
        report = self.voice.run / "report.html"
        if report.exists():
            show_text(self.texts("listen"))
            frame(report)
            show_text(self.texts("page", file=report))
        if self.voice.on_drive:
            show_text(self.texts("bin"))
