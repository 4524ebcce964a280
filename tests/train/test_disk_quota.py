"""The room of a run's folder: what goes for it, what is refused, and that it is never exceeded
during a save."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import pytest
from micro import MICRO
from reporting import KeepingReporter

from rvc_jax.config import TrainConfig
from rvc_jax.errors import UserError
from rvc_jax.runs import checkpoint
from rvc_jax.runs.mirror import Mirror
from rvc_jax.storage import places
from rvc_jax.storage.files import folder_bytes
from rvc_jax.train import disk_quota as space_module
from rvc_jax.train.checkpointing import CheckpointManager
from rvc_jax.train.disk_quota import DiskQuota
from rvc_jax.train.loop import train
from rvc_jax.train.resume import check_recipe

MEGABYTES = 4
"""Size of a checkpoint in these tests; random numbers are hardly compressed."""


@pytest.fixture
def small_reserves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space_module, "_RESERVE", 1e5)
    monkeypatch.setattr(space_module, "_FILES", 1e5)


class Watch:
    """The most bytes that a folder had while the context lasted."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.most = 0
        self._over = threading.Event()

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            self.most = max(self.most, folder_bytes(self.folder))
            time.sleep(0.001)


def state(step: int, megabytes: int = MEGABYTES) -> dict[str, np.ndarray]:
    return {
        "w": np.random.default_rng(step).standard_normal(megabytes * 250_000).astype(np.float32)
    }


def saved(
    run: Path, steps: list[int], megabytes: float, keep: int, every: int
) -> tuple[list[str], int]:
    """What was said and the most that the folder took, after saving a voice before every
    checkpoint."""
    reporter = KeepingReporter()
    recipe = TrainConfig(max_gigabytes=megabytes / 1000, keep_checkpoints=keep)
    quota = DiskQuota(run, recipe, reporter)
    checkpoints = CheckpointManager(run / "checkpoints", keep, every, quota=quota)
    best = CheckpointManager(run / "best", keep=1, quota=quota)
    with Watch(run) as watch:
        for step in steps:
            best.save(step, state(step, 1))
            checkpoints.save(step, state(step))
        checkpoints.finish()
        best.finish()
    checkpoints.close()
    best.close()
    return reporter.messages, watch.most


@pytest.mark.usefixtures("small_reserves")
@pytest.mark.parametrize(
    ("megabytes", "left"),
    [
        (60, [10, 20, 30, 40, 50, 60]),
        (18, [30, 40, 50, 60]),
        (14.5, [40, 50, 60]),
        (10.5, [50, 60]),
    ],
)
def test_the_oldest_go_first_down_to_the_one_before_the_new(
    tmp_path: Path, megabytes: float, left: list
) -> None:
    said, most = saved(tmp_path, [10, 20, 30, 40, 50, 60], megabytes, keep=3, every=10)
    assert checkpoint.list_steps(tmp_path / "checkpoints") == left
    assert all(checkpoint.verify(tmp_path / "checkpoints" / str(step)) is None for step in left)
    assert checkpoint.list_steps(tmp_path / "best") == [60]
    assert MEGABYTES * 1e6 < most <= megabytes * 1e6
    assert len(said) == (megabytes < 60)


@pytest.mark.usefixtures("small_reserves")
def test_no_room_for_two_is_said_and_the_first_stands(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"step 20 does not fit in the 0.008 GB .* would take 0.01 GB; the previous",
    ):
        saved(tmp_path, [10, 20], 8, keep=2, every=0)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["10"]


@pytest.mark.usefixtures("small_reserves")
@pytest.mark.parametrize("every", [1, 2, 3])
def test_the_room_at_a_url_is_kept_to_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    """However far the URL is behind, and never without a checkpoint there."""
    url = "memory://space/run"
    limit = 10.5e6
    sizes = []
    mirror = Mirror(url, tmp_path)
    mirror.list_remote()
    put = places.put
    discard = places.discard
    had_one = False

    def watched(act: Callable, *arguments: object) -> None:
        nonlocal had_one
        act(*arguments)
        there = places.list_versions(url)
        sizes.append(sum(entry.bytes for entry in there.values()))
        has_one = any(
            name.startswith("checkpoints/") and name.endswith("sha256.json") for name in there
        )
        assert has_one or not had_one
        had_one = has_one

    monkeypatch.setattr(places, "put", lambda *arguments: watched(put, *arguments))
    monkeypatch.setattr(places, "discard", lambda *arguments: watched(discard, *arguments))
    for first in range(0, 60, 10 * every):
        saved(
            mirror.run, list(range(first, first + 10 * every, 10)), limit / 1e6, keep=3, every=0
        )
        assert mirror.push() == 0
    there = places.list_versions(url)
    assert (
        MEGABYTES * 1.5e6 < max(sizes) <= limit
        and sum(entry.bytes for entry in there.values()) <= limit
    )
    fsspec.filesystem("memory").rm("/space", recursive=True)


@pytest.mark.usefixtures("small_reserves")
def test_checkpoints_of_which_only_the_hashes_are_here_count_as_whole(tmp_path: Path) -> None:
    saved(tmp_path, [10, 20, 30], 60, keep=3, every=0)
    for step in ("10", "20"):
        shutil.rmtree(tmp_path / "checkpoints" / step / "default")
    saved(tmp_path, [40], 16, keep=4, every=0)
    assert checkpoint.list_steps(tmp_path / "checkpoints") == [20, 30, 40]


def test_a_limit_is_at_least_zero() -> None:
    with pytest.raises(UserError, match="--max-gigabytes must be at least 0, not -1"):
        check_recipe(dataclasses.replace(TrainConfig(), max_gigabytes=-1))


def test_a_run_that_cannot_fit_is_refused_and_with_the_named_size_it_fits(
    sample_dataset: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = {"epochs": 3, "save_every": 1, "evaluate_every": 1, "precision": "float32"}
    with pytest.raises(
        UserError, match=r"--max-gigabytes 0.01 is too little .* need (\S+) GB"
    ) as refused:
        train(sample_dataset, run, MICRO, {"max_gigabytes": 0.01, **options})
    assert not run.exists()
    needed = float(str(refused.value).split()[-2])
    with Watch(run) as watch:
        train(sample_dataset, run, MICRO, {"max_gigabytes": needed, **options, "keep_every": 1})
    assert 1e6 < watch.most <= needed * 1e9
    assert (
        checkpoint.list_steps(run / "checkpoints")[-1]
        == checkpoint.list_steps(run / "best")[-1]
    )


def test_a_mount_that_tells_of_no_size_is_not_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: SimpleNamespace(total=0, used=0, free=0)
    )
    saved(tmp_path, [10], 0, keep=1, every=0)
    assert checkpoint.list_steps(tmp_path / "checkpoints") == [10]
