"""Checkpoints: written by Orbax, complete or not at all; their hashes are checked when they are
read."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from rvc_jax.errors import UserError, sanitize
from rvc_jax.storage.files import file_sha256, write_json
from rvc_jax.storage.json_files import read_json

HASHES = "sha256.json"
_UNFINISHED = ".unfinished"
_STEP = re.compile("0|[1-9][0-9]{0,17}")

FieldDefaults = dict[str, Callable[[dict[str, Any]], Any]]
"""Makes the value of a field that early checkpoints lack, from the fields that were restored."""


def write(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write `folder/step`, under another name until every file and its hash is complete.

    Args:
        folder: Where the checkpoints are.
        step: Number of the checkpoint; one of the same number is replaced.
        state: NumPy arrays.

    Raises:
        Exception: The disk's error, mostly an OSError. Nothing is left of the attempt.
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
    """Return a checkpointer that does not wait for other processes."""
    process = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=process, active_processes={process})
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    # Orbax must not rename folders: some mounts can't, and the hashes say what is complete.
    in_place = ocp.path.atomicity.CommitFileTemporaryPath
    return ocp.Checkpointer(
        handler, multiprocessing_options=alone, temporary_path_class=in_place
    )


def _move(unfinished: Path, folder: Path) -> None:
    """Rename a folder, or its files one by one: some mounted object stores can't rename folders."""
    with contextlib.suppress(OSError):
        os.replace(unfinished, folder)  # noqa: PTH105  (tests replace this function)
        return
    try:
        # The hashes last: without them, a half-moved checkpoint does not count.
        for file in sorted(_list_files(unfinished), key=lambda file: file.name == HASHES):
            target = folder / file.relative_to(unfinished)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)  # noqa: PTH105
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def clear_unfinished(folder: Path) -> None:
    """Remove what a killed run has left half written."""
    for path in folder.glob(f"*{_UNFINISHED}"):
        shutil.rmtree(path, ignore_errors=True)


def read(folder: Path, template: Any, field_defaults: FieldDefaults | None = None) -> Any:
    """Read a checkpoint, and check it against its hashes.

    Args:
        folder: The checkpoint.
        template: What to read: arrays or shapes in a dataclass or dictionary. Other arrays of the
            checkpoint are left out.
        field_defaults: Makes the fields that the checkpoint lacks.

    Returns:
        The arrays in the form of the template.

    Raises:
        UserError: The checkpoint is damaged, or is of another network.
    """
    damage = verify(folder)
    if damage is not None:
        raise UserError(f"{damage}; restore it from a copy, or train again")
    return load(folder, template, field_defaults)


def load(folder: Path, template: Any, field_defaults: FieldDefaults | None = None) -> Any:
    """Read a checkpoint as `read` does, without checking the hashes."""
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
    """Return the fields of a state (a dataclass or a dictionary) by name."""
    if dataclasses.is_dataclass(state):
        return {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return dict(state)


def _check_structure(folder: Path, wanted: dict[str, Any], stored: dict[str, Any]) -> None:
    """Raise UserError for the first array that the checkpoint lacks or has in another shape."""
    there = _flatten_by_path(stored)
    for path, leaf in _flatten_by_path(wanted).items():
        if path not in there:
            raise UserError(
                f"the checkpoint {folder} has no {path}: it is of another version of rvc-jax or "
                "another network; continue it with that version, or train into another run folder"
            )
        if tuple(there[path].shape) != tuple(leaf.shape):
            raise UserError(
                f"the checkpoint {folder} has {path} in the shape {tuple(there[path].shape)}, this "
                f"is {tuple(leaf.shape)}: it is of another network; train into another run folder"
            )


def _flatten_by_path(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree by their path, such as `generator/dec.conv_pre.weight`."""

    def text(key: Any) -> str:
        # Keys of dictionaries, attributes and sequences each name it differently.
        names = ("key", "name", "idx")
        return str(next(getattr(key, name) for name in names if hasattr(key, name)))

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(map(text, path)): leaf for path, leaf in leaves}


def _place_like(value: Any, like: Any) -> Any:
    sharding = getattr(like, "sharding", None)
    return value if sharding is None else jax.device_put(value, sharding)


def verify(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint; None if all files have the hashes of when it was
    saved."""
    damaged = f"the checkpoint {folder} is damaged"
    try:
        expected = read_json(folder / HASHES, dict[str, str])
    except FileNotFoundError:
        return f"{damaged} ({HASHES} is missing)"
    except UserError:
        return f"{damaged} ({HASHES} can't be read)"
    if not expected:
        return f"{damaged} ({HASHES} is empty)"
    odd = _find_odd_file(folder)
    if odd is not None:
        return f"{damaged} ({odd} is not a plain file)"
    actual = _hash_files(folder)
    for name, digest in expected.items():
        if actual.get(name) != digest:
            state = "does not match its hash" if name in actual else "is missing"
            return f"{damaged} (file {sanitize(name)} {state})"
    for name in actual:
        if name not in expected and not Path(name).name.startswith("."):
            return f"{damaged} (file {sanitize(name)} is not of it)"
    return None


def _find_odd_file(folder: Path) -> str | None:
    """Return the name of what is neither a plain file nor a folder; None without any."""
    for path in folder.rglob("*"):
        if not (path.is_file() or path.is_dir()):
            return sanitize(path.relative_to(folder))
    return None


def list_steps(folder: Path) -> list[int]:
    """Return the steps of all checkpoints in a folder, the oldest first."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.glob("*") if _STEP.fullmatch(path.name))


def is_remote_only(folder: Path) -> bool:
    """Return whether only the hashes of a checkpoint are here, the rest at the run's URL."""
    return not (folder / "default").exists()


def find_newest(folder: Path) -> Path | None:
    """Return the folder of the newest checkpoint; None if there is none."""
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
