"""Checkpoints: saved by Orbax in the background, complete or not at all, and checked against their hashes when read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from rvc_jax.errors import UserError
from rvc_jax.files import file_sha256, write_json

_HASHES = "sha256.json"


class Checkpoints:
    """A folder of numbered checkpoints, the newest few of which are kept."""

    def __init__(self, folder: Path, keep: int):
        self.folder = folder
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._hash_finished),
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, step: int, state: Any) -> None:
        """Starts saving; the arrays may be donated as soon as this returns. Saving a step again does nothing."""
        if step not in self._manager.all_steps():
            self._check_space(sum(leaf.nbytes for leaf in jax.tree.leaves(state)))
            self._run(lambda: self._manager.save(step, args=ocp.args.StandardSave(state)))

    def finish(self) -> None:
        """Waits until everything is on disk."""
        self._run(self._manager.wait_until_finished)
        self._hash_finished()

    def restore(self, template: Any) -> tuple[Any, list[str]] | None:
        """The newest intact checkpoint in the form of `template`, and a sentence for each damaged one passed over.

        Damaged ones that an intact one stands in for are removed: their steps will be saved again. None if there is no
        checkpoint at all.

        Raises:
          UserError: if there are checkpoints and every one is damaged.
        """
        damages: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            damage = verify(self.folder / str(step))
            if damage is None:
                for damaged in damages:
                    self._manager.delete(damaged)
                return _load(self.folder / str(step), template), list(damages.values())
            damages[step] = damage
        if damages:
            newest_damage = next(iter(damages.values()))
            raise UserError(f"{newest_damage}; no intact checkpoint is left: train again into another run folder")
        return None

    def close(self) -> None:
        self._manager.close()

    def _hash_finished(self) -> None:
        for folder in self.folder.iterdir():
            if folder.name.isdigit() and not (folder / _HASHES).exists():
                write_json(folder / _HASHES, _hashes(folder))

    def _check_space(self, needed: int) -> None:
        """Refuses what won't fit before it is begun: the storage library's own complaints come from other threads."""
        if shutil.disk_usage(self.folder).free < 1.2 * needed:
            raise self._disk_full()

    def _run(self, action: Any) -> None:
        """Runs a saving action; a full disk becomes one clear line. What was saved before stands."""
        try:
            action()
        except Exception as error:
            if shutil.disk_usage(self.folder).free < 1 << 20 or "No space left" in str(error):
                raise self._disk_full() from error
            raise

    def _disk_full(self) -> UserError:
        return UserError(
            f"disk full: the checkpoint does not fit in {self.folder}; the previous one stands. "
            "Free some space and run the same command again"
        )


def read(folder: Path, template: Any) -> Any:
    """The arrays of one checkpoint that `template` (arrays or shapes) names.

    Raises:
      UserError: if the checkpoint is damaged or holds something else.
    """
    damage = verify(folder)
    if damage is not None:
        raise UserError(f"{damage}; restore it from a copy, or train again")
    return _load(folder, template)


def _load(folder: Path, template: Any) -> Any:
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
    restore = ocp.args.PyTreeRestore(
        shapes, restore_args=ocp.checkpoint_utils.construct_restore_args(shapes), partial_restore=True
    )
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            return checkpointer.restore(folder.absolute() / "default", restore)
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise UserError(f"the checkpoint {folder} can't be read as this run's: {reason}") from error


def verify(folder: Path) -> str | None:
    """None if every file of the checkpoint has the hash it was saved with, else what is wrong."""
    try:
        expected = json.loads((folder / _HASHES).read_text())
    except FileNotFoundError:
        return (
            None  # saved, but the run was killed before it could be hashed: Orbax's own marks say that it is complete
        )
    except ValueError:
        return f"the checkpoint {folder} is damaged ({_HASHES} can't be read)"
    actual = _hashes(folder)
    for name, digest in expected.items():
        if actual.get(name) != digest:
            state = "does not match its hash" if name in actual else "is missing"
            return f"the checkpoint {folder} is damaged (file {name} {state})"
    return None


def newest(folder: Path) -> Path | None:
    """The folder of the newest checkpoint."""
    steps = [path for path in folder.glob("*") if path.name.isdigit()] if folder.is_dir() else []
    return max(steps, key=lambda path: int(path.name), default=None)


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _HASHES)
    return {str(path.relative_to(folder)): file_sha256(path) for path in files}
