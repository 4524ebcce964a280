"""The hold-out during a run: measured at intervals, recorded, and used to choose the best voice."""

from __future__ import annotations

from typing import Any

from rvc_jax.data.dataset import VoiceDataset
from rvc_jax.errors import UserError
from rvc_jax.metrics.holdout import format_metrics
from rvc_jax.metrics.speaker import INSTALL_HINT
from rvc_jax.models.parameters import Parameters
from rvc_jax.reporter import Reporter
from rvc_jax.runs import learning_curve
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.history import (
    PREFIXES,
    History,
    best_evaluation,
    best_mel,
    choose_better_voice,
    select_evaluations,
)
from rvc_jax.train.checkpointing import CheckpointManager
from rvc_jax.train.disk_quota import DiskQuota
from rvc_jax.train.evaluator import Evaluator
from rvc_jax.train.metric_writer import MetricWriter
from rvc_jax.train.networks import Networks


class Validator:
    """Measures voices on the hold-out and saves the best one in the run's folder.

    Without a hold-out, the newest voice is the best.
    """

    def __init__(
        self,
        folder: RunFolder,
        data: VoiceDataset,
        networks: Networks,
        history: History,
        reporter: Reporter,
        quota: DiskQuota | None = None,
    ):
        """Compile nothing yet; measure the speech of the hold-out itself.

        Args:
            folder: The run.
            data: The dataset with the hold-out.
            networks: The run's networks.
            history: What the run has recorded. Evaluations are looked up here, so that a full disk
                changes no decision.
            reporter: Receives every evaluation and warning.
            quota: Limit of the run folder's size.

        Raises:
            UserError: The best voice is chosen by a metric that can't be measured here.
        """
        self._audio = folder.preset.audio
        self._recipe = folder.preset.train
        self._windows = data.holdout
        self._history = history
        self._reporter = reporter
        self._evaluator = Evaluator(networks, data.holdout) if len(data.holdout) else None
        by_similarity = self._recipe.best_by == "similarity"
        if by_similarity and self._evaluator and not self._evaluator.has_similarity:
            raise UserError(f"--best-by similarity needs a model of speakers: {INSTALL_HINT}")
        self._best = CheckpointManager(folder.best, keep=1, reporter=reporter, quota=quota)
        self.newest: float | None = None
        """Log-mel error of the last evaluation in this process; None before the first."""

    def evaluate(
        self,
        step: int,
        generator: Parameters,
        average: Parameters | None,
        writer: MetricWriter,
    ) -> None:
        """Measure the voice of a step, record it, and save it if it is the best so far.

        Args:
            step: The step.
            generator: The generator's parameters.
            average: Their moving average; None if there is none. The better of both counts.
            writer: Records the metrics and the rendered speech.
        """
        if self._evaluator is None:
            self._best.save(step, {"generator": generator})
            return
        voices = {"raw": generator}
        if average is not None and step > 0:  # before the first step they are equal
            voices["ema"] = average
        scores = {which: self._evaluator(parameters) for which, parameters in voices.items()}
        line: dict[str, Any] = {
            f"{PREFIXES[which]}/{name}": value
            for which, score in scores.items()
            for name, value in score.metrics.items()
        }
        by = self._recipe.best_by
        which, value = choose_better_voice(line, by)
        before = list(self._history.lines)
        best = best_evaluation(before)
        is_best = best is None or value < choose_better_voice(best, by)[1]
        if is_best:
            line["best/which"] = which
        writer.write_scalars(step, line)
        writer.write_speech(step, "voice", scores[which].wave, self._audio)
        if best is None:  # the target, once, to compare with
            target = self._windows.samples(0)[: len(scores[which].wave)]
            writer.write_speech(step, "speech", target, self._audio)
        if is_best:
            # The best voice on another dataset may be of the same step.
            is_first = best is None
            self._best.save(step, {"generator": voices[which]}, replace=is_first)
        self.newest = scores[which].mel
        averaged = " (averaged weights)" if which == "ema" else ""
        self._say(step, f"hold-out: {format_metrics(scores[which].metrics)}{averaged}")
        if not select_evaluations(before) and "similarity" not in scores[which].metrics:
            self._say(step, f"speaker similarity is not measured; {INSTALL_HINT}")
        warning = learning_curve.detect_overfitting(self._history.lines, by)
        if warning and not learning_curve.detect_overfitting(before, by):  # say it once
            self._say(step, warning)

    def _say(self, step: int, text: str) -> None:
        self._reporter.message(f"step {step}: {text}")

    @property
    def lacks_baseline(self) -> bool:
        """Whether the present dataset has a hold-out on which nothing has been measured yet."""
        return self._evaluator is not None and not select_evaluations(self._history.lines)

    @property
    def stop_reason(self) -> str:
        """Why the run should end before its last step; empty if it should not."""
        return learning_curve.find_stop_reason(self._history.lines, self._recipe)

    @property
    def errors(self) -> tuple[float | None, float | None]:
        """Log-mel errors of the first evaluation and of the best voice; None without
        evaluations."""
        lines = select_evaluations(self._history.lines)
        best = best_evaluation(lines)
        if best is None:
            return None, None
        return lines[0]["holdout/mel"], best_mel(best)

    @property
    def outlook(self) -> tuple[str, ...]:
        """What the course of the hold-out says, in sentences."""
        return tuple(learning_curve.summary(self._history.lines, self._recipe))

    def finish(self) -> None:
        """Wait until the best voice is on disk. Raises UserError if it doesn't fit."""
        self._best.finish()

    def close(self) -> None:
        """End the saving thread."""
        self._best.close()
