"""Options of the command line: those of the configurations, and those that several commands share.

A configuration's options are the fields of its dataclass in config.py, where the text under a field
is the option's help.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from rvc_jax.config import (
    PRESETS,
    STORED_NAMES,
    ClusterConfig,
    ConvertConfig,
    EvaluateConfig,
    FetchConfig,
    PrepareConfig,
    PresetName,
    ServeConfig,
    TrainConfig,
    option,
)
from rvc_jax.errors import UserError

OLD_OPTIONS = {option(old): option(name) for name, old in STORED_NAMES.items()}
"""Present name of every option that was renamed; the old names stay accepted."""

OLD_COMMANDS = {"inspect": "info"}
"""Present name of every command that was renamed."""


def replace_old_names(arguments: Sequence[str]) -> list[str]:
    """Return a command line with commands and options under their present names."""
    command = [OLD_COMMANDS.get(argument, argument) for argument in arguments[:1]]
    return command + [_replace_old_option(argument) for argument in arguments[1:]]


def _replace_old_option(argument: str) -> str:
    name, equals, value = argument.partition("=")
    present = OLD_OPTIONS.get(name.replace("_", "-"))
    return argument if present is None else present + equals + value


def read_field_help(config: type) -> dict[str, str]:
    """Return the text under every field of a dataclass, read from its source, as one line each."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for field, following in zip(definition.body, definition.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            texts[field.target.id] = " ".join(str(following.value.value).split())
    return texts


def config_argument(config: type) -> Any:
    """Return tyro's description of a configuration: an option per field, with its help.

    tyro would read the dataclass by itself, but breaks help texts at the source's line ends, and
    shows `None` as a choice.
    """
    return _build_argument(config, lambda field, kind: field.default, config)


def given_argument(config: type) -> Any:
    """Like `config_argument`, for a dict of the options that the user gave and no others.

    Where an option is not given, the preset's value holds, or the run's when it is continued.
    """

    def build(**values: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    return _build_argument(config, lambda field, kind: None, build)


def _build_argument(
    config: type,
    default_of: Callable[[dataclasses.Field, Any], Any],
    make: Callable[..., Any],
) -> Any:
    helps = read_field_help(config)
    kinds = typing.get_type_hints(config)
    parameters = []
    for field in dataclasses.fields(config):
        kind = kinds[field.name]
        default = default_of(field, kind)
        metavar = "{True,False}" if default is None and kind is bool else _metavar(kind)
        argument = tyro.conf.arg(
            help=helps[field.name],
            metavar=metavar,
            help_behavior_hint=_default_hint(field, default),
        )
        annotation: Any = Annotated[kind if default is not None else kind | None, argument]
        parameters.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=annotation,
            )
        )

    def construct(**values: Any) -> Any:
        return make(**values)

    # tyro reads a constructor's options from its signature.
    function: Any = construct
    function.__doc__ = config.__doc__
    function.__annotations__ = {each.name: each.annotation for each in parameters}
    function.__signature__ = inspect.Signature(parameters)
    return tyro.conf.arg(constructor=function)


def _metavar(kind: Any) -> str | None:
    """Return what stands for a value in the help; None for tyro's choice."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    if typing.get_origin(kind) is Literal:
        return f"{{{','.join(map(str, typing.get_args(kind)))}}}"
    return {str: "TEXT", int: "INT", float: "FLOAT", Path: "PATH"}.get(kind)


def _default_hint(field: dataclasses.Field, default: Any) -> str | None:
    """Return how the help states the default; None for tyro's way."""
    if default is None and field.default is not None:
        return _preset_defaults(field.name)  # the training's: presets differ
    is_stated = default is not None and default is not False and default != ""
    return None if is_stated else ""


def _preset_defaults(name: str) -> str:
    """Return the default of a training option, and the presets in which it is another."""
    presets: dict[Any, list[str]] = {}
    for preset in PRESETS.values():
        presets.setdefault(getattr(preset.train, name), []).append(preset.name)
    common, *others = sorted(presets, key=lambda value: -len(presets[value]))
    if common == "" and not others:
        return ""
    exceptions = [f"; {', '.join(presets[value])}: {value}" for value in others]
    return f"(default: {common}{''.join(exceptions)})"


Fetching = Annotated[FetchConfig, config_argument(FetchConfig)]
Preparation = Annotated[PrepareConfig, config_argument(PrepareConfig)]
Training = Annotated[dict[str, Any], given_argument(TrainConfig)]
Cluster = Annotated[ClusterConfig, config_argument(ClusterConfig)]
Conversion = Annotated[ConvertConfig, config_argument(ConvertConfig)]
Service = Annotated[ServeConfig, config_argument(ServeConfig)]
Measurement = Annotated[EvaluateConfig, config_argument(EvaluateConfig)]

RunArgument = Annotated[Positional[str], tyro.conf.arg(metavar="RUN")]
DatasetArgument = Annotated[Positional[str], tyro.conf.arg(metavar="DATASET")]
"""A folder, or a URL that fsspec knows (gs://, s3://)."""

Which = Literal["best", "latest"]
Preset = Annotated[
    PresetName | None,
    tyro.conf.arg(metavar=f"{{{','.join(PRESETS)}}}", help_behavior_hint=""),
]
OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
OptionalFloat = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]
OptionalPlace = Annotated[str | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]
"""A path, or a URL that fsspec knows."""

Encoder = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="NAME",
        help="Content encoder that the voice was trained with, where its file is wrong about it or "
        "its folder has moved: a name from `rvc-jax prepare --help`, a folder or file of a HuBERT "
        "model, or OWNER/NAME on the Hugging Face hub.",
        help_behavior_hint="",
    ),
]
Member = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="NAME",
        help="Name of the voice's file, in an archive or a folder that holds several.",
        help_behavior_hint="",
    ),
]
Text = Annotated[str, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
OptionalText = Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
Flag = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]
Json = Annotated[
    bool, tyro.conf.arg(name="json", help="Print the result as JSON.", help_behavior_hint="")
]


def unwrap_docstring(command: Callable[..., int]) -> Callable[..., int]:
    """Join the wrapped lines of a command's docstring, where tyro would keep the line ends."""
    text, heading, arguments = inspect.cleandoc(command.__doc__ or "").partition("\n\nArgs:\n")
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    command.__doc__ = "\n\n".join(paragraphs) + heading + re.sub(r"\n {8,}", " ", arguments)
    return command


def check_output_file(path: Path) -> None:
    """Check, before the work, that a file can be written there. Raises UserError."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UserError(f"{path} cannot be written: name a file in a folder that exists")
