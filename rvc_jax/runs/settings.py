"""The `config.json` of a run as anybody may have written it: types, ranges and sizes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal

from rvc_jax.config import (
    STORED_NAMES,
    AudioConfig,
    GeneratorConfig,
    PitchMethod,
    PrepareConfig,
    Preset,
    PresetName,
    SpectralGeneratorConfig,
    from_dict,
)
from rvc_jax.data.dataset import DatasetInfo
from rvc_jax.errors import UserError, sanitize
from rvc_jax.models.spectral_sizes import check_spectra, check_spectral_sizes
from rvc_jax.storage.json_files import convert, parse_json

FORMAT = "rvc_jax run"

_MAX_LAYERS = 64
_MAX_ALL_LAYERS = 256
_MAX_SIZE = 1 << 16
_MAX_NUMBER = 1 << 63
_MAX_DEVICES = 1 << 20
_LAYERS = ("attention_layers", "posterior_layers", "flow_steps", "flow_layers")
_NETWORKS = ("audio", "generator", "discriminator")
_TEXTS = {
    "name": PresetName,
    "version": Literal["v1", "v2"],
    "f0_method": PitchMethod,
    "content_encoder": str,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run's `config.json` says."""

    preset: Preset
    dataset: DatasetInfo
    dataset_path: str | None
    devices: int
    started_from: dict[str, str]


def parse_settings(content: bytes, file: Path) -> Settings:
    """Read the contents of a run's `config.json`.

    Args:
        content: JSON.
        file: Where it is from, for messages.

    Raises:
        UserError: It is not a run's, or damaged.
    """
    try:
        config = parse_json(content)
    except ValueError as error:
        raise UserError(f"{file} is damaged: {error}") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UserError(
            f"{file.parent} is not a run of rvc-jax: its config.json is another program's"
        )
    try:
        preset = _read_preset(config["preset"])
        dataset = DatasetInfo.from_dict(config["dataset"])
        check_preparation(dataset.config)
        devices = convert(config.get("devices", 1), int)
        if not 1 <= devices <= _MAX_DEVICES:
            raise ValueError(f"{devices} devices")
        return Settings(
            preset,
            dataset,
            convert(config.get("dataset_path"), str | None),
            devices,
            convert(config.get("started_from", {}), dict[str, str]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{file} is damaged, or from another version of rvc-jax: {sanitize(error)}"
        ) from None


def check_preparation(values: dict[str, Any]) -> None:
    """Raise ValueError unless stored values of a `PrepareConfig` have its types."""
    present = {stored: name for name, stored in STORED_NAMES.items()}
    convert({present.get(name, name): value for name, value in values.items()}, PrepareConfig)


def _read_preset(values: Any) -> Preset:
    preset = from_dict(Preset, values)
    # Part by part: which kind of generator it is shows in its fields, not in the schema.
    parts = {name: getattr(preset, name) for name in (*_NETWORKS, "train")}
    plain = {
        name: convert(dataclasses.asdict(part), type(part)) for name, part in parts.items()
    }
    for field, kind in _TEXTS.items():
        convert(getattr(preset, field), kind)
    preset = dataclasses.replace(preset, **plain)
    for name in _NETWORKS:
        for field, value in vars(getattr(preset, name)).items():
            _check_size(field, value)
    _check_structure(preset)
    for field, value in vars(preset.train).items():
        if type(value) in (int, float) and not abs(value) < _MAX_NUMBER:
            raise ValueError(f"{field} is {value}")
    return preset


def _check_structure(preset: Preset) -> None:
    """Raise ValueError unless the sizes fit together, and for more layers than any voice has."""
    judges = preset.discriminator
    sizes = preset.generator
    check_spectra(judges, preset.audio)
    scales = [judges.scale_channels, judges.scale_kernels, judges.scale_strides]
    fits = len({len(values) for values in (*scales, judges.scale_groups)}) == 1 and judges.count
    layers = (
        len(judges.periods) * len(judges.period_channels)
        + len(judges.scale_channels)
        + len(judges.spectra) * len(judges.spectrum_channels)
    )
    if isinstance(sizes, SpectralGeneratorConfig):
        check_spectral_sizes(sizes, preset.audio)
    else:
        fits = fits and _fits_together(sizes, preset.audio)
        blocks = sum(map(len, sizes.resblock_dilations))
        layers += sizes.flow_steps * sizes.flow_layers + len(sizes.upsample_rates) * blocks
    if not fits:
        raise ValueError("the sizes of its networks do not fit together")
    if layers > _MAX_ALL_LAYERS:
        raise ValueError(f"its networks have {layers} layers")


def _fits_together(sizes: GeneratorConfig, audio: AudioConfig) -> bool:
    return (
        len(sizes.upsample_rates) == len(sizes.upsample_kernels)
        and len(sizes.resblock_kernels) == len(sizes.resblock_dilations)
        and 100 * math.prod(sizes.upsample_rates) == audio.sample_rate
        and sizes.upsample_initial_channels >> len(sizes.upsample_rates) > 0
        and sizes.hidden_channels % sizes.attention_heads == 0
        and sizes.inter_channels % 2 == 0
    )


def _check_size(field: str, value: Any) -> None:
    """Raise ValueError unless a size, or every size in nested tuples, is a possible one."""
    if isinstance(value, tuple):
        if len(value) > _MAX_LAYERS:
            raise ValueError(f"{field} has {len(value)} values")
        for item in value:
            _check_size(field, item)
    elif isinstance(value, float):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{field} is {value}")
    elif value is not None and not isinstance(value, bool):
        limit = _MAX_LAYERS if field in _LAYERS else _MAX_SIZE
        # 192 kHz is the highest rate of any recording.
        limit = 192_000 if field == "sample_rate" else limit
        if not 0 < value <= limit:
            raise ValueError(f"{field} is {value}")
