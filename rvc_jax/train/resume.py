"""The settings that a run starts or continues with: its own, the preset, and the user's changes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax

from rvc_jax.config import (
    GENERATOR_PARTS,
    PRESETS,
    SMALL_PARTS,
    Preset,
    SpectralGeneratorConfig,
    TrainConfig,
    option,
)
from rvc_jax.data.dataset import DatasetInfo, VoiceDataset, count_bytes
from rvc_jax.data.index_rows import count_index_bytes
from rvc_jax.errors import UserError, sanitize
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.history import FILE as HISTORY_FILE
from rvc_jax.runs.history import History
from rvc_jax.storage.memory import measure_available_memory
from rvc_jax.train import pretrained
from rvc_jax.train.budget import Budget, lookup_rate
from rvc_jax.train.disk_quota import check_quota


def parse_budget(recipe: TrainConfig) -> Budget | None:
    """Return the recipe's budget on this machine, if it has one.

    Raises:
        UserError: The budget can't be read.
    """
    if not recipe.budget:
        return None
    rate = lookup_rate(jax.devices()[0].device_kind)
    return Budget.parse(recipe.budget, rate, jax.device_count())


_MEMORY_SHARE = 0.125
"""Share of the available host memory that training windows may take by default."""
_NO_LIMIT = 1 << 62

_FIXED_OPTIONS = ("seed", "batch_per_chip", "accumulate", "optimizer")
"""Options that a continued run can't change: its steps, or the state between them, depend on
them."""

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
        "memory_gigabytes",
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
"""Options that no step depends on: they may change without a message."""


def resolve_settings(
    path: Path, data: VoiceDataset, preset: Preset | None, overrides: dict[str, Any]
) -> Preset:
    """Return what to train: the settings of the run in the folder, or a new run's preset.

    Args:
        path: The run's folder.
        data: The dataset; the settings are checked against it.
        preset: The preset of a new run; by default that of the dataset.
        overrides: Fields of `TrainConfig` that the user has set.

    Raises:
        UserError: A setting is out of its range, or run, dataset and preset don't fit together.
    """
    run = RunFolder.open_if_any(path)
    if run is None:
        settings = _adapt_preset(preset or PRESETS[data.info.preset], data.info)
    else:
        settings = run.preset
        _check_same(path, "preset", settings.name, (preset or settings).name)
        _check_same(path, "sample rate", settings.audio.sample_rate, data.info.sample_rate)
        if run.dataset.content_fingerprint != data.info.content_fingerprint:
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
    own = (preset or PRESETS[settings.name]).train
    settings = dataclasses.replace(settings, train=settings.train.with_options(overrides, own))
    if run is None and "freeze" not in overrides and not _starts_from_base(settings, data.info):
        settings = dataclasses.replace(
            settings, train=dataclasses.replace(settings.train, freeze="")
        )
    check_recipe(settings.train)
    _check_frozen_parts(settings)
    check_quota(path, settings, count_index_bytes(data))
    # Last, because it may have to download the networks.
    if run is None:
        pretrained.check(settings)
    return settings


def resolve_memory_limit(path: Path, preset: Preset | None, overrides: dict[str, Any]) -> int:
    """Return the bytes of host memory that training windows may take.

    Args:
        path: The run's folder. If it holds a run, its setting counts.
        preset: The preset of a new run, if the user has named it.
        overrides: Fields of `TrainConfig` that the user has set.

    Raises:
        UserError: The run is damaged.
    """
    run = RunFolder.open_if_any(path)
    recipe = run.preset.train if run else preset.train if preset else TrainConfig()
    recipe = dataclasses.replace(recipe, **overrides)
    if recipe.data_on_device == "yes":  # all of them pass through the host's memory
        return _NO_LIMIT
    limit = recipe.memory_gigabytes * 1e9
    return int(limit or _MEMORY_SHARE * measure_available_memory())


def describe_memory(data: VoiceDataset, limit: int) -> str:
    """Say that windows are read from disk, if they are; else return an empty text.

    Args:
        data: The dataset.
        limit: Bytes of host memory that its training windows may take.
    """
    size = count_bytes(data.info)
    if size <= limit:
        return ""
    return (
        f"the training windows take {size / 1e9:.1f} GB, more than {limit / 1e9:.1f} GB of memory: "
        "they are read from disk as they are needed (--memory-gigabytes)"
    )


def describe_changes(path: Path, settings: Preset, data: VoiceDataset) -> list[str]:
    """Describe how the training from here on differs from that of the run in the folder until
    now."""
    run = RunFolder.open_if_any(path)
    if run is None:
        return []
    changes = []
    for field in dataclasses.fields(TrainConfig):
        old = getattr(run.preset.train, field.name)
        new = getattr(settings.train, field.name)
        if old != new and field.name not in _FREELY_CHANGEABLE:
            changes.append(f"{option(field.name)} is {new} from here on, it was {old}")
    before = History(path / HISTORY_FILE).dataset or shorten_identity(run.dataset)
    if not data.identity.startswith(before):
        old = run.dataset.train_slices
        new = data.info.train_slices
        changes.append(
            f"the dataset has changed: {new} windows to train on from here on, it was {old}; best "
            "voice, patience and outlook begin anew"
        )
    return changes


def shorten_identity(info: DatasetInfo) -> str:
    """Return the part of a dataset's identity that its description alone has."""
    return info.fingerprint[:16]


