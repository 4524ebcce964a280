"""A run's history: every recorded value by step, in memory while the run trains, mirrored in a
file.

`history.jsonl` has one JSON object per line, oldest first, each with its `step`. A line of training
has `epoch`, `loss/NAME` and `gradient_norm/NAME`. A line of an evaluation has `holdout/NAME` for
the raw weights and, where they are averaged as well, `holdout_ema/NAME`; it has `best/which` ("raw"
or "ema") if its voice was the best so far and was saved as such.

A line with `dataset` begins the record of a dataset: what is above it was measured on other speech,
and decides nothing any more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rvc_jax.config import BestBy
from rvc_jax.metrics.holdout import ranking_score
from rvc_jax.storage.files import atomic_write, disk_full
from rvc_jax.storage.json_files import parse_json
from rvc_jax.storage.plain_files import RECORD_BYTES, read_plain

FILE = "history.jsonl"
_MAX_STEP = 10**15
_MIN_EPOCH = 1e-9

Line = Mapping[str, Any]

DATASET = "dataset"
"""Name of the value with the identity of a dataset (`data.dataset.VoiceDataset.identity`)."""
SPEECH = "speech"
"""Name of the value that describes that dataset."""

PREFIXES = {"raw": "holdout", "ema": "holdout_ema"}
"""Prefix of an evaluation's metrics, by which of the weights it measured."""


class History:
    """What a run has recorded, in memory, with a file as its mirror.

    Decisions (the best voice, patience) read the memory. A full disk delays the file only: what
    does not fit is written together with a later line.
    """

    def __init__(self, file: Path):
        """Read the lines that the file has, if it exists."""
        self._file = file
        found = read_history(file)
        self.notice = found.describe_unreadable()
        """What to say about lines of the file that can't be read; empty without any."""
        self._lines: list[Line] = list(found)
        self._written = len(self._lines)
        """Number of lines, from the first, that are on disk."""
        self._is_file_valid = True
        """False while the file has lines that are not in memory any more, or a half-written one."""

    @property
    def lines(self) -> Sequence[Line]:
        """What is recorded of the present dataset, oldest line first."""
        return select_present(self._lines)

    @property
    def dataset(self) -> str:
        """Identity of the present dataset; empty if the history does not say it."""
        return str(next(iter(self.lines), {}).get(DATASET, ""))

    def begin_dataset(self, step: int, identity: str, speech: str) -> bool:
        """Begin the record of a dataset, unless it is the present one.

        Args:
            step: Step from which on the run is trained on it.
            identity: Identity of the dataset.
            speech: Its description, for reports.

        Returns:
            Whether another dataset was the present one before.
        """
        before = self.dataset
        # Early versions noted the first half of it.
        if before and identity.startswith(before):
            return False
        self.append(step, {DATASET: identity, SPEECH: speech})
        return bool(before)

    def name_first_dataset(self, identity: str, speech: str) -> None:
        """Note the dataset of a history that does not name any: one of an earlier version."""
        if self._lines and not any(DATASET in line for line in self._lines):
            self._lines.insert(0, {"step": 0, DATASET: identity, SPEECH: speech})
            self._is_file_valid = False
            self._flush()

    def append(self, step: int, values: Mapping[str, float | str]) -> None:
        """Record values at a step."""
        self._lines.append({"step": step, **values})
        self._flush()

    def truncate(self, step: int) -> None:
        """Drop what was recorded after a step: the run goes on from there and records it anew.

        The file is rewritten even if nothing is dropped, because a killed process may have left
        half a line at its end. The beginning of a dataset stays, as of the step at the latest.
        """
        self._lines = [
            {**line, "step": min(line["step"], step)}
            for line in self._lines
            if line["step"] <= step or DATASET in line
        ]
        self._is_file_valid = False
        if self._file.exists():
            self._flush()

    def _flush(self) -> None:
        try:
            if self._is_file_valid:
                self._append()
            else:
                self._rewrite()
        except OSError as error:
            if disk_full(error) is None:
                raise
        else:
            self._written = len(self._lines)
            self._is_file_valid = True

    def _rewrite(self) -> None:
        with atomic_write(self._file) as file:
            file.writelines(_encode(line) for line in self._lines)

    def _append(self) -> None:
        size = self._file.stat().st_size if self._file.exists() else 0
        try:
            with self._file.open("ab") as file:
                file.writelines(_encode(line) for line in self._lines[self._written :])
        except OSError:
            if self._file.exists():
                os.truncate(self._file, size)  # a reader would fail at half a line
            raise


def _encode(line: Line) -> bytes:
    return (json.dumps(line) + "\n").encode()


