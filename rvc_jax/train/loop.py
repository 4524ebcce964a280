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
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rvc_jax.checkpoint import Checkpoints
from rvc_jax.config import PRESETS, Preset, TrainConfig
from rvc_jax.data.dataset import DatasetInfo, VoiceDataset, load_dataset
from rvc_jax.data.remote import Location, is_remote
from rvc_jax.errors import UserError
from rvc_jax.runs import RunFolder
from rvc_jax.train.batches import Batches
from rvc_jax.train.budget import Budget, Meter, known_rate
from rvc_jax.train.dispatch import make_dispatch
from rvc_jax.train.evaluation import Evaluator
from rvc_jax.train.feed import CompactWindows, ResidentFeed, StreamingFeed, fits_on_device
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
    skipped: int = 0
    """Steps of this call that were left out, since their loss or gradient was not finite."""
    spent: str = ""
    """What of the budget is spent and left."""
    used_up: bool = False
    """The budget ended the run."""


_MOST_RETURNS = 2
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
        self.batches = Batches(len(data.train), recipe.batch_per_chip * jax.device_count(), recipe.seed)
        self.networks = build_networks(folder.preset, self.batches.steps_per_epoch)
        self.steps_per_dispatch = recipe.steps_per_dispatch or (1 if jax.default_backend() == "cpu" else 32)
        self.returns, self.failed_at, self.rate = 0, 0, 1.0
        self.meter = Meter(folder.path / "spent.json", _budget(recipe.budget))
        self.total_steps = recipe.epochs * self.batches.steps_per_epoch
        self.evaluator = Evaluator(self.networks, data.holdout) if len(data.holdout) else None
        self.checkpoints = Checkpoints(folder.checkpoints, recipe.keep_checkpoints)
        self.best = Checkpoints(folder.best, keep=1)

    def run(self) -> TrainResult:
        """Restore or start; then batch, step, metrics one step late, evaluate, save; finish."""
        state = self._restore()
        first = step = int(state.step)
        recorder = Recorder(self.folder.path, first)
        feed, dispatch = self._feed()
        used_up = self.meter.is_used_up(0.0)
        late = LateMetrics(recorder, self.folder.preset.train.log_every, self.batches.steps_per_epoch)
        clock = Clock()
        try:
            with Interrupt() as interrupt:
                if first == 0:
                    self._evaluate(0, state, recorder)
                while step < self.total_steps and not interrupt and not used_up:
                    count = min(self.steps_per_dispatch, self._next_event(step) - step)
                    state, metrics = dispatch(state, feed.held, feed(step, count), np.int32(count))
                    step += count
                    late.add(step, count, metrics)
                    clock.tick(count)
                    self.report(self._progress(step, clock, late.losses))
                    used_up = self.meter.is_used_up(count * clock.known_step_seconds)
                    last = step == self.total_steps or bool(interrupt) or used_up
                    if last or self._due(step, self.folder.preset.train.save_every):
                        late.flush()
                    if late.skipped_in_a_row >= self.folder.preset.train.skips_before_return:
                        state, step = self._returned(step, late, recorder)
                        continue
                    if last or self._due(step, self.folder.preset.train.evaluate_every):
                        with clock.paused():
                            self._evaluate(step, state, recorder)
                    if last or self._due(step, self.folder.preset.train.save_every):
                        self.checkpoints.save(step, state)
                        self.meter.save()
                    self.meter.pause(clock.last_pause)
                late.flush()
                self._finish(step, state)
        finally:
            feed.close()
            recorder.close()
            self.checkpoints.close()
            self.best.close()
            self.meter.save()
        return self._result(first, step, clock, late.skipped, used_up)

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

    def _feed(self) -> tuple[ResidentFeed | StreamingFeed, Any]:
        """What brings the windows, and the jitted function that trains on them."""
        windows = CompactWindows.of(self.data.train)
        held = self.folder.preset.train.data_on_device
        device = self.mesh.devices.flat[0]
        has_memory = device.platform != "cpu" and fits_on_device(windows, device)  # NumPy gathers faster than XLA there
        resident = has_memory if held == "auto" else held == "yes"
        kind = ResidentFeed if resident else StreamingFeed
        feed = kind(windows, self.batches, self.steps_per_dispatch, self.mesh)
        dispatch = make_dispatch(make_step(self.networks), feed, windows.scale, self.steps_per_dispatch)
        return feed, jax.jit(dispatch, donate_argnums=0)

    def _next_event(self, step: int) -> int:
        """The step at which something has to be done between steps: an evaluation, a checkpoint, the end."""
        recipe = self.folder.preset.train
        periods = [epochs * self.batches.steps_per_epoch for epochs in (recipe.evaluate_every, recipe.save_every)]
        return min(self.total_steps, *((step // period + 1) * period for period in periods))

    def _returned(self, step: int, late: LateMetrics, recorder: Recorder) -> tuple[TrainState, int]:
        """The last good state, with half the learning rate. Raises UserError when that has been tried twice."""
        cause = f"{late.skipped_in_a_row} steps up to {step} gave no finite loss and gradient ({late.last_bad})"
        if step > self.failed_at + self.batches.steps_per_epoch:  # the trouble before is over
            self.returns = 0
        if self.returns == _MOST_RETURNS:
            raise UserError(
                f"the run {self.folder.path} stops: {cause}, also at a quarter of the learning rate. The last good "
                "checkpoint stands; look for damaged speech with `rvc-jax audit`, or train with --precision float32"
            )
        self.returns, self.failed_at = self.returns + 1, step
        self.checkpoints.finish()
        state = self._restore()
        self.rate = 0.5 * min(self.rate, float(state.rate))
        state = dataclasses.replace(state, rate=jnp.full_like(state.rate, self.rate))
        late.forget()
        recorder.rewind(int(state.step))
        rate = self.rate * self.folder.preset.train.learning_rate
        self._say(int(state.step), f"{cause}: back to step {int(state.step)}, at a learning rate of about {rate:.1e}")
        return state, int(state.step)

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

    def _result(self, first: int, step: int, clock: Clock, skipped: int, used_up: bool) -> TrainResult:
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
            skipped=skipped,
            spent=self.meter.text(),
            used_up=used_up and step < self.total_steps,
        )


class LateMetrics:
    """Records metrics one dispatch after they were made: by then they are ready, and nothing waits for the device."""

    def __init__(self, recorder: Recorder, every: int, steps_per_epoch: int):
        self.losses: dict[str, float] = {}
        self.skipped = self.skipped_in_a_row = 0
        self.last_bad = ""
        self._recorder, self._every, self._steps_per_epoch = recorder, every, steps_per_epoch
        self._pending: tuple[int, int, Metrics] | None = None

    def add(self, step: int, count: int, metrics: Metrics) -> None:
        """Takes the metrics of the last `count` steps up to `step`, and waits for those of the dispatch before."""
        self.flush()
        self._pending = (step, count, metrics)

    def flush(self) -> None:
        if self._pending is None:
            return
        (last, count, metrics), self._pending = self._pending, None
        metrics = jax.device_get(metrics)
        for i in range(count):
            self._record(last - count + 1 + i, {name: float(values[i]) for name, values in metrics.items()})

    def forget(self) -> None:
        """What is not recorded yet belongs to steps that are taken back."""
        self._pending, self.skipped_in_a_row = None, 0

    def _record(self, step: int, values: dict[str, float]) -> None:
        if values.pop("skipped"):
            self.skipped += 1
            self.skipped_in_a_row += 1
            self.last_bad = ", ".join(name for name, value in values.items() if not math.isfinite(value))
            return
        self.skipped_in_a_row = 0
        if step == 1 or step % self._every == 0:
            self.losses = values
            self._recorder.scalars(step, {"epoch": step / self._steps_per_epoch} | values)


class Clock:
    """Seconds per step, without the first (which compiles) and without pauses."""

    def __init__(self) -> None:
        self._steps, self._seconds, self._last = 0, 0.0, None
        self.last_pause = 0.0

    def tick(self, steps: int) -> None:
        now = time.perf_counter()
        if self._last is not None:
            self._seconds += now - self._last
            self._steps += steps
        self._last = now

    @contextmanager
    def paused(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.last_pause = time.perf_counter() - begin
        if self._last is not None:
            self._last += self.last_pause

    @property
    def step_seconds(self) -> float:
        return self._seconds / self._steps if self._steps else math.nan

    @property
    def known_step_seconds(self) -> float:
        """0 while it is not known."""
        return 0.0 if math.isnan(self.step_seconds) else self.step_seconds


def _budget(text: str) -> Budget | None:
    return Budget.parse(text, known_rate(jax.devices()[0].device_kind), jax.device_count()) if text else None


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
    counts = ("epochs", "batch_per_chip", "evaluate_every", "save_every", "keep_checkpoints", "log_every")
    for name in (*counts, "skips_before_return"):
        if getattr(recipe, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(recipe, name)}")
    _budget(recipe.budget)
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
