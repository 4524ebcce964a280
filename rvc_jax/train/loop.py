"""A training run from its first step, or its last checkpoint, to its end."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, SingleDeviceSharding

from rvc_jax.config import Preset, from_dict, to_dict
from rvc_jax.data.dataset import VoiceDataset, open_dataset
from rvc_jax.data.index_rows import count_index_bytes
from rvc_jax.errors import UserError
from rvc_jax.models.parameters import Parameters
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.heartbeat import HeartbeatWriter
from rvc_jax.runs.history import FILE as HISTORY_FILE
from rvc_jax.runs.history import History
from rvc_jax.runs.lock import lock_run
from rvc_jax.runs.progress import TrainProgress, TrainResult, report_training
from rvc_jax.runs.retrieval import write_index
from rvc_jax.storage.locks import Lock, NoLock
from rvc_jax.storage.places import Location, is_remote
from rvc_jax.storage.scratch import clear_leftovers, temporary_folder
from rvc_jax.train import distributed
from rvc_jax.train.budget import BudgetMeter
from rvc_jax.train.checkpointing import CheckpointManager
from rvc_jax.train.clock import NO_LIMIT, EvaluationClock, expect_end, read_clocks
from rvc_jax.train.disk_quota import DiskQuota
from rvc_jax.train.dispatch import compile_dispatch
from rvc_jax.train.loader import BatchSampler, make_loader
from rvc_jax.train.metric_writer import DelayedMetrics, MetricWriter
from rvc_jax.train.networks import Networks, build_networks
from rvc_jax.train.optimizer import scale_learning_rate
from rvc_jax.train.pretrained import hash_pretrained_files, load_initial_parameters
from rvc_jax.train.resume import (
    describe_changes,
    describe_memory,
    describe_speech,
    parse_budget,
    resolve_device_count,
    resolve_memory_limit,
    resolve_settings,
    shorten_identity,
)
from rvc_jax.train.signals import StopSignal
from rvc_jax.train.state import (
    DEFAULTS_FOR_OLD_CHECKPOINTS,
    TrainState,
    abstract_state,
    create_state,
    from_saved_tree,
    to_saved_tree,
)
from rvc_jax.train.timer import StepTimer
from rvc_jax.train.validation import Validator

_MAX_ROLLBACKS = 2
"""Rollbacks in a row, each of which halves the learning rate, before the run gives up."""


def train(
    dataset: Location,
    run: Path,
    preset: Preset | None = None,
    overrides: dict[str, Any] | None = None,
    reporter: Reporter = SILENT,
) -> TrainResult:
    """Train a voice on a prepared dataset, or continue the run that the folder holds.

    Ctrl-C saves and ends. With several processes (`distributed.join`), the first one writes and
    reports; every process needs the dataset.

    Args:
        dataset: Folder or URL of the dataset.
        run: Folder of the run.
        preset: The voice format; by default that of the dataset.
        overrides: Fields of `TrainConfig` that differ from the preset's or, in a continued run,
            from the run's.
        reporter: Receives messages and progress.

    Raises:
        UserError: Dataset and run don't fit together, the run is damaged or is being trained by
            another process, or the disk is full.
    """
    lock = lock_run(run, reporter)
    with contextlib.ExitStack() as stack:

        def take_lock() -> None:
            stack.enter_context(lock)
            for folder in (run, run / "checkpoints", run / "best"):
                clear_leftovers(folder)

        distributed.broadcast_from_first(take_lock)
        # One limit for all: they must agree on whether the windows stay on disk.
        limit = distributed.broadcast_from_first(
            lambda: resolve_memory_limit(run, preset, overrides or {})
        )
        data = distributed.run_in_all(lambda: stack.enter_context(open_dataset(dataset, limit)))
        if text := describe_memory(data, limit):
            reporter.message(text)
        return _train(data, dataset, run, preset, overrides, reporter, lock)


def _train(
    data: VoiceDataset,
    dataset: Location,
    run: Path,
    preset: Preset | None,
    overrides: dict[str, Any] | None,
    reporter: Reporter,
    lock: Lock,
) -> TrainResult:
    """Train, with the run's lock held."""
    place = dataset if is_remote(dataset) else Path(dataset).absolute()

    def prepare_run() -> dict[str, Any]:
        settings = resolve_settings(run, data, preset, overrides or {})
        notes = describe_changes(run, settings, data)
        devices = resolve_device_count(run, settings)
        before = RunFolder.open_if_any(run)
        started_from = before.started_from if before else hash_pretrained_files(settings)
        if before:
            # Before the settings are written: they say which dataset an early version recorded.
            History(run / HISTORY_FILE).name_first_dataset(
                shorten_identity(before.dataset), describe_speech(before.dataset)
            )
        # Only now, because everything above compares with the run as it was.
        folder = RunFolder(run, settings, data.info, place, devices, started_from)
        folder.write()
        return {
            "preset": to_dict(settings),
            "devices": devices,
            "notes": notes,
            "data": data.info.fingerprint,
        }

    agreed = distributed.broadcast_from_first(prepare_run)
    settings = from_dict(Preset, agreed["preset"])
    folder = RunFolder(run, settings, data.info, place, agreed["devices"])

    def check_same_dataset() -> None:
        if agreed["data"] != data.info.fingerprint:
            raise UserError(
                f"the dataset {dataset} is not the same on every machine: copy it from the first "
                "one"
            )

    distributed.run_in_all(check_same_dataset)
    if distributed.is_first():
        with HeartbeatWriter(run, reporter) as heartbeat:
            result = train_loop(folder, data, heartbeat, agreed["notes"], lock)
            heartbeat.record_result(result)
        return result
    # What the other processes write is thrown away.
    with temporary_folder() as scratch:
        own = dataclasses.replace(folder, path=scratch)
        return train_loop(own, data, SILENT, [], NoLock())


