"""The index of a run is made when it is needed."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_runs import make_run
from reporting import KeepingReporter

from rvc_jax.data.dataset import load_dataset, open_dataset, read_info
from rvc_jax.data.index_rows import collect_index_rows
from rvc_jax.runs import retrieval
from rvc_jax.runs.folder import RunFolder
from rvc_jax.voices.model import VoiceModel


@pytest.fixture
def run(sample_dataset: Path, tmp_path: Path) -> RunFolder:
    """A run on a copy of the sample that was stopped before it had an index."""
    dataset = shutil.copytree(sample_dataset, tmp_path / "dataset")
    made = make_run(tmp_path / "run")
    (made.path / "index.npy").unlink()
    run = dataclasses.replace(made, dataset=read_info(dataset), dataset_path=dataset)
    run.write()
    return run


def test_it_is_made_when_the_voice_is_opened(run: RunFolder, sample_dataset: Path) -> None:
    expected = collect_index_rows(load_dataset(sample_dataset))
    assert not run.has_index
    model = VoiceModel.from_run(run)
    np.testing.assert_array_equal(model.index, expected)
    assert not model.notes
    shutil.rmtree(run.dataset_path)  # needed once
    np.testing.assert_array_equal(VoiceModel.from_run(run).index, expected)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (None, "not on this machine"),
        ("gs://bucket/dataset", "not on this machine"),
        ("//server/share", "not on this machine"),
        ("\\\\server\\share", "not on this machine"),
        ("missing", "can't be made"),
    ],
)
def test_without_the_dataset_the_voice_says_why_it_has_none(
    run: RunFolder, place: str | None, reason: str, tmp_path: Path
) -> None:
    if place == "missing":
        place = str(tmp_path / "missing")
    model = VoiceModel.from_run(dataclasses.replace(run, dataset_path=place))
    assert model.index is None
    assert reason in model.notes[0] and "\n" not in model.notes[0]


def test_another_dataset_in_its_place_is_not_taken(run: RunFolder) -> None:
    other = dataclasses.replace(run.dataset, fingerprint="0" * 64)
    index, reason = retrieval.read_or_make_index(dataclasses.replace(run, dataset=other))
    assert index is None and "another dataset now" in reason


def test_a_run_that_goes_on_with_another_dataset_loses_the_old_index(run: RunFolder) -> None:
    run.write_index(np.ones((3, 4), np.float32))
    run.write()
    assert run.has_index  # the same dataset: an index of an older version stays
    dataclasses.replace(
        run, dataset=dataclasses.replace(run.dataset, fingerprint="0" * 64)
    ).write()
    assert not run.has_index


def test_an_index_that_cannot_be_written_ends_no_training(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "write_index", refuse)
    reporter = KeepingReporter()
    with open_dataset(run.dataset_path, 0) as data:
        retrieval.write_index(run, data, reporter)
    assert "No space left" in reporter.messages[0]
    assert retrieval.read_or_make_index(run)[0] is not None  # without being stored
