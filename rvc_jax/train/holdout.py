"""The hold-out during a run: scored at an interval, recorded, and the best voice by it kept."""

from __future__ import annotations

import math
from collections.abc import Callable

from rvc_jax.data.dataset import VoiceDataset
from rvc_jax.runs import RunFolder
from rvc_jax.train.evaluation import Evaluator
from rvc_jax.train.recorder import Recorder
from rvc_jax.train.saving import Checkpoints
from rvc_jax.train.state import TrainState
from rvc_jax.train.step import Networks


class Holdout:
    """Scores voices, and keeps the best one in the run's folder; without a hold-out the newest is the best."""

    def __init__(
        self, folder: RunFolder, data: VoiceDataset, networks: Networks, say: Callable[[int, str, float | None], None]
    ):
        """say: is told (step, sentence, log-mel error) of every evaluation."""
        self._folder, self._windows, self._say = folder, data.holdout, say
        self._evaluator = Evaluator(networks, data.holdout) if len(data.holdout) else None
        self._best = Checkpoints(folder.best, keep=1, say=say)

    def evaluate(self, step: int, state: TrainState, recorder: Recorder) -> None:
        """Scores the voice of a step, and keeps it if it is the best so far."""
        if self._evaluator is None:
            self._best.save(step, {"generator": state.generator})
            return
        score = self._evaluator(state.generator)
        before = self.scores()
        recorder.scalars(step, {"holdout/mel": score.mel})
        recorder.speech(step, "voice", score.wave, self._folder.preset.audio)
        if not before:
            recorder.speech(step, "speech", self._windows.wave[0][: len(score.wave)], self._folder.preset.audio)
        if score.mel < min(before, default=math.inf):
            self._best.save(step, {"generator": state.generator})
        self._say(step, f"hold-out log-mel error {score.mel:.3f}", score.mel)

    def scores(self) -> list[float]:
        """Log-mel errors of all evaluations so far."""
        return [line["holdout/mel"] for line in self._folder.history() if "holdout/mel" in line]

    def finish(self) -> None:
        """Waits until the best voice is on disk."""
        self._best.finish()

    def close(self) -> None:
        self._best.close()
