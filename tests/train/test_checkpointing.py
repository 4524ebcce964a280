"""Checkpoints without a run: which are kept, what an older or another one lacks, what a kill
leaves."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reporting import KeepingReporter

from rvc_jax.errors import UserError
from rvc_jax.runs import checkpoint
from rvc_jax.train.checkpointing import CheckpointManager


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


def saved(folder: Path, steps: range | list[int], **options: int) -> CheckpointManager:
    checkpoints = CheckpointManager(folder, **options)
    for step in steps:
        checkpoints.save(step, old(step))
    checkpoints.finish()
    return checkpoints


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, Callable[[], None]]:
    """A disk that writes when the event is set, and what waits until it has begun to."""
    write = checkpoint.write
    free = threading.Event()
    begun = threading.Event()

    def slow(*arguments: Any) -> None:
        begun.set()
        assert free.wait(60)
        write(*arguments)

    monkeypatch.setattr(checkpoint, "write", slow)
    return free, lambda: begun.wait(60)


def test_the_newest_few_and_every_so_many_are_kept(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, range(0, 90, 10), keep=2, keep_every=30)
    assert checkpoint.list_steps(tmp_path) == [30, 60, 70, 80]
    checkpoints.save(40, old(40))  # the run went back: what came later is another future's
    checkpoints.finish()
    assert checkpoint.list_steps(tmp_path) == [30, 40]


def test_the_training_does_not_wait_for_a_slow_disk_and_the_newest_is_saved(
    tmp_path: Path, disk: Any
) -> None:
    (free, begun) = disk
    reporter = KeepingReporter()
    checkpoints = CheckpointManager(tmp_path, keep=5, reporter=reporter)
    checkpoints.save(10, old(10))
    begun()
    for step in (20, 30, 40):
        checkpoints.save(step, old(step))
    assert checkpoint.list_steps(tmp_path) == []
    free.set()
    checkpoints.finish()
    assert checkpoint.list_steps(tmp_path) == [10, 40]
    assert np.array_equal(checkpoints.restore(old(0))[0].weights["w"], np.full((3, 4), 40.0))
    (text,) = reporter.messages
    assert text.startswith("step 30: ") and "that of step 20 is left out" in text


def test_what_is_kept_for_good_is_waited_for(tmp_path: Path, disk: Any) -> None:
    free, begun = disk
    checkpoints = CheckpointManager(tmp_path, keep=1, keep_every=20)
    checkpoints.save(10, old(10))
    begun()
    checkpoints.save(20, old(20))
    third = threading.Thread(target=lambda: checkpoints.save(30, old(30)))
    third.start()
    third.join(1.5)
    assert third.is_alive()
    free.set()
    third.join(60)
    checkpoints.finish()
    assert checkpoint.list_steps(tmp_path) == [20, 30]


def test_what_a_kill_left_half_written_is_no_checkpoint(tmp_path: Path) -> None:
    saved(tmp_path, [1], keep=2)
    (tmp_path / "2.unfinished" / "default").mkdir(parents=True)
    state, damages = CheckpointManager(tmp_path, keep=2).restore(old(0))
    assert (int(state.step), damages, [path.name for path in tmp_path.iterdir()]) == (
        1,
        [],
        ["1"],
    )
    (tmp_path / "1" / "sha256.json").unlink()
    with pytest.raises(UserError, match="sha256.json is missing.*no intact checkpoint is left"):
        CheckpointManager(tmp_path, keep=2).restore(old(0))


def test_an_older_form_is_filled_up_or_refused_by_name(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, [5], keep=2)
    template = New(jnp.int32(0), {"w": jnp.zeros((3, 4))}, {"w": jnp.zeros((3, 4))})
    with pytest.raises(UserError, match="has no average/w: it is of another version"):
        checkpoints.restore(template)
    state, _ = checkpoints.restore(
        template, {"average": lambda fields: jax.tree.map(jnp.copy, fields["weights"])}
    )
    assert isinstance(state, New) and np.array_equal(state.average["w"], np.full((3, 4), 5.0))
    with pytest.raises(
        UserError, match=r"has weights/w in the shape \(3, 4\), this is \(2, 4\)"
    ):
        checkpoints.restore(Old(jnp.int32(0), {"w": jnp.zeros((2, 4))}))