def train_loop(
    folder: RunFolder,
    data: VoiceDataset,
    reporter: Reporter,
    notes: list[str],
    lock: Lock | NoLock,
) -> TrainResult:
    """Run the steps of a training: batch, step, metrics, evaluation, checkpoint.

    Everything that changes on the way is a local of this function. All processes run it, and take
    the same branches: what only one of them knows is broadcast first.

    Args:
        folder: The run, with its settings written.
        data: The dataset.
        reporter: Receives messages and progress.
        notes: Messages for the case that the run continues, such as changed options.
        lock: The run's lock. The training ends with an error if it is lost.
    """
    recipe = folder.preset.train
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    # The batch is that of the devices that the run was started on, on any number of them.
    batch_size = recipe.batch_per_chip * recipe.accumulate * folder.devices
    sampler = BatchSampler(len(data.train), batch_size, recipe.seed)
    steps_per_epoch = sampler.steps_per_epoch
    total_steps = recipe.total_steps(steps_per_epoch) or NO_LIMIT
    evaluation_period = recipe.evaluate_every * steps_per_epoch
    save_period = recipe.save_every * steps_per_epoch
    steps_per_dispatch = recipe.steps_per_dispatch or (
        1 if jax.default_backend() == "cpu" else 32
    )
    preset = dataclasses.replace(folder.preset, train=scale_learning_rate(recipe, batch_size))
    networks = build_networks(preset, steps_per_epoch)

    def say(step: int, text: str) -> None:
        reporter.message(f"step {step}: {text}")

    quota = DiskQuota(folder.path, recipe, reporter, count_index_bytes(data))
    history = History(folder.path / HISTORY_FILE)
    if history.notice:
        reporter.message(history.notice)
    meter = BudgetMeter(
        folder.path / "spent.json", parse_budget(recipe), minutes=recipe.minutes
    )
    validator = Validator(folder, data, networks, history, reporter, quota)
    checkpoints = CheckpointManager(
        folder.checkpoints,
        keep=recipe.keep_checkpoints,
        keep_every=recipe.keep_every * steps_per_epoch,
        reporter=reporter,
        quota=quota,
    )
    any_process = distributed.AsyncAnyReduce(mesh)

    # MARK: Restore or initialize

    state, is_restored = _load_or_init_state(checkpoints, networks, mesh, reporter)
    first_step = step = int(state.step)
    if is_restored:
        for note in notes:
            say(step, note)
    # Only after the state is restored: its step says how much of the record still counts.
    writer = MetricWriter(folder.path, history, from_step=step)
    # Scores of two hold-outs can't be compared: best voice, patience and outlook begin anew.
    is_other = history.begin_dataset(step, data.identity, describe_speech(data.info))
    needs_baseline = distributed.broadcast_from_first(
        lambda: first_step == 0 or is_other or validator.lacks_baseline
    )
    metrics_log = DelayedMetrics(writer, recipe.log_every, steps_per_epoch)
    loader = make_loader(data.train, sampler, steps_per_dispatch, mesh, recipe.data_on_device)
    dispatch = compile_dispatch(networks, loader, steps_per_dispatch, mesh)
    timer = StepTimer()
    clock = EvaluationClock(recipe.minutes)

    def evaluate(step: int, state: TrainState) -> str:
        """Measure the hold-out; returns why the run should stop, if it should."""
        if distributed.is_first():
            local = distributed.localize(state)
            validator.evaluate(step, local.generator.params, local.average, writer)
        return distributed.broadcast_from_first(lambda: validator.stop_reason)

    def save_index() -> None:
        """Write what a saved voice needs besides, once per run."""
        if distributed.is_first():
            write_index(folder, data, reporter)

    def progress() -> TrainProgress:
        end = expect_end(step, total_steps, meter.seconds_left / timer.step_seconds)
        return TrainProgress(
            step,
            end,
            epoch=math.ceil(step / steps_per_epoch),
            epochs=math.ceil(end / steps_per_epoch),
            step_seconds=timer.step_seconds,
            seconds_left=timer.step_seconds * (end - step),
            losses=metrics_log.losses,
            holdout=validator.newest,
            budget=meter.text(),
        )

    is_evaluation = False
    # What may end the run before its last step. A continued run may be over at once.
    interrupted = False
    stop_reason = distributed.broadcast_from_first(lambda: validator.stop_reason)
    used_up, out_of_time = distributed.broadcast_from_first(
        lambda: [meter.is_used_up(0.0), meter.is_out_of_time(0.0)]
    )
    # What rollbacks have changed.
    rollbacks = 0
    failed_at = 0
    rate = 1.0

    # MARK: Steps. The order of operations in the loop matters: each comment says why.

    try:
        with StopSignal() as signal:
            if needs_baseline:
                stop_reason = evaluate(step, state)  # what later voices are compared with
            if first_step == 0:
                reporter.message("compiling the training step; this may take a minute")

            while step < total_steps and not (
                interrupted or used_up or out_of_time or stop_reason
            ):
                checkpoints.check()  # raises if the saving thread has given up

                # A dispatch ends where something has to be done between two steps.
                next_event = min(
                    total_steps,
                    _next_multiple(step, evaluation_period),
                    _next_multiple(step, save_period),
                )
                count = min(steps_per_dispatch, next_event - step)
                state, metrics = dispatch(
                    state, loader.resident, loader(step, count), np.int32(count)
                )
                if step == first_step:
                    clock.restart()  # only now: what came before was compiling
                step += count
                # Waits for the dispatch before, while the device computes this one.
                metrics_log.add(step, count, metrics)
                timer.tick(count)
                report_training(reporter, progress())

                interrupted, used_up, out_of_time, is_due, is_too_soon = any_process(
                    read_clocks(signal, meter, clock, count * timer.step_seconds_or_zero)
                )
                is_last = step == total_steps or interrupted or used_up or out_of_time
                # Of several processes, the flags are those of one dispatch before.
                is_due = is_due and not is_evaluation
                is_evaluation = (step % evaluation_period == 0 or is_due) and not is_too_soon
                is_evaluation = is_last or is_evaluation
                # Epochs of little speech are short: a run of limited time would save all the time.
                is_save = is_last or (step % save_period == 0 and not is_too_soon)

                # Before the save, because a state must not be saved until its steps are known to be
                # finite: otherwise a rollback would return to a bad one.
                if is_save:
                    lock.check()
                    metrics_log.flush()

                # Rollback: the last good state, with half the learning rate.
                if metrics_log.consecutive_skips >= recipe.max_consecutive_skips:
                    cause = (
                        f"{metrics_log.consecutive_skips} steps up to {step} gave no finite loss "
                        f"and gradient ({metrics_log.last_nonfinite})"
                    )
                    if step > failed_at + steps_per_epoch:  # the trouble before is over
                        rollbacks = 0
                    if rollbacks == _MAX_ROLLBACKS:
                        raise UserError(
                            f"the run {folder.path} stops: {cause}, also at a quarter of the "
                            "learning rate. The last good checkpoint stands; look for damaged "
                            "speech with `rvc-jax audit`, or train with --precision float32"
                        )
                    rollbacks += 1
                    failed_at = step
                    checkpoints.finish()  # the newest may still be on its way to the disk
                    state, _ = _load_or_init_state(checkpoints, networks, mesh, reporter)
                    # From the rate of this process, too: several rollbacks may go back to the same
                    # checkpoint, whose rate is still the old one.
                    rate = 0.5 * min(rate, float(state.rate))
                    state = dataclasses.replace(state, rate=jnp.full_like(state.rate, rate))
                    step = int(state.step)
                    metrics_log.forget()
                    writer.rewind(step)
                    say(
                        step,
                        f"{cause}: back to step {step}, at a learning rate of about "
                        f"{rate * recipe.learning_rate:.1e}",
                    )
                    continue

                # Before the save, so that the best voice is at least as new as the checkpoint: a
                # continued run does not evaluate the step that it continues from.
                if is_evaluation:
                    with timer.paused():
                        stop_reason = evaluate(step, state)
                    clock.restart(after=timer.last_pause)
                # The arrays are copied before this returns, because the next dispatch donates them.
                if is_save:
                    checkpoints.save(step, to_saved_tree(state))
                    meter.save()
                    save_index()
                meter.pause(timer.last_pause)

            metrics_log.flush()
            # Does nothing if this step is saved already; a run that its patience ended is not.
            checkpoints.save(step, to_saved_tree(state))
            save_index()
            checkpoints.finish()
            validator.finish()
    finally:
        loader.close()
        writer.close()
        checkpoints.close()
        validator.close()
        meter.save(is_out_of_time=out_of_time)

    # MARK: Result

    holdout_before, holdout_after = validator.errors
    if out_of_time:
        stop_reason = f"its {recipe.minutes:g} minutes are over"
    stopped = stop_reason if step < total_steps else ""
    has_speed = not math.isnan(timer.step_seconds)
    return TrainResult(
        run=folder.path,
        steps=step,
        epochs=step // steps_per_epoch,
        resumed_from=first_step,
        steps_per_second=1 / timer.step_seconds if has_speed else None,
        holdout_before=holdout_before,
        holdout_after=holdout_after,
        interrupted=step < total_steps and not stopped,
        skipped=metrics_log.skipped,
        spent=meter.text(),
        used_up=used_up and step < total_steps,
        stopped=stopped,
        outlook=validator.outlook,
    )