class HistoryLines(list[dict[str, Any]]):
    """The lines of a history, oldest first."""

    unreadable = 0
    """Lines of the file that are left out, since they are not those of a history."""

    def describe_unreadable(self) -> str:
        """Return what to say about lines that are left out; empty without any."""
        if not self.unreadable:
            return ""
        lines = "1 line" if self.unreadable == 1 else f"{self.unreadable} lines"
        return f"{lines} of {FILE} can't be read and are left out"


def read_history(file: Path) -> HistoryLines:
    """Read a history's lines, oldest first; none if there is no file.

    A last line that is only half there (the run may be writing it) is left out. Damaged lines are
    left out and counted.

    Raises:
        UserError: It is not a plain file, or too large.
    """
    lines = HistoryLines()
    try:
        content = read_plain(file, RECORD_BYTES)
    except FileNotFoundError:
        return lines
    *whole, last = content.split(b"\n")
    for text in [*whole, last] if last.endswith(b"}") else whole:
        line = _parse_line(text)
        if line is not None:
            lines.append(line)
        elif text.strip():
            lines.unreadable += 1
    return lines


def _parse_line(text: bytes) -> dict[str, Any] | None:
    """Return a line; None unless it has what the functions of this module expect."""
    try:
        line = parse_json(text)
    except ValueError:
        return None
    if not isinstance(line, dict) or not _is_epoch(line.get("epoch", 0)):
        return None
    step = line.get("step")
    if type(step) is not int or not 0 <= step <= _MAX_STEP:
        return None
    if not all(isinstance(line.get(name, ""), str) for name in (DATASET, SPEECH)):
        return None
    which = line.get("best/which")
    is_best = which in list(PREFIXES)  # of any type: a list compares, a dictionary hashes
    if "best/which" in line and not (is_best and f"{PREFIXES[which]}/mel" in line):
        return None
    measured = (value for name, value in line.items() if "/" in name and name != "best/which")
    return line if all(map(_is_number, measured)) else None


def _is_epoch(value: Any) -> bool:
    return _is_number(value) and (value == 0 or _MIN_EPOCH <= value <= 1 / _MIN_EPOCH)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def select_present(history: Sequence[Line]) -> list[Line]:
    """Return the lines since the beginning of the newest dataset, that one included."""
    begins = [number for number, line in enumerate(history) if DATASET in line]
    return list(history[begins[-1] if begins else 0 :])


def select_datasets(history: Sequence[Line]) -> list[Line]:
    """Return the lines that begin a dataset, without repetitions of one."""
    found: list[Line] = []
    for line in history:
        if DATASET in line and not (found and line[DATASET].startswith(found[-1][DATASET])):
            found.append(line)
    return found


def infer_steps_per_epoch(history: Sequence[Line]) -> int | None:
    """Return how many steps an epoch has; None if no line of the history says so."""
    for line in reversed(history):
        if line.get("epoch", 0) > 0:
            return round(line["step"] / line["epoch"])
    return None


def select_evaluations(history: Sequence[Line]) -> list[Line]:
    """Return the lines that are evaluations on the hold-out."""
    return [line for line in history if "holdout/mel" in line]


def get_evaluation_metrics(line: Line, which: str = "raw") -> dict[str, float]:
    """Return an evaluation's metrics by name; empty for other lines.

    Args:
        line: A line of the history.
        which: "raw" or "ema", the weights that were measured.
    """
    prefix = f"{PREFIXES[which]}/"
    return {
        name.removeprefix(prefix): value
        for name, value in line.items()
        if name.startswith(prefix)
    }


def choose_better_voice(line: Line, by: BestBy) -> tuple[str, float]:
    """Return which of an evaluation's voices is better, "raw" or "ema", and its score."""
    scores = {}
    for which in PREFIXES:
        metrics = get_evaluation_metrics(line, which)
        if metrics:
            scores[which] = ranking_score(metrics, by)
    best = min(scores, key=scores.__getitem__)
    return best, scores[best]


def best_evaluation(history: Sequence[Line]) -> Line | None:
    """Return the evaluation whose voice was saved as the best one; None without an evaluation.

    Histories of early versions don't say which one it was: there it is the one with the lowest mel
    error.
    """
    lines = select_evaluations(history)
    marked = [line for line in lines if "best/which" in line]
    if marked:
        return marked[-1]
    return min(lines, key=lambda line: line["holdout/mel"], default=None)


def best_mel(line: Line) -> float:
    """Return the log-mel error of the better voice of an evaluation that was the best one."""
    return get_evaluation_metrics(line, line.get("best/which", "raw"))["mel"]
