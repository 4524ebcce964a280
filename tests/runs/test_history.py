"""The history in memory and its file."""

from __future__ import annotations

from pathlib import Path

import pytest
from full_disk import full_disk

from rvc_jax.runs.history import (
    History,
    best_evaluation,
    best_mel,
    choose_better_voice,
    infer_steps_per_epoch,
    read_history,
    select_datasets,
)


def test_the_file_mirrors_what_is_in_memory(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    history = History(file)
    history.append(1, {"loss/mel": 1.5, "epoch": 0.5})
    history.append(2, {"holdout/mel": 0.75, "best/which": "raw"})
    expected = [
        {"step": 1, "loss/mel": 1.5, "epoch": 0.5},
        {"step": 2, "holdout/mel": 0.75, "best/which": "raw"},
    ]
    assert list(history.lines) == read_history(file) == list(History(file).lines) == expected


def test_what_came_after_a_step_is_dropped_and_half_a_line_as_well(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "los')
    history = History(file)
    assert [line["step"] for line in history.lines] == [1, 2, 3]
    history.truncate(2)
    history.append(3, {"again": 1.0})
    assert file.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3, "again": 1.0}\n'


def test_a_new_run_has_no_file_before_its_first_line(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    history = History(file)
    history.truncate(0)
    assert not file.exists() and list(history.lines) == read_history(file) == []


def test_lines_for_which_the_disk_has_no_room_are_written_later(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    history = History(file)
    history.append(1, {"a": 1.0})
    with full_disk(file):
        history.append(2, {"a": 2.0})
        history.append(3, {"a": 3.0})
        assert [line["step"] for line in history.lines] == [1, 2, 3]
        assert [line["step"] for line in read_history(file)] == [1]
    history.append(4, {"a": 4.0})
    assert read_history(file) == list(history.lines)


def test_a_rollback_on_a_full_disk_is_written_later_too(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    history = History(file)
    for step in (1, 2, 3):
        history.append(step, {"a": float(step)})
    with full_disk(file):
        history.truncate(1)
        history.append(2, {"a": -2.0})
    history.append(3, {"a": -3.0})
    assert read_history(file) == list(history.lines)
    assert [line["a"] for line in history.lines] == [1.0, -2.0, -3.0]


def test_other_errors_are_raised(tmp_path: Path) -> None:
    history = History(tmp_path / "nowhere" / "history.jsonl")
    with pytest.raises(FileNotFoundError):
        history.append(1, {})


def test_steps_per_epoch_follow_from_any_line_of_training() -> None:
    lines = [{"step": 3, "epoch": 0.3, "loss/mel": 1.0}, {"step": 5, "holdout/mel": 1.0}]
    assert infer_steps_per_epoch(lines) == 10
    assert infer_steps_per_epoch(lines[1:]) is infer_steps_per_epoch([]) is None


def test_the_better_of_raw_and_averaged_weights_counts() -> None:
    line = {
        "step": 9,
        "holdout/mel": 0.9,
        "holdout_ema/mel": 0.8,
        "holdout/stft": 1.0,
        "holdout_ema/stft": 1.1,
    }
    assert choose_better_voice(line, "mel") == ("ema", 0.8)
    assert choose_better_voice(line, "stft") == ("raw", 1.0)
    assert choose_better_voice({"step": 9, "holdout/mel": 0.9}, "mel") == ("raw", 0.9)


def test_the_best_of_old_histories_is_that_of_the_lowest_mel_error() -> None:
    old = [
        {"step": 0, "holdout/mel": 2.0},
        {"step": 9, "holdout/mel": 0.9},
        {"step": 18, "holdout/mel": 1.0},
    ]
    assert best_evaluation(old)["step"] == 9
    marked = [old[0], old[1], old[2] | {"best/which": "ema"}]
    assert best_evaluation(marked)["step"] == 18 and best_mel(old[1]) == 0.9
    assert best_evaluation([]) is None


def test_a_dataset_begins_its_record_anew(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    history = History(file)
    assert not history.begin_dataset(0, "one", "ada: 10 min")  # the first is not another one
    history.append(10, {"holdout/mel": 0.5, "best/which": "raw"})
    assert not history.begin_dataset(10, "one", "ada: 10 min")
    assert History(file).begin_dataset(10, "two", "bob: 5 min")
    history = History(file)
    assert history.dataset == "two" and best_evaluation(history.lines) is None
    history.append(10, {"holdout/mel": 2.5, "best/which": "raw"})
    assert best_mel(best_evaluation(history.lines)) == 2.5
    history.begin_dataset(20, "one", "ada: 10 min")  # and back again
    assert best_evaluation(history.lines) is None
    speech = [line["speech"] for line in select_datasets(read_history(file))]
    assert speech == ["ada: 10 min", "bob: 5 min", "ada: 10 min"]


def test_the_beginning_of_a_dataset_outlives_a_step_back(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.begin_dataset(0, "one", "")
    history.append(4, {"holdout/mel": 0.5, "best/which": "raw"})
    history.begin_dataset(8, "two", "")
    history.append(9, {"loss/mel": 1.0})
    history.truncate(4)
    assert history.dataset == "two" and best_evaluation(history.lines) is None
    assert [line["step"] for line in history.lines] == [4]


def test_a_history_of_an_early_version_gets_its_dataset(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text('{"step": 3, "holdout/mel": 0.5}\n')
    History(file).name_first_dataset("0123", "ada")
    History(file).name_first_dataset("4567", "bob")  # only the first time
    history = History(file)
    assert history.dataset == "0123" and best_mel(best_evaluation(history.lines)) == 0.5
    assert not history.begin_dataset(3, "0123-89ab", "ada")  # the same, named in full
    assert history.begin_dataset(3, "4567-89ab", "bob")
    empty = History(tmp_path / "none.jsonl")
    empty.name_first_dataset("0123", "ada")
    assert not list(empty.lines)


ODD_LINES = [
    b"",
    b"\0\xff\xfe garbage",
    b"{}",
    b"[]",
    b"5",
    b'"step"',
    b"[" * 5000,
    b'{"step": "1"}',
    b'{"step": -1}',
    b'{"step": 1e400}',
    b'{"step": true}',
    b'{"step": 1, "loss/mel": "low"}',
    b'{"step": 1, "loss/mel": null}',
    b'{"step": 1, "epoch": "1"}',
    b'{"step": 1, "epoch": 1e-300}',
    b'{"step": 1, "epoch": NaN}',
    b'{"step": 1, "best/which": "raw"}',
    b'{"step": 1, "holdout/mel": 1.0, "best/which": "ema"}',
    b'{"step": 1, "holdout/mel": 1.0, "best/which": {}}',
    b'{"step": 1, "dataset": 5}',
    b'{"step": 1, "x": ' + b"9" * 400 + b"}",
]


def test_lines_of_others_are_left_out_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    good = [b'{"step": 1, "epoch": 0.5, "loss/mel": NaN}', b'{"step": 2, "holdout/mel": 1.5}']
    file.write_bytes(b"\n".join([good[0], *ODD_LINES, good[1]]) + b"\n")
    lines = read_history(file)
    assert [line["step"] for line in lines] == [1, 2]
    assert lines.unreadable == len(ODD_LINES) - 1  # not the empty one
    assert (
        lines.describe_unreadable()
        == "20 lines of history.jsonl can't be read and are left out"
    )
    file.write_bytes(good[0] + b"\n" + good[1][:-5])  # a run may be writing it
    assert len(read_history(file)) == 1 and not read_history(file).describe_unreadable()
