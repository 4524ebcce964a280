"""A training run from its first step, or its last checkpoint, to its end."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rvc_jax.checkpoint import Checkpoints
from rvc_jax.config import PRESETS, Preset, TrainConfig
from rvc_jax.data.dataset import DatasetInfo, VoiceDataset, load_dataset
from rvc_jax.data.remote import Location, is_remote
from rvc_jax.errors import UserError
from rvc_jax.runs import RunFolder
from rvc_jax.train.batches import Batches
from rvc_jax.train.evaluation import Evaluator
from rvc_jax.train.interrupt import Interrupt
from rvc_jax.train.recorder import Recorder
from rvc_jax.train.state import TrainState, fresh_state, state_shapes
from rvc_jax.train.step import Metrics, build_networks, make_step


@dataclasses.dataclass(frozen=True)
class TrainProgress:
    """Where a run is; times in seconds, NaN while they are not known."""

    step: int
    total_steps: int
    epoch: int
    epochs: int
    step_seconds: float
    seconds_left: float
    losses: dict[str, float]
    holdout: float | None
    message: str | None = None


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a call of `train` did. Hold-out errors are None where the dataset has no hold-out."""

    run: Path
    steps: int
    epochs: int
    resumed_from: int
    steps_per_second: float | None
    """None if too few steps were taken to tell."""
    holdout_before: float | None
    holdout_after: float | None
    """Of the best voice."""
    interrupted: bool


Report = Callable[[TrainProgress], None]


def train(
    dataset: Location,
    run: Path,
    preset: Preset | None = None,
    overrides: dict[str, Any] | None = None,
    report: Report = lambda progress: None,
) -> TrainResult:
    """Trains a voice on a prepared dataset, or continues the run that the folder holds.

    preset: the voice format, the dataset's own by default. overrides: fields of TrainConfig that differ from the
    preset's (or, when continuing, from the run's). Ctrl-C saves and ends.

    Raises:
      UserError: if dataset and run don't fit together, the run is damaged, or the disk is full.
    """
    data = load_dataset(dataset)
    settings = _settings(run, data, preset, overrides or {})
    folder = RunFolder(run, settings, data.info, dataset if is_remote(dataset) else Path(dataset).absolute())
    folder.write(_index_rows(data))
    return Trainer(folder, data, report).run()


