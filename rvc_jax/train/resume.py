"""What a run is to do: the preset, what the user changed of it, and what the run was started with,
held together."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax

from rvc_jax.config import GENERATOR_PARTS, PRESETS, Preset, TrainConfig
from rvc_jax.data.dataset import DatasetInfo, VoiceDataset
from rvc_jax.errors import UserError, sanitize
from rvc_jax.runs.folder import RunFolder
from rvc_jax.train import pretrained
from rvc_jax.train.budget import Budget, lookup_rate
from rvc_jax.train.disk_quota import check_quota


def parse_budget(recipe: TrainConfig) -> Budget | None:
    """The recipe's budget on this machine. Raises UserError for one that cannot be read."""
    text = recipe.budget
    return (
        Budget.parse(text, lookup_rate(jax.devices()[0].device_kind), jax.device_count())
        if text
        else None
    )


_FIXED_OPTIONS = ("seed", "batch_per_chip", "accumulate", "optimizer")
"""Options without which a run's step, or what it keeps from step to step, would be another."""

_FREELY_CHANGEABLE = frozenset(
    {
        "epochs",
        "steps",
        "minutes",
        "pretrained",
        "pretrained_generator",
        "pretrained_discriminator",
        "budget",
        "data_on_device",
        "steps_per_dispatch",
        "rematerialize",
        "max_consecutive_skips",
        "evaluate_every",
        "best_by",
        "patience",
        "least_improvement",
        "save_every",
        "keep_checkpoints",
        "keep_every",
        "max_gigabytes",
        "log_every",
    }
)
"""Options that leave every step as it is: they may change without a word."""


def resolve_settings(
    path: Path, data: VoiceDataset, preset: Preset | None, overrides: dict[str, Any]
) -> Preset:
    """What to train: as the run in the folder was started, checked against the dataset, or a new
    run's preset."""
    run = RunFolder.open_if_any(path)
    if run is None:
        settings = _adapt_preset(preset or PRESETS[data.info.preset], data.info)
    else:
        settings = run.preset
        _check_same(path, "preset", settings.name, (preset or settings).name)
        _check_same(path, "sample rate", settings.audio.sample_rate, data.info.sample_rate)
        _check_same(
            path, "content encoder", run.dataset.content_encoder, data.info.content_encoder
        )
        _check_same(
            path,
            "content encoder of hash",
            run.dataset.content_fingerprint[:8],
            data.info.content_fingerprint[:8],
        )
        if len(data.info.speakers) > 1 or len(run.dataset.speakers) > 1:
            _check_same(
                path, "speakers", ", ".join(run.dataset.speakers), ", ".join(data.info.speakers)
            )
        for name in _FIXED_OPTIONS:
            _check_same_recipe(path, name, getattr(settings.train, name), overrides.get(name))
    settings = dataclasses.replace(
        settings, train=dataclasses.replace(settings.train, **overrides)
    )
    check_recipe(settings.train)
    check_quota(
        path,
        settings,
        2 * settings.generator.content_channels * int((data.train.lengths // 2).sum()),
    )
    if run is None:
        pretrained.check(settings)  # last: it may have to download them
    return settings


def describe_changes(path: Path, settings: Preset, data: VoiceDataset) -> list[str]:
    """What will be trained differently from here on than the run in the folder was until now, in
    sentences."""
    run = RunFolder.open_if_any(path)
    told = []
    if run is None:
        return []
    for field in dataclasses.fields(TrainConfig):
        old = getattr(run.preset.train, field.name)
        new = getattr(settings.train, field.name)
        if old != new and field.name not in _FREELY_CHANGEABLE:
            told.append(f"--{field.name.replace('_', '-')} is {new} from here on, it was {old}")
    if run.dataset.fingerprint != data.info.fingerprint:
        old = run.dataset.train_slices
        new = data.info.train_slices
        told.append(
            f"the dataset has changed: {new} windows to train on from here on, it was {old}"
        )
    return told


def resolve_device_count(path: Path, settings: Preset) -> int:
    """Accelerators whose windows make a step: as many as the run was started on.

    Raises:
      UserError: if the windows of a step can't be divided among those that are here now.
    """
    here = jax.device_count()
    run = RunFolder.open_if_any(path)
    devices = run.devices if run else here
    part = settings.train.batch_per_chip * devices
    if part % here:
        raise UserError(
            f"the run {path} was started on {devices} accelerators with {part} windows at once, which can't be divided "
            f"among {here}: continue it on {_list_divisors(part)} of them, or train into another run folder"
        )
    return devices


def _list_divisors(number: int) -> str:
    *some, last = [str(i) for i in range(1, number + 1) if number % i == 0]
    return f"{', '.join(some)} or {last}" if some else last


def check_recipe(recipe: TrainConfig) -> None:
    counts = (
        "epochs",
        "batch_per_chip",
        "evaluate_every",
        "save_every",
        "keep_checkpoints",
        "log_every",
    )
    for name in (*counts, "max_consecutive_skips", "discriminator_every", "accumulate"):
        if getattr(recipe, name) < 1:
            raise UserError(
                f"--{name.replace('_', '-')} must be at least 1, not {getattr(recipe, name)}"
            )
    if recipe.patience < 0:
        raise UserError(f"--patience must be at least 0, not {recipe.patience}")
    if not 0 <= recipe.least_improvement < 1:
        raise UserError(
            f"--least-improvement must be a share from 0 to below 1, not {recipe.least_improvement}"
        )
    for name in (
        "steps",
        "minutes",
        "warmup_steps",
        "clip_norm",
        "keep_every",
        "max_gigabytes",
    ):
        if getattr(recipe, name) < 0:
            raise UserError(
                f"--{name.replace('_', '-')} must be at least 0, not {getattr(recipe, name)}"
            )
    if not 0 <= recipe.ema < 1:
        raise UserError(f"--ema must be from 0 to below 1, not {recipe.ema}")
    unknown = [part for part in recipe.frozen_parts if part not in GENERATOR_PARTS]
    if unknown:
        raise UserError(
            f"--freeze: no part is called {sanitize(unknown[0])}; the parts are {', '.join(GENERATOR_PARTS)}"
        )
    parse_budget(recipe)
    if recipe.learning_rate <= 0:
        raise UserError(f"--learning-rate must be above 0, not {recipe.learning_rate}")


def _check_same(path: Path, what: str, of_run: object, of_dataset: object) -> None:
    if of_run != of_dataset:
        raise UserError(
            f"the run {path} was started with {what} {of_run}, this is {of_dataset}: "
            "train into another run folder, or prepare the speech again to fit"
        )


def _check_same_recipe(path: Path, name: str, of_run: object, given: object) -> None:
    if given is not None and given != of_run:
        option = f"--{name.replace('_', '-')}"
        raise UserError(
            f"the run {path} was started with {option} {of_run}, this is {option} {given}, and its steps would not be "
            f"the same: leave {option} out to continue, or train into another run folder"
        )


def _adapt_preset(preset: Preset, info: DatasetInfo) -> Preset:
    """The preset with the dataset's content width and room for its speakers."""
    if preset.audio.sample_rate != info.sample_rate:
        raise UserError(
            f"the preset {preset.name} is for {preset.audio.sample_rate} Hz, the dataset was prepared for "
            f"{info.sample_rate} Hz: prepare it again with --preset {preset.name}, or train with --preset {info.preset}"
        )
    if preset.version != PRESETS[info.preset].version and not info.content_encoder.startswith(
        "whisper-"
    ):
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
