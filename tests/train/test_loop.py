"""Whole runs on a little real speech."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from micro import MICRO
from reporting import KeepingReporter

from rvc_jax.config import PRESETS
from rvc_jax.data.dataset import VoiceDataset, load_dataset
from rvc_jax.errors import UserError
from rvc_jax.reporter import SILENT
from rvc_jax.runs import checkpoint
from rvc_jax.runs.folder import RunFolder
from rvc_jax.runs.history import best_evaluation
from rvc_jax.runs.lock import lock_run
from rvc_jax.train import checkpointing, loop

SETTINGS = {
    "epochs": 3,
    "save_every": 1,
    "evaluate_every": 1,
    "log_every": 1,
    "precision": "float32",
}

train = functools.partial(loop.train, preset=MICRO)


@pytest.fixture(scope="module")
def finished(sample_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    result = train(sample_dataset, run, overrides=SETTINGS)
    assert (result.interrupted, result.resumed_from, result.epochs) == (False, 0, 3)
    return run


def newest_state(run: Path) -> dict[str, np.ndarray]:
    network, parameters = RunFolder.open(run).load_generator("latest")
    assert set(parameters) == set(network.shapes)
    return {name: np.asarray(value) for name, value in parameters.items()}


def test_a_run_learns_and_keeps_what_it_promises(finished: Path) -> None:
    history = RunFolder.open(finished).history()
    assert all(np.isfinite(line["loss/mel"]) for line in history if "loss/mel" in line)
    holdout = [line["holdout/mel"] for line in history if "holdout/mel" in line]
    assert len(holdout) == 4 and min(holdout[1:]) < holdout[0]
    assert len(list((finished / "checkpoints").glob("*"))) == MICRO.train.keep_checkpoints
    best = holdout.index(min(holdout)) * (history[-1]["step"] // 3)
    assert checkpoint.find_newest(finished / "best").name == str(best)
    assert list((finished / "metrics").glob("events.*"))
    index = RunFolder.open(finished).index()
    assert index.dtype == np.float16 and index.shape[1] == 384


def test_interrupted_by_ctrl_c_and_continued_is_the_same_run(
    finished: Path, sample_dataset: Path, tmp_path: Path
) -> None:
    def interrupt(step: float) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    reporter = KeepingReporter(on_progress=interrupt)
    # From disk, although the other run has its windows in memory: nothing may differ.
    settings = SETTINGS | {"memory_gigabytes": 1e-9}
    first = train(sample_dataset, tmp_path / "run", overrides=settings, reporter=reporter)
    assert any("read from disk" in text for text in reporter.messages)
    assert first.interrupted and 2 <= first.steps <= 3
    second = train(sample_dataset, tmp_path / "run", overrides=SETTINGS)
    assert (second.resumed_from, second.interrupted) == (first.steps, False)
    whole = newest_state(finished)
    continued = newest_state(tmp_path / "run")
    assert all(np.array_equal(whole[name], continued[name]) for name in whole)
    steps = [
        line["step"]
        for line in RunFolder.open(tmp_path / "run").history()
        if "loss/mel" in line
    ]
    assert steps == sorted(set(steps))
    indexes = [RunFolder.open(run).index() for run in (finished, tmp_path / "run")]
    np.testing.assert_array_equal(*indexes)


def test_another_dataset_begins_everything_that_belongs_to_it_anew(
    sample_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    settings = SETTINGS | {"patience": 2}
    before = train(sample_dataset, run, overrides=settings | {"epochs": 2})
    speech = load_dataset(sample_dataset)

    def go_on(data: VoiceDataset) -> list[str]:
        monkeypatch.setattr(loop, "open_dataset", lambda *_: contextlib.nullcontext(data))
        reporter = KeepingReporter()
        train(sample_dataset, run, overrides=settings | {"epochs": 4}, reporter=reporter)
        return [text for text in reporter.messages if "the dataset has changed" in text]

    # Noise is harder than any speech: no score comes near those on the other hold-out.
    noise = np.random.default_rng(0).integers(-9000, 9000, speech.holdout.wave.shape, np.int16)
    holdout = dataclasses.replace(speech.holdout, wave=noise)
    assert go_on(dataclasses.replace(speech, holdout=holdout))
    folder = RunFolder.open(run)
    lines = [line for line in folder.history() if "holdout/mel" in line]
    assert len(lines) == 3 and lines[0]["step"] == before.steps  # measured before it goes on
    best = best_evaluation(folder.history())
    assert best in lines and checkpoint.find_newest(run / "best").name == str(best["step"])
    _, after = folder.datasets()
    assert after["step"] == before.steps
    # The same speech at another place, in shards of another order, is the same dataset.
    order = slice(None, None, -1)
    arrays = ("wave", "content", "f0", "lengths", "speaker", "source", "start")
    moved = dataclasses.replace(
        holdout, **{name: getattr(holdout, name)[order] for name in arrays}
    )
    assert not go_on(dataclasses.replace(speech, holdout=moved))
    assert len(folder.datasets()) == 2


def test_a_finished_run_has_nothing_left_to_do(finished: Path, sample_dataset: Path) -> None:
    result = train(sample_dataset, finished, overrides=SETTINGS)
    assert result.resumed_from == result.steps and not result.interrupted


def test_a_flipped_byte_is_noticed_and_the_checkpoint_before_it_serves(
    finished: Path, sample_dataset: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    damaged = checkpoint.find_newest(run / "checkpoints")
    flip_byte(damaged)
    with pytest.raises(UserError, match="does not match its hash"):
        RunFolder.open(run).load_generator("latest")
    reporter = KeepingReporter()
    result = train(sample_dataset, run, overrides=SETTINGS, reporter=reporter)
    assert result.resumed_from < int(damaged.name) == result.steps
    assert any(
        "damaged" in message and "continuing from step" in message
        for message in reporter.messages
    )
    assert checkpoint.verify(damaged) is None
    whole = newest_state(finished)
    continued = newest_state(run)
    assert all(np.array_equal(whole[name], continued[name]) for name in whole)


def test_no_intact_checkpoint_left_is_one_clear_line(
    finished: Path, sample_dataset: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    for folder in (run / "checkpoints").iterdir():
        flip_byte(folder)
    with pytest.raises(UserError, match="no intact checkpoint is left") as caught:
        train(sample_dataset, run, overrides=SETTINGS)
    assert "\n" not in str(caught.value)


def flip_byte(folder: Path) -> None:
    file = max(
        (path for path in folder.rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_dataset_that_does_not_fit_is_refused_with_both_values(
    finished: Path, sample_dataset: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(sample_dataset, tmp_path / "dataset")
    metadata = json.loads((other / "metadata.json").read_text())
    (other / "metadata.json").write_text(
        json.dumps(
            metadata | {"content_encoder": "contentvec", "content_fingerprint": 64 * "0"}
        )
    )
    with pytest.raises(UserError, match="whisper-tiny.*contentvec"):
        train(other, finished)
    with pytest.raises(UserError, match="40000 Hz.*16000 Hz"):
        train(sample_dataset, tmp_path / "run", preset=PRESETS["40k"])
    assert not (tmp_path / "run").exists()


def test_impossible_settings_are_refused(sample_dataset: Path, tmp_path: Path) -> None:
    for name, value in (("epochs", 0), ("batch_per_chip", 0), ("learning_rate", -1.0)):
        with pytest.raises(UserError, match=f"--{name.replace('_', '-')} must be"):
            train(sample_dataset, tmp_path / "run", overrides={name: value})
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_something_else_is_left_alone(
    sample_dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not empty"):
        train(sample_dataset, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "config.json").write_text('{"format": "other"}')
    with pytest.raises(UserError, match="another program's"):
        train(sample_dataset, tmp_path)


def test_what_may_change_on_the_way_is_said_and_the_rest_refused(
    finished: Path, sample_dataset: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    for name, given, of_run in (("seed", 7, 1234), ("batch_per_chip", 16, 8)):
        with pytest.raises(
            UserError, match=f"--{name.replace('_', '-')} {of_run}, this is .* {given},"
        ):
            train(sample_dataset, run, overrides={name: given})
    reporter = KeepingReporter()
    overrides = {"learning_rate": 1e-3, "save_every": 2}
    result = train(sample_dataset, run, overrides=overrides, reporter=reporter)
    assert reporter.messages == [
        f"step {result.steps}: --learning-rate is 0.001 from here on, it was 0.002"
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("frees", [True, False])
def test_a_full_disk_is_said_and_tried_again_and_in_the_end_stops_the_run(
    frees: bool, sample_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointing, "RETRY_SECONDS", (0.5,) * 3)
    monkeypatch.setattr(checkpointing, "_FINAL_RETRY_SECONDS", 0.5)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", disk], check=False
    ).returncode:
        pytest.skip("a small disk can't be mounted here")

    def fill(step: float) -> None:
        if step == 3:
            while not (disk / "run" / "checkpoints" / "2").exists():
                time.sleep(0.05)
            (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - (1 << 16)))

    def free(text: str) -> None:
        if frees and "next try" in text:
            (disk / "ballast").unlink(missing_ok=True)

    reporter = KeepingReporter(free, fill)
    run = disk / "run"
    try:
        if frees:
            result = train(sample_dataset, run, overrides=SETTINGS, reporter=reporter)
            assert not result.interrupted
            assert checkpoint.verify(checkpoint.find_newest(run / "checkpoints")) is None
        else:
            with pytest.raises(
                UserError, match="disk full.*3 more tries; the previous one stands"
            ):
                train(sample_dataset, run, overrides=SETTINGS, reporter=reporter)
            assert checkpoint.find_newest(run / "checkpoints").name == "2"
            (disk / "ballast").unlink()
            assert train(sample_dataset, run, overrides=SETTINGS).resumed_from == 2
        assert any(
            "disk full" in text and "the previous one stands. The next try" in text
            for text in reporter.messages
        )
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_two_trainings_in_one_folder_are_refused(sample_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with lock_run(tmp_path / "run", SILENT):
        for way in (tmp_path / "run", tmp_path / "link", tmp_path / "link" / ".." / "run"):
            with pytest.raises(UserError, match=r"in use by process \d+ .* --run"):
                train(sample_dataset, way, overrides=SETTINGS)
    assert not (tmp_path / "run").exists()  # nothing half-written
