"""A training run from its first step, or its last checkpoint, to its end."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, SingleDeviceSharding

from rvc_jax.config import Preset, from_dict, to_dict
from rvc_jax.data.dataset import VoiceDataset, load_dataset
from rvc_jax.errors import UserError
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.heartbeat import HeartbeatWriter
from rvc_jax.runs.progress import Report, StepTimer, TrainProgress, TrainResult
from rvc_jax.storage.places import Location, is_remote
from rvc_jax.train import distributed
from rvc_jax.train.budget import BudgetMeter
from rvc_jax.train.checkpointing import CheckpointManager
from rvc_jax.train.disk_quota import DiskQuota
from rvc_jax.train.dispatch import compile_dispatch
from rvc_jax.train.late_metrics import DelayedMetrics
from rvc_jax.train.loader import (
    BatchSampler,
    Loader,
    ResidentLoader,
    StreamingLoader,
    fits_on_device,
)
from rvc_jax.train.metric_writer import MetricWriter
from rvc_jax.train.pretrained import hash_pretrained_files, load_initial_parameters
from rvc_jax.train.resume import (
    describe_changes,
    parse_budget,
    resolve_device_count,
    resolve_settings,
)
from rvc_jax.train.optimizer import scale_learning_rate
from rvc_jax.train.signals import StopSignal
from rvc_jax.train.state import (
    DEFAULTS_FOR_OLD_CHECKPOINTS,
    TrainState,
    abstract_state,
    create_state,
    from_saved_tree,
    to_saved_tree,
)
from rvc_jax.train.step import build_networks
from rvc_jax.train.validation import Validator

_MAX_ROLLBACKS = 2


def train(
    dataset: Location,
    run: Path,
    preset: Preset | None = None,
    overrides: dict[str, Any] | None = None,
    report: Report = lambda progress: None,
) -> TrainResult:
    """Trains a voice on a prepared dataset, or continues the run that the folder holds.

    preset: the voice format, the dataset's own by default. overrides: fields of TrainConfig that
    differ from the preset's (or, when continuing, from the run's). Ctrl-C saves and ends.

    Of several processes (`distributed.join`) the first one writes and reports; every one needs the
    dataset.

    Raises:
      UserError: if dataset and run don't fit together, the run is damaged, or the disk is full.
    """
    data = distributed.run_in_all(lambda: load_dataset(dataset))
    place = dataset if is_remote(dataset) else Path(dataset).absolute()

    def prepared() -> dict[str, Any]:
        settings = resolve_settings(run, data, preset, overrides or {})
        notes = describe_changes(run, settings, data)
        devices = resolve_device_count(run, settings)
        before = RunFolder.open_if_any(run)
        started_from = (
            hash_pretrained_files(settings) if before is None else before.started_from
        )
        RunFolder(run, settings, data.info, place, devices, started_from).write(
            _collect_index_rows(data)
        )
        return {
            "preset": to_dict(settings),
            "devices": devices,
            "notes": notes,
            "data": data.info.fingerprint,
        }

    agreed = distributed.broadcast_from_first(prepared)
    folder = RunFolder(
        run, from_dict(Preset, agreed["preset"]), data.info, place, agreed["devices"]
    )

    def check_same() -> None:
        if agreed["data"] != data.info.fingerprint:
            raise UserError(
                f"the dataset {dataset} is not the same on every machine: copy it from the first one"
            )

    distributed.run_in_all(check_same)
    if distributed.is_first():
        with HeartbeatWriter(run, report) as heartbeat:
            result = Trainer(folder, data, heartbeat.listen, agreed["notes"]).run()
            heartbeat.ended(result)
        return result
    with (
        tempfile.TemporaryDirectory() as scratch
    ):  # what the other processes write is for nobody
        return Trainer(
            dataclasses.replace(folder, path=Path(scratch)), data, lambda progress: None, []
        ).run()


class Trainer:
    """One run in progress."""

    def __init__(self, folder: RunFolder, data: VoiceDataset, report: Report, notes: list[str]):
        """notes: what to say when the run goes on."""
        recipe = folder.preset.train
        self.folder = folder
        self.data = data
        self.report = report
        self.notes = notes
        self.mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
        batch = recipe.batch_per_chip * recipe.accumulate * folder.devices
        self.batches = BatchSampler(len(data.train), batch, recipe.seed)
        preset = dataclasses.replace(folder.preset, train=scale_learning_rate(recipe, batch))
        self.networks = build_networks(preset, self.batches.steps_per_epoch)
        self.steps_per_dispatch = recipe.steps_per_dispatch or (
            1 if jax.default_backend() == "cpu" else 32
        )
        self.returns = 0
        self.failed_at = 0
        self.rate = 1.0
        self.agreement = distributed.AsyncAnyReduce(self.mesh)
        self.stopped = ""
        self.meter = BudgetMeter(folder.path / "spent.json", parse_budget(recipe))
        self.total_steps = recipe.total_steps(self.batches.steps_per_epoch)
        keep_every = recipe.keep_every * self.batches.steps_per_epoch
        space = DiskQuota(folder.path, recipe, self._say)
        self.holdout = Validator(folder, data, self.networks, self._say, space)
        self.checkpoints = CheckpointManager(
            folder.checkpoints, recipe.keep_checkpoints, keep_every, self._say, space
        )

    def run(self) -> TrainResult:
        """Restore or start; then batch, step, metrics one step late, evaluate, save; finish."""
        state = self._restore()
        first = step = int(state.step)
        recorder = MetricWriter(self.folder.path, first)
        feed, dispatch = self._feed()
        self.stopped = distributed.broadcast_from_first(lambda: self.holdout.stopped)
        interrupted = False
        used_up, over = distributed.broadcast_from_first(
            lambda: [self.meter.is_used_up(0.0), self._is_over()]
        )
        late = DelayedMetrics(
            recorder, self.folder.preset.train.log_every, self.batches.steps_per_epoch
        )
        clock = StepTimer()
        try:
            with StopSignal() as interrupt:
                if first == 0:
                    self._evaluate(0, state, recorder)
                while step < self.total_steps and not (
                    interrupted or used_up or over or self.stopped
                ):
                    self.checkpoints.check()
                    count = min(self.steps_per_dispatch, self._next_event(step) - step)
                    state, metrics = dispatch(
                        state, feed.resident, feed(step, count), np.int32(count)
                    )
                    step += count
                    late.add(step, count, metrics)
                    clock.tick(count)
                    self.report(self._progress(step, clock, late.losses))
                    interrupted, used_up, over = self.agreement(
                        self._stop_flags(interrupt, count, clock)
                    )
                    last = step == self.total_steps or interrupted or used_up or over
                    if last or self._due(step, self.folder.preset.train.save_every):
                        late.flush()
                    if late.consecutive_skips >= self.folder.preset.train.max_consecutive_skips:
                        state, step = self._rollback(step, late, recorder)
                        continue
                    if last or self._due(step, self.folder.preset.train.evaluate_every):
                        with clock.paused():
                            self._evaluate(step, state, recorder)
                    if last or self._due(step, self.folder.preset.train.save_every):
                        self.checkpoints.save(step, to_saved_tree(state))
                        self.meter.save()
                    self.meter.pause(clock.last_pause)
                late.flush()
                self._finish(step, state)
        finally:
            feed.close()
            recorder.close()
            self.checkpoints.close()
            self.holdout.close()
            self.meter.save()
        return self._result(
            first, step, clock, late.skipped, used_up, self._time_up if over else ""
        )

    def _stop_flags(self, interrupt: StopSignal, count: int, clock: StepTimer) -> list[bool]:
        """What this process would end the run for: a signal, and the first one for its budget or
        its time, too."""
        if not distributed.is_first():
            return [bool(interrupt), False, False]
        return [
            bool(interrupt),
            self.meter.is_used_up(count * clock.step_seconds_or_zero),
            self._is_over(),
        ]

    def _evaluate(self, step: int, state: TrainState, recorder: MetricWriter) -> None:
        if distributed.is_first():
            self.holdout.evaluate(step, distributed.own(state), recorder)
        self.stopped = distributed.broadcast_from_first(lambda: self.holdout.stopped)

    def _restore(self) -> TrainState:
        """The newest checkpoint's state, or a new one; the first process's on every device of
        all."""
        networks = self.networks
        found = {}
        parts = (networks.synthesizer, networks.discriminator, networks.optimizer)
        averaged = self.folder.preset.train.ema > 0
        shapes = abstract_state(
            *parts, SingleDeviceSharding(self.mesh.local_devices[0]), averaged
        )

        def find() -> int:
            restored = self.checkpoints.restore(
                to_saved_tree(shapes), DEFAULTS_FOR_OLD_CHECKPOINTS
            )
            if restored is None:
                found["state"] = self._new(averaged)
                damages = []
            else:
                found["state"] = from_saved_tree(restored[0])
                damages = restored[1]
            step = int(found["state"].step)
            notes = [f"{damage}; continuing from step {step}" for damage in damages]
            for note in (*notes, *(self.notes if restored else ())):
                self._say(step, note)
            return step

        distributed.broadcast_from_first(find)
        self.notes = []
        return distributed.replicate(found.get("state"), shapes, self.mesh)

    def _new(self, averaged: bool) -> TrainState:
        *parameters, notes = load_initial_parameters(self.networks)
        for note in notes:
            self._say(0, note)
        create = lambda *parameters: create_state(
            *parameters, self.networks.optimizer, averaged
        )
        return jax.jit(create)(*parameters)  # one program, not one for every array

    def _feed(self) -> tuple[Loader, Any]:
        """What brings the windows, and the function that trains on them."""
        windows = self.data.train
        held = self.folder.preset.train.data_on_device
        device = self.mesh.devices.flat[0]
        has_memory = device.platform != "cpu" and fits_on_device(
            windows, device
        )  # NumPy gathers faster than XLA there
        resident = has_memory if held == "auto" else held == "yes"
        kind = ResidentLoader if resident else StreamingLoader
        feed = kind(windows, self.batches, self.steps_per_dispatch, self.mesh)
        return feed, compile_dispatch(self.networks, feed, self.steps_per_dispatch, self.mesh)

    def _is_over(self) -> bool:
        minutes = self.folder.preset.train.minutes
        return bool(minutes) and self.meter.spent >= 60 * minutes

    @property
    def _time_up(self) -> str:
        return f"its {self.folder.preset.train.minutes:g} minutes are over"

    def _next_event(self, step: int) -> int:
        """The step at which something has to be done between steps: an evaluation, a checkpoint,
        the end."""
        recipe = self.folder.preset.train
        periods = [
            epochs * self.batches.steps_per_epoch
            for epochs in (recipe.evaluate_every, recipe.save_every)
        ]
        return min(self.total_steps, *((step // period + 1) * period for period in periods))

    def _rollback(
        self, step: int, late: DelayedMetrics, recorder: MetricWriter
    ) -> tuple[TrainState, int]:
        """The last good state, with half the learning rate. Raises UserError when that has been
        tried twice."""
        cause = f"{late.consecutive_skips} steps up to {step} gave no finite loss and gradient ({late.last_nonfinite})"
        if step > self.failed_at + self.batches.steps_per_epoch:  # the trouble before is over
            self.returns = 0
        if self.returns == _MAX_ROLLBACKS:
            raise UserError(
                f"the run {self.folder.path} stops: {cause}, also at a quarter of the learning rate. The last good "
                "checkpoint stands; look for damaged speech with `rvc-jax audit`, or train with --precision float32"
            )
        self.returns = self.returns + 1
        self.failed_at = step
        self.checkpoints.finish()
        state = self._restore()
        self.rate = 0.5 * min(self.rate, float(state.rate))
        state = dataclasses.replace(state, rate=jnp.full_like(state.rate, self.rate))
        late.forget()
        recorder.rewind(int(state.step))
        rate = self.rate * self.folder.preset.train.learning_rate
        self._say(
            int(state.step),
            f"{cause}: back to step {int(state.step)}, at a learning rate of about {rate:.1e}",
        )
        return state, int(state.step)

    def _due(self, step: int, epochs: int) -> bool:
        return step % (epochs * self.batches.steps_per_epoch) == 0

    def _finish(self, step: int, state: TrainState) -> None:
        self.checkpoints.save(step, to_saved_tree(state))
        self.checkpoints.finish()
        self.holdout.finish()

    def _say(self, step: int, message: str, holdout: float | None = None) -> None:
        epoch = step // self.batches.steps_per_epoch
        epochs = self.folder.preset.train.epochs
        nan = math.nan
        self.report(
            TrainProgress(step, self.total_steps, epoch, epochs, nan, nan, {}, holdout, message)
        )

    def _progress(self, step: int, clock: StepTimer, losses: dict[str, float]) -> TrainProgress:
        epoch = math.ceil(step / self.batches.steps_per_epoch)
        left = clock.step_seconds * (self.total_steps - step)
        epochs = self.folder.preset.train.epochs
        return TrainProgress(
            step,
            self.total_steps,
            epoch,
            epochs,
            clock.step_seconds,
            left,
            losses,
            self.holdout.newest,
            budget=self.meter.text(),
        )

    def _result(
        self, first: int, step: int, clock: StepTimer, skipped: int, used_up: bool, over: str
    ) -> TrainResult:
        before, after = self.holdout.errors()
        stopped = (over or self.stopped) if step < self.total_steps else ""
        return TrainResult(
            run=self.folder.path,
            steps=step,
            epochs=step // self.batches.steps_per_epoch,
            resumed_from=first,
            steps_per_second=None if math.isnan(clock.step_seconds) else 1 / clock.step_seconds,
            holdout_before=before,
            holdout_after=after,
            interrupted=step < self.total_steps and not stopped,
            skipped=skipped,
            spent=self.meter.text(),
            used_up=used_up and step < self.total_steps,
            stopped=stopped,
            outlook=tuple(self.holdout.outlook()),
        )


def _collect_index_rows(data: VoiceDataset) -> np.ndarray:
    """Content features of the training windows without their padding [rows, channels]."""
    windows = data.train
    return np.concatenate([windows.content[i, : n // 2] for i, n in enumerate(windows.lengths)])