def describe_speech(info: DatasetInfo) -> str:
    """Describe a dataset for reports."""
    return (
        f"{', '.join(info.speakers)}: {info.speech_minutes:.1f} min of speech in {info.files} "
        f"files, {info.train_slices} slices to train on, {info.holdout_slices} held out"
    )


def resolve_device_count(path: Path, settings: Preset) -> int:
    """Return the number of accelerators that set the batch size: those that the run was started on.

    Raises:
        UserError: The batch can't be divided among the accelerators that are here now.
    """
    here = jax.device_count()
    run = RunFolder.open_if_any(path)
    devices = run.devices if run else here
    part = settings.train.batch_per_chip * devices
    if part % here:
        raise UserError(
            f"the run {path} was started on {devices} accelerators with {part} windows at once, "
            f"which can't be divided among {here}: continue it on {_list_divisors(part)} of them, "
            "or train into another run folder"
        )
    return devices


def _list_divisors(number: int) -> str:
    """Format all divisors of a number, such as "1, 2 or 4"."""
    *some, last = [str(i) for i in range(1, number + 1) if number % i == 0]
    return f"{', '.join(some)} or {last}" if some else last


def check_recipe(recipe: TrainConfig) -> None:
    """Raise UserError for the first option that is out of its range."""
    at_least_one = (
        "batch_per_chip",
        "evaluate_every",
        "save_every",
        "keep_checkpoints",
        "log_every",
        "max_consecutive_skips",
        "discriminator_every",
        "accumulate",
    )
    if not recipe.steps and not recipe.minutes:
        at_least_one = ("epochs", *at_least_one)  # something has to end the run
    for name in at_least_one:
        value = getattr(recipe, name)
        if value < 1:
            raise UserError(f"{option(name)} must be at least 1, not {value}")
    if recipe.patience < 0:
        raise UserError(f"--patience must be at least 0, not {recipe.patience}")
    if not 0 <= recipe.least_improvement < 1:
        raise UserError(
            "--least-improvement must be a share from 0 to below 1, not "
            f"{recipe.least_improvement}"
        )
    at_least_zero = (
        "epochs",
        "steps",
        "minutes",
        "warmup_steps",
        "clip_norm",
        "keep_every",
        "max_gigabytes",
        "memory_gigabytes",
    )
    for name in at_least_zero:
        value = getattr(recipe, name)
        if value < 0:
            raise UserError(f"{option(name)} must be at least 0, not {value}")
    if not 0 <= recipe.ema < 1:
        raise UserError(f"--ema must be from 0 to below 1, not {recipe.ema}")
    parse_budget(recipe)
    if recipe.schedule == "cosine" and recipe.total_steps(1) is None:
        raise UserError(
            "--schedule cosine needs the number of steps: name --epochs or --steps beside --minutes"
        )
    if recipe.learning_rate <= 0:
        raise UserError(f"--learning-rate must be above 0, not {recipe.learning_rate}")


def _check_frozen_parts(preset: Preset) -> None:
    is_small = isinstance(preset.generator, SpectralGeneratorConfig)
    parts = SMALL_PARTS if is_small else GENERATOR_PARTS
    unknown = [part for part in preset.train.frozen_parts if part not in parts]
    if unknown:
        raise UserError(
            f"--freeze: no part of {preset.name} is called {sanitize(unknown[0])}; the parts are "
            f"{', '.join(parts)}"
        )


def _starts_from_base(preset: Preset, info: DatasetInfo) -> bool:
    """Return whether a preset's frozen parts come trained, for the dataset's kind of features."""
    recipe = preset.train
    is_trained = recipe.pretrained != "none" or bool(recipe.pretrained_generator)
    return is_trained and info.content_encoder == preset.content_encoder


def _check_same(path: Path, what: str, of_run: object, of_dataset: object) -> None:
    if of_run != of_dataset:
        raise UserError(
            f"the run {path} was started with {what} {of_run}, this is {of_dataset}: "
            "train into another run folder, or prepare the speech again to fit"
        )


def _check_same_recipe(path: Path, name: str, of_run: object, given: object) -> None:
    if given is not None and given != of_run:
        raise UserError(
            f"the run {path} was started with {option(name)} {of_run}, this is {option(name)} "
            f"{given}, and its steps would not be the same: leave {option(name)} out to continue, "
            "or train into another run folder"
        )


def _adapt_preset(preset: Preset, info: DatasetInfo) -> Preset:
    """Fit a preset to a dataset's content channels and number of speakers.

    Raises:
        UserError: The dataset was prepared for another kind of preset.
    """
    if preset.audio.sample_rate != info.sample_rate:
        raise UserError(
            f"the preset {preset.name} is for {preset.audio.sample_rate} Hz, the dataset was "
            f"prepared for {info.sample_rate} Hz: prepare it again with --preset {preset.name}, or "
            f"train with --preset {info.preset}"
        )
    # Versions differ in the content encoder, except that both can use the Whisper ones.
    is_whisper = info.content_encoder.startswith("whisper-")
    if preset.version != PRESETS[info.preset].version and not is_whisper:
        raise UserError(
            f"the preset {preset.name} is RVC {preset.version}, the dataset has the content "
            f"features of {info.preset}: prepare it again with --preset {preset.name}"
        )
    generator = dataclasses.replace(
        preset.generator,
        content_channels=info.content_channels,
        speakers=max(preset.generator.speakers, len(info.speakers)),
    )
    return dataclasses.replace(preset, generator=generator)