class _Loaded(NamedTuple):
    state: TrainState
    is_restored: bool
    """False for the initial state of a run without checkpoints."""


def _load_or_init_state(
    checkpoints: CheckpointManager, networks: Networks, mesh: Mesh, reporter: Reporter
) -> _Loaded:
    """Return the newest intact checkpoint's state, or the initial one if there is no checkpoint.

    The first process reads it, and all devices of all processes get it. Damaged checkpoints are
    reported.
    """
    recipe = networks.preset.train
    averaged = recipe.ema > 0
    shapes = abstract_state(
        networks.synthesizer,
        networks.discriminator,
        networks.optimizer,
        SingleDeviceSharding(mesh.local_devices[0]),
        averaged,
    )
    found: list[TrainState] = []  # outside of the broadcast value, which must fit into JSON

    def find() -> bool:
        restored = checkpoints.restore(to_saved_tree(shapes), DEFAULTS_FOR_OLD_CHECKPOINTS)
        if restored is None:
            found.append(_init_state(networks, averaged, reporter))
            return False
        tree, damages = restored
        state = from_saved_tree(tree)
        step = int(state.step)
        for damage in damages:
            reporter.message(f"step {step}: {damage}; continuing from step {step}")
        found.append(state)
        return True

    is_restored = distributed.broadcast_from_first(find)
    state = distributed.replicate(found[0] if found else None, shapes, mesh)
    return _Loaded(state, is_restored)


def _init_state(networks: Networks, averaged: bool, reporter: Reporter) -> TrainState:
    generator, discriminator, notes = load_initial_parameters(networks)
    for note in notes:
        reporter.message(f"step 0: {note}")

    def create(generator: Parameters, discriminator: Parameters) -> TrainState:
        return create_state(generator, discriminator, networks.optimizer, averaged)

    return jax.jit(create)(generator, discriminator)  # one program, not one per array


def _next_multiple(step: int, period: int) -> int:
    """Return the next step after `step` that is a multiple of the period."""
    return (step // period + 1) * period
