"""Options of the command line that are not a configuration as it stands."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from rvc_jax.config import PRESETS, STORED_NAMES, PresetName, TrainConfig, option

Run = Annotated[Positional[str], tyro.conf.arg(metavar="RUN")]
Source = Annotated[Positional[Path], tyro.conf.arg(metavar="SOURCE")]
Place = Annotated[Positional[str], tyro.conf.arg(metavar="DATASET")]
"""A folder, or a URL that fsspec knows (gs://, s3://)."""
Out = Annotated[Positional[Path], tyro.conf.arg(metavar="OUT")]
Which = Literal["best", "latest"]
Preset = Annotated[
    PresetName | None, tyro.conf.arg(metavar=f"{{{','.join(PRESETS)}}}", help_behavior_hint="")
]
OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
OptionalPlace = Annotated[str | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]
AtEnd = Annotated[str, tyro.conf.arg(metavar="nothing|exit|shutdown|COMMAND")]
Json = Annotated[bool, tyro.conf.arg(name="json", help="Print the result as JSON.")]


OLD_OPTIONS = {option(old): option(name) for name, old in STORED_NAMES.items()}
"""Options under their old spellings, which stay accepted, and under the present ones."""


def replace_old_options(arguments: Sequence[str]) -> list[str]:
    """Return the command line with every old option (`--normalisation`) under its present name."""
    return [_replace_old_option(argument) for argument in arguments]


def _replace_old_option(argument: str) -> str:
    name, equals, value = argument.partition("=")
    present = OLD_OPTIONS.get(name.replace("_", "-"))
    return argument if present is None else present + equals + value


def read_field_help(config: type) -> dict[str, str]:
    """The text under every field of a dataclass, from its source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(config))).body[0].body
    texts = {}
    for field, following in zip(body, body[1:], strict=False):
        is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and is_text:
            texts[field.target.id] = inspect.cleandoc(following.value.value)
    return texts


def _train_options() -> type:
    """TrainConfig with None for what was not given: then the preset's value holds, or the run's
    when it continues."""
    helps = read_field_help(TrainConfig)
    types = typing.get_type_hints(TrainConfig)
    fields = []
    for field in dataclasses.fields(TrainConfig):
        choices = typing.get_args(types[field.name])
        metavar = f"{{{','.join(choices)}}}" if choices else types[field.name].__name__.upper()
        hint = f"({_defaults(field.name)})"
        argument = tyro.conf.arg(
            help=helps.get(field.name), help_behavior_hint=hint, metavar=metavar
        )
        annotation = Annotated[types[field.name] | None, argument]
        fields.append((field.name, annotation, dataclasses.field(default=None)))
    return dataclasses.make_dataclass(
        "TrainOptions", fields, frozen=True, namespace={"__doc__": TrainConfig.__doc__}
    )


def _defaults(name: str) -> str:
    """What holds if the option is not given."""
    presets: dict[Any, list[str]] = {}
    for preset in PRESETS.values():
        presets.setdefault(getattr(preset.train, name), []).append(preset.name)
    common, *others = sorted(presets, key=lambda value: -len(presets[value]))
    return f"default: {common}" + "".join(
        f"; {', '.join(presets[value])}: {value}" for value in others
    )


TrainOptions = _train_options()