class Trainer:
    """One run in progress."""

    def __init__(self, folder: RunFolder, data: VoiceDataset, report: Report):
        recipe = folder.preset.train
        self.folder, self.data, self.report = folder, data, report
        self.mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
        self.batches = Batches(data.train, recipe.batch_per_chip * jax.device_count(), recipe.seed)
        self.networks = build_networks(folder.preset, self.batches.steps_per_epoch)
        self.total_steps = recipe.epochs * self.batches.steps_per_epoch
        self.evaluator = Evaluator(self.networks, data.holdout) if len(data.holdout) else None
        self.checkpoints = Checkpoints(folder.checkpoints, recipe.keep_checkpoints)
        self.best = Checkpoints(folder.best, keep=1)

    def run(self) -> TrainResult:
        """Restore or start; then batch, step, metrics one step late, evaluate, save; finish."""
        state = self._restore()
        first = step = int(state.step)
        recorder = Recorder(self.folder.path, first)
        train_step = jax.jit(make_step(self.networks), donate_argnums=0)
        late = LateMetrics(recorder, self.folder.preset.train.log_every, self.batches.steps_per_epoch)
        clock = Clock()
        try:
            with Interrupt() as interrupt:
                if first == 0:
                    self._evaluate(0, state, recorder)
                while step < self.total_steps and not interrupt:
                    batch = self._place(self.batches(step))
                    state, metrics = train_step(state, batch)
                    step += 1
                    late.add(step, metrics)
                    clock.tick()
                    self.report(self._progress(step, clock, late.losses))
                    last = step == self.total_steps or bool(interrupt)
                    if last or self._due(step, self.folder.preset.train.evaluate_every):
                        with clock.paused():
                            self._evaluate(step, state, recorder)
                    if last or self._due(step, self.folder.preset.train.save_every):
                        self.checkpoints.save(step, state)
                late.flush()
                self._finish(step, state)
        finally:
            recorder.close()
            self.checkpoints.close()
            self.best.close()
        return self._result(first, step, clock)

    def _restore(self) -> TrainState:
        networks, everywhere = self.networks, NamedSharding(self.mesh, PartitionSpec())
        parts = (networks.synthesizer, networks.discriminator, networks.optimizer)
        restored = self.checkpoints.restore(state_shapes(*parts, everywhere))
        if restored is None:
            return jax.device_put(fresh_state(*parts, self.folder.preset.train.seed), everywhere)
        state, damages = restored
        for damage in damages:
            self._say(int(state.step), f"{damage}; continuing from step {int(state.step)}")
        return state

    def _place(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        return jax.device_put(batch, NamedSharding(self.mesh, PartitionSpec("data")))

    def _due(self, step: int, epochs: int) -> bool:
        return step % (epochs * self.batches.steps_per_epoch) == 0

    def _evaluate(self, step: int, state: TrainState, recorder: Recorder) -> None:
        """Scores the voice on the hold-out, and keeps it if it is the best so far; without a hold-out the newest is."""
        if self.evaluator is None:
            self.best.save(step, {"generator": state.generator})
            return
        score = self.evaluator(state.generator)
        before = self._holdout_scores()
        recorder.scalars(step, {"holdout/mel": score.mel})
        recorder.speech(step, "voice", score.wave, self.folder.preset.audio)
        if not before:
            target = self.data.holdout.wave[0][: len(score.wave)]
            recorder.speech(step, "speech", target, self.folder.preset.audio)
        if score.mel < min(before, default=math.inf):
            self.best.save(step, {"generator": state.generator})
        self._say(step, f"hold-out log-mel error {score.mel:.3f}", score.mel)

    def _finish(self, step: int, state: TrainState) -> None:
        self.checkpoints.save(step, state)
        self.checkpoints.finish()
        self.best.finish()

    def _holdout_scores(self) -> list[float]:
        return [line["holdout/mel"] for line in self.folder.history() if "holdout/mel" in line]

    def _say(self, step: int, message: str, holdout: float | None = None) -> None:
        epoch = step // self.batches.steps_per_epoch
        epochs = self.folder.preset.train.epochs
        nan = math.nan
        self.report(TrainProgress(step, self.total_steps, epoch, epochs, nan, nan, {}, holdout, message))

    def _progress(self, step: int, clock: Clock, losses: dict[str, float]) -> TrainProgress:
        epoch = math.ceil(step / self.batches.steps_per_epoch)
        left = clock.step_seconds * (self.total_steps - step)
        epochs = self.folder.preset.train.epochs
        return TrainProgress(step, self.total_steps, epoch, epochs, clock.step_seconds, left, losses, None)

    def _result(self, first: int, step: int, clock: Clock) -> TrainResult:
        scores = self._holdout_scores()
        return TrainResult(
            run=self.folder.path,
            steps=step,
            epochs=step // self.batches.steps_per_epoch,
            resumed_from=first,
            steps_per_second=None if math.isnan(clock.step_seconds) else 1 / clock.step_seconds,
            holdout_before=scores[0] if scores else None,
            holdout_after=min(scores) if scores else None,
            interrupted=step < self.total_steps,
        )


class LateMetrics:
    """Records metrics one step after they were made: by then they are ready, and nothing waits for the device."""

    def __init__(self, recorder: Recorder, every: int, steps_per_epoch: int):
        self.losses: dict[str, float] = {}
        self._recorder, self._every, self._steps_per_epoch = recorder, every, steps_per_epoch
        self._pending: tuple[int, Metrics] | None = None

    def add(self, step: int, metrics: Metrics) -> None:
        """Takes the metrics of a step, and waits for those of the step before: one step is always queued."""
        self.flush()
        self._pending = (step, metrics)

    def flush(self) -> None:
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        jax.block_until_ready(metrics)
        if step == 1 or step % self._every == 0:
            self.losses = {name: float(value) for name, value in jax.device_get(metrics).items()}
            self._recorder.scalars(step, {"epoch": step / self._steps_per_epoch} | self.losses)


class Clock:
    """Seconds per step, without the first (which compiles) and without pauses."""

    def __init__(self) -> None:
        self._steps, self._seconds, self._last = 0, 0.0, None

    def tick(self) -> None:
        now = time.perf_counter()
        if self._last is not None:
            self._seconds += now - self._last
            self._steps += 1
        self._last = now

    @contextmanager
    def paused(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        if self._last is not None:
            self._last += time.perf_counter() - begin

    @property
    def step_seconds(self) -> float:
        return self._seconds / self._steps if self._steps else math.nan


def _settings(path: Path, data: VoiceDataset, preset: Preset | None, overrides: dict[str, Any]) -> Preset:
    """What to train: as the run in the folder was started, checked against the dataset, or a new run's preset."""
    if not (path / "config.json").exists():
        settings = _fit_preset(preset or PRESETS[data.info.preset], data.info)
    else:
        run = RunFolder.open(path)
        settings = run.preset
        _check_same(path, "preset", settings.name, (preset or settings).name)
        _check_same(path, "sample rate", settings.audio.sample_rate, data.info.sample_rate)
        _check_same(path, "content encoder", run.dataset.content_encoder, data.info.content_encoder)
        _check_same(
            path, "content encoder of hash", run.dataset.content_fingerprint[:8], data.info.content_fingerprint[:8]
        )
        if len(data.info.speakers) > 1 or len(run.dataset.speakers) > 1:
            _check_same(path, "speakers", ", ".join(run.dataset.speakers), ", ".join(data.info.speakers))
    settings = dataclasses.replace(settings, train=dataclasses.replace(settings.train, **overrides))
    _check_recipe(settings.train)
    return settings


def _check_recipe(recipe: TrainConfig) -> None:
    for name in ("epochs", "batch_per_chip", "evaluate_every", "save_every", "keep_checkpoints", "log_every"):
        if getattr(recipe, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(recipe, name)}")
    if recipe.learning_rate <= 0:
        raise UserError(f"--learning-rate must be above 0, not {recipe.learning_rate}")


def _check_same(path: Path, what: str, of_run: object, of_dataset: object) -> None:
    if of_run != of_dataset:
        raise UserError(
            f"the run {path} was started with {what} {of_run}, this is {of_dataset}: "
            "train into another run folder, or prepare the speech again to fit"
        )


def _fit_preset(preset: Preset, info: DatasetInfo) -> Preset:
    """The preset with the dataset's content width and room for its speakers."""
    if preset.audio.sample_rate != info.sample_rate:
        raise UserError(
            f"the preset {preset.name} is for {preset.audio.sample_rate} Hz, the dataset was prepared for "
            f"{info.sample_rate} Hz: prepare it again with --preset {preset.name}, or train with --preset {info.preset}"
        )
    if preset.version != PRESETS[info.preset].version and not info.content_encoder.startswith("whisper-"):
        raise UserError(
            f"the preset {preset.name} is RVC {preset.version}, the dataset has the content features of {info.preset}: "
            f"prepare it again with --preset {preset.name}"
        )
    generator = dataclasses.replace(
        preset.generator,
        content_channels=info.content_channels,
        speakers=max(preset.generator.speakers, len(info.speakers)),
    )
    return dataclasses.replace(preset, generator=generator)


def _index_rows(data: VoiceDataset) -> np.ndarray:
    """Content features of the training windows without their padding [rows, channels]."""
    windows = data.train
    return np.concatenate([windows.content[i, : n // 2] for i, n in enumerate(windows.lengths)])
