"""The hold-out during a run: measured at an interval, recorded, the best voice by it kept, and its
course watched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rvc_jax.data.dataset import VoiceDataset
from rvc_jax.errors import UserError
from rvc_jax.metrics.holdout import format_metrics
from rvc_jax.metrics.speaker import INSTALL_HINT
from rvc_jax.runs import learning_curve
from rvc_jax.runs.folder import RunFolder
from rvc_jax.train.checkpointing import CheckpointManager
from rvc_jax.train.disk_quota import DiskQuota
from rvc_jax.train.evaluator import Evaluator
from rvc_jax.train.metric_writer import MetricWriter
from rvc_jax.train.state import TrainState
from rvc_jax.train.step import Networks


class Validator:
    """Measures voices, and keeps the best one in the run's folder; without a hold-out the newest is
    the best."""

    def __init__(
        self,
        folder: RunFolder,
        data: VoiceDataset,
        networks: Networks,
        say: Callable[[int, str, float | None], None],
        space: DiskQuota | None = None,
    ):
        """say: is told (step, sentence, log-mel error) of every evaluation, and (step, sentence,
        None) of warnings.

        space: the room that there is for the run.

        Raises:
          UserError: if the best voice is to be found by a figure that cannot be had.
        """
        self._folder = folder
        self._windows = data.holdout
        self._say = say
        self._evaluator = Evaluator(networks, data.holdout) if len(data.holdout) else None
        self._recipe = folder.preset.train
        if (
            self._recipe.best_by == "similarity"
            and self._evaluator
            and not self._evaluator.has_similarity
        ):
            raise UserError(f"--best-by similarity needs a model of speakers: {INSTALL_HINT}")
        self._best = CheckpointManager(folder.best, keep=1, say=say, space=space)
        self._stopped: str | None = None
        self.newest: float | None = None
        """Log-mel error of the last evaluation of this command."""

    def evaluate(self, step: int, state: TrainState, recorder: MetricWriter) -> None:
        """Measures the voice of a step and that of the averaged weights; keeps the better one if it
        is the best yet."""
        if self._evaluator is None:
            self._best.save(step, {"generator": state.generator.params})
            return
        voices = {"raw": state.generator.params}
        if state.average is not None and step > 0:  # before the first step they are the same
            voices["ema"] = state.average
        measured = {which: self._evaluator(parameters) for which, parameters in voices.items()}
        before = self._folder.history()
        line: dict[str, Any] = {
            f"{learning_curve.PREFIXES[which]}/{name}": value
            for which, score in measured.items()
            for name, value in score.figures.items()
        }
        which, value = learning_curve.better_voice(line, self._recipe.best_by)
        best = learning_curve.best_evaluation(before)
        is_best = (
            best is None or value < learning_curve.better_voice(best, self._recipe.best_by)[1]
        )
        if is_best:
            line["best/which"] = which
        recorder.scalars(step, line)
        recorder.speech(step, "voice", measured[which].wave, self._folder.preset.audio)
        if best is None:
            length = len(measured[which].wave)
            recorder.speech(
                step, "speech", self._windows.samples(0)[:length], self._folder.preset.audio
            )
        if is_best:
            self._best.save(step, {"generator": voices[which]})
        self._tell(step, measured[which].figures, which, before)

    def _tell(
        self, step: int, figures: dict[str, float], which: str, before: list[dict[str, Any]]
    ) -> None:
        """Says what was measured, and what has become clear by it."""
        self.newest = figures["mel"]
        averaged = " (averaged weights)" if which == "ema" else ""
        self._say(step, f"hold-out: {format_metrics(figures)}{averaged}", figures["mel"])
        if not learning_curve.evaluations(before) and "similarity" not in figures:
            self._say(step, f"speaker similarity is not measured; {INSTALL_HINT}", None)
        history = self._folder.history()
        warning = learning_curve.overfitting_warning(history, self._recipe.best_by)
        if warning and not learning_curve.overfitting_warning(before, self._recipe.best_by):
            self._say(step, warning, None)
        self._stopped = learning_curve.early_stop_reason(history, self._recipe)

    @property
    def stopped(self) -> str:
        """Why the run ends before its last step, if it does, in words."""
        if self._stopped is None:
            self._stopped = learning_curve.early_stop_reason(
                self._folder.history(), self._recipe
            )
        return self._stopped

    def errors(self) -> tuple[float | None, float | None]:
        """Log-mel errors of the first evaluation and of the best voice."""
        lines = learning_curve.evaluations(self._folder.history())
        return (
            (
                lines[0]["holdout/mel"],
                learning_curve.best_mel(learning_curve.best_evaluation(lines)),
            )
            if lines
            else (None, None)
        )

    def outlook(self) -> list[str]:
        """What there is to say of the run's course."""
        return learning_curve.summary(self._folder.history(), self._recipe)

    def finish(self) -> None:
        """Waits until the best voice is on disk."""
        self._best.finish()

    def close(self) -> None:
        self._best.close()
