"""Checkpoints: written by Orbax, complete or not at all, and checked against their hashes when
read."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from rvc_jax.errors import UserError
from rvc_jax.storage.files import file_sha256, write_json

HASHES = "sha256.json"
_UNFINISHED = ".unfinished"

FieldDefaults = dict[str, Callable[[dict[str, Any]], Any]]
"""By field: its value for checkpoints made before there was such a field, from the fields that were
restored."""


def write(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Writes `folder/step`: under another name first, until every file and its hash is there.

    state: NumPy arrays. Raises whatever the disk does; nothing is left of the attempt then.
    """
    unfinished = folder / f"{step}{_UNFINISHED}"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        with _checkpointer() as checkpointer:
            checkpointer.save(unfinished.absolute() / "default", ocp.args.PyTreeSave(state))
        write_json(unfinished / HASHES, _hash_files(unfinished))
        _move(unfinished, folder / str(step))
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _checkpointer() -> ocp.Checkpointer:
    """One that waits for no other process."""
    process = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=process, active_processes={process})
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    in_place = (
        ocp.path.atomicity.CommitFileTemporaryPath
    )  # Orbax renames no folder: the hashes say what is whole
    return ocp.Checkpointer(
        handler, multiprocessing_options=alone, temporary_path_class=in_place
    )


def _move(unfinished: Path, folder: Path) -> None:
    """Renames a folder. Some mounted clouds can only rename files: then the hashes come last, and
    say if one lacks."""
    with contextlib.suppress(OSError):
        os.replace(unfinished, folder)
        return
    try:
        for file in sorted(_list_files(unfinished), key=lambda file: file.name == HASHES):
            target = folder / file.relative_to(unfinished)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def clear_unfinished(folder: Path) -> None:
    """Removes what a killed run has left half written."""
    for path in folder.glob(f"*{_UNFINISHED}"):
        shutil.rmtree(path, ignore_errors=True)


def read(folder: Path, template: Any, field_defaults: FieldDefaults | None = None) -> Any:
    """The arrays of one checkpoint that `template` (arrays or shapes) names.

    field_defaults: makes the fields that the checkpoint lacks.

    Raises:
      UserError: if the checkpoint is damaged or holds something else.
    """
    damage = verify(folder)
    if damage is not None:
        raise UserError(f"{damage}; restore it from a copy, or train again")
    return load(folder, template, field_defaults)


def load(folder: Path, template: Any, field_defaults: FieldDefaults | None = None) -> Any:
    """`read` without looking at the hashes."""
    path = folder.absolute() / "default"
    field_defaults = field_defaults or {}
    wanted = {name: value for name, value in fields(template).items() if value is not None}
    try:
        with _checkpointer() as checkpointer:
            stored = checkpointer.metadata(path).item_metadata.tree
            lacking = {
                name: wanted.pop(name)
                for name in field_defaults
                if name in wanted and name not in stored
            }
            _check_structure(folder, wanted, stored)
            shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted)
            arguments = ocp.checkpoint_utils.construct_restore_args(shapes)
            restore = ocp.args.PyTreeRestore(
                shapes, restore_args=arguments, partial_restore=True
            )
            values = checkpointer.restore(path, restore)
    except UserError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise UserError(
            f"the checkpoint {folder} can't be read as this run's: {reason}"
        ) from error
    for name, like in lacking.items():
        values[name] = jax.tree.map(_place_like, field_defaults[name](values), like)
    return type(template)(**values) if dataclasses.is_dataclass(template) else values


def fields(state: Any) -> dict[str, Any]:
    """The fields of a state (a dataclass or a dictionary) by name."""
    if dataclasses.is_dataclass(state):
        return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return dict(state)


def _check_structure(folder: Path, wanted: dict[str, Any], stored: dict[str, Any]) -> None:
    """Raises UserError with the first array that the checkpoint lacks, or has in another shape."""
    there = _flatten_by_path(stored)
    for path, leaf in _flatten_by_path(wanted).items():
        if path not in there:
            raise UserError(
                f"the checkpoint {folder} has no {path}: it is of another version of rvc-jax or another network; "
                "continue it with that version, or train into another run folder"
            )
        if tuple(there[path].shape) != tuple(leaf.shape):
            raise UserError(
                f"the checkpoint {folder} has {path} in the shape {tuple(there[path].shape)}, this is "
                f"{tuple(leaf.shape)}: it is of another network; train into another run folder"
            )


def _flatten_by_path(tree: Any) -> dict[str, Any]:
    def text(key: Any) -> str:
        return str(
            next(getattr(key, name) for name in ("key", "name", "idx") if hasattr(key, name))
        )

    return {
        "/".join(map(text, path)): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def _place_like(value: Any, like: Any) -> Any:
    sharding = getattr(like, "sharding", None)
    return value if sharding is None else jax.device_put(value, sharding)


def verify(folder: Path) -> str | None:
    """None if every file of the checkpoint has the hash it was saved with, else what is wrong."""
    try:
        expected = json.loads((folder / HASHES).read_text())
    except FileNotFoundError:
        return f"the checkpoint {folder} is damaged ({HASHES} is missing)"
    except ValueError:
        return f"the checkpoint {folder} is damaged ({HASHES} can't be read)"
    actual = _hash_files(folder)
    for name, digest in expected.items():
        if actual.get(name) != digest:
            state = "does not match its hash" if name in actual else "is missing"
            return f"the checkpoint {folder} is damaged (file {name} {state})"
    return None


def list_steps(folder: Path) -> list[int]:
    """The steps of all checkpoints in a folder, the oldest first."""
    return (
        sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())
        if folder.is_dir()
        else []
    )


def is_remote_only(folder: Path) -> bool:
    """Whether only the hashes of a checkpoint are here: it stands for one that is in the cloud (see
    `mirror`)."""
    return not (folder / "default").exists()


def find_newest(folder: Path) -> Path | None:
    """The folder of the newest checkpoint."""
    found = list_steps(folder)
    return folder / str(found[-1]) if found else None


def _hash_files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): file_sha256(path)
        for path in _list_files(folder)
        if path.name != HASHES
    }


def _list_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
