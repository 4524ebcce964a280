"""Checkpoints without a run: which are kept, what an older or another one lacks, what a kill leaves."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvc_jax import checkpoint
from rvc_jax.errors import UserError
from rvc_jax.train.saving import Checkpoints


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Old:
    step: jax.Array
    weights: dict[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class New(Old):
    average: dict[str, jax.Array]


def old(step: int) -> Old:
    return Old(jnp.int32(step), {"w": jnp.full((3, 4), step, jnp.float32)})


def saved(folder: Path, steps: range | list[int], **options: int) -> Checkpoints:
    checkpoints = Checkpoints(folder, **options)
    for step in steps:
        checkpoints.save(step, old(step))
    checkpoints.finish()
    return checkpoints


def test_the_newest_few_and_every_so_many_are_kept(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, range(0, 90, 10), keep=2, keep_every=30)
    assert checkpoint.steps(tmp_path) == [30, 60, 70, 80]
    checkpoints.save(40, old(40))  # the run went back: what came later is another future's
    checkpoints.finish()
    assert checkpoint.steps(tmp_path) == [30, 40]


def test_what_a_kill_left_half_written_is_no_checkpoint(tmp_path: Path) -> None:
    saved(tmp_path, [1], keep=2)
    (tmp_path / "2.unfinished" / "default").mkdir(parents=True)
    state, damages = Checkpoints(tmp_path, keep=2).restore(old(0))
    assert (int(state.step), damages, [path.name for path in tmp_path.iterdir()]) == (1, [], ["1"])
    (tmp_path / "1" / "sha256.json").unlink()
    with pytest.raises(UserError, match="sha256.json is missing.*no intact checkpoint is left"):
        Checkpoints(tmp_path, keep=2).restore(old(0))


def test_an_older_form_is_filled_up_or_refused_by_name(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, [5], keep=2)
    template = New(jnp.int32(0), {"w": jnp.zeros((3, 4))}, {"w": jnp.zeros((3, 4))})
    with pytest.raises(UserError, match="has no average/w: it is of another version"):
        checkpoints.restore(template)
    state, _ = checkpoints.restore(template, {"average": lambda fields: jax.tree.map(jnp.copy, fields["weights"])})
    assert isinstance(state, New) and np.array_equal(state.average["w"], np.full((3, 4), 5.0))
    with pytest.raises(UserError, match=r"has weights/w in the shape \(3, 4\), this is \(2, 4\)"):
        checkpoints.restore(Old(jnp.int32(0), {"w": jnp.zeros((2, 4))}))
