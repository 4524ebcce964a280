"""The first pass over the files: where speech is, and which of it is held out."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from rvc_jax.audio.io import AudioError
from rvc_jax.audio.slicing import speech_pieces
from rvc_jax.config import FRAMES_PER_SECOND, PRESETS, WINDOW_FRAMES, PrepareConfig
from rvc_jax.data import holdout
from rvc_jax.data.dataset import Drop
from rvc_jax.data.holdout import Atom, Piece
from rvc_jax.data.progress import Listener, Progress, silent
from rvc_jax.data.recordings import drop_reason, read_recording
from rvc_jax.data.sources import Sources, find_sources
from rvc_jax.errors import UserError

_THREADS = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What becomes of every second of the sources."""

    sources: Sources
    config: PrepareConfig
    splits: dict[str, list[Piece]]
    """"train" and "holdout"; samples at the preset's rate."""
    dropped: tuple[Drop, ...]
    """Files and pieces that are in neither."""
    files: int
    """Files that could be decoded."""
    source_seconds: float
    speech_seconds: float
    """Between silences, without what is known to be unusable."""

    @property
    def rate(self) -> int:
        return PRESETS[self.config.preset].audio.sample_rate

    @property
    def holdout_seconds(self) -> float:
        return sum(piece.stop - piece.start for piece in self.splits["holdout"]) / self.rate


class _Scan(NamedTuple):
    """What the first pass keeps of a file."""

    seconds: float
    pieces: list[Piece]
    atoms: list[Atom]
    reasons: list[str | None]
    """Why an atom is no use, for every atom."""
    dropped: list[Drop]


def make_plan(source: Path | str, config: PrepareConfig, listener: Listener = silent) -> Plan:
    """Decode every file once and decide what is train, hold-out or dropped.

    Raises:
      UserError: settings that make no sense, no recordings, or no usable speech in them.
    """
    _check(config)
    sources = find_sources(source)
    scans = []
    for number, scan in enumerate(ahead(lambda file: _scan(sources, file, config), range(len(sources.paths)))):
        scans.append(scan)
        listener(Progress("read", number + 1, len(sources.paths), sources.names[number]))
    plan, reasons = _divide(sources, config, scans)
    if not any(reason is None for reason in reasons):
        raise no_speech(plan, [*plan.dropped, *(Drop("", 0.0, reason) for reason in reasons)])
    return plan


def no_speech(plan: Plan, dropped: Iterable[Drop]) -> UserError:
    """The error for sources that leave nothing to train on: how much there was, and why it is no use."""
    dropped = list(dropped)
    counts = collections.Counter(drop.reason for drop in dropped)
    reasons = ", ".join(f"{reason} ({count})" if len(dropped) > 1 else reason for reason, count in counts.most_common())
    files = len(plan.sources.paths)
    amount = f"{plan.source_seconds:.1f} s of sound in {files} file{'s' if files > 1 else ''}"
    return UserError(f"{plan.sources.root} holds no usable speech: {amount}: {reasons}")


def ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Map in order, with a few items computed by threads before they are asked for."""
    with ThreadPoolExecutor(_THREADS) as pool:
        pending = collections.deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > _THREADS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _check(config: PrepareConfig) -> None:
    longest = WINDOW_FRAMES / FRAMES_PER_SECOND
    if not 0 <= config.overlap < config.window or config.window + config.overlap > longest:
        raise UserError(
            f"window {config.window:g} s with overlap {config.overlap:g} s is impossible: the overlap must be shorter "
            f"than the window and both together at most {longest:g} s"
        )


def _scan(sources: Sources, file: int, config: PrepareConfig) -> _Scan:
    name = sources.names[file]
    rate = PRESETS[config.preset].audio.sample_rate
    try:
        recording = read_recording(sources.paths[file], rate, config)
    except AudioError as error:
        return _Scan(0.0, [], [], [], [Drop(name, None, str(error))])
    pieces, dropped = [], []
    for start, stop in speech_pieces(recording.wave, rate, config):
        if stop - start < config.min_slice * rate:
            dropped.append(Drop(name, start / rate, drop_reason(recording, start, stop, config)))
        else:
            pieces.append(Piece(file, start, stop))
    if not pieces and not dropped:
        dropped.append(Drop(name, None, "silent"))
    atoms = holdout.divide(pieces, round((config.window + config.overlap) * rate))
    reasons = [drop_reason(recording, atom.start, atom.stop, config) for atom in atoms]
    return _Scan(recording.seconds, pieces, atoms, reasons, dropped)


def _divide(sources: Sources, config: PrepareConfig, scans: list[_Scan]) -> tuple[Plan, list[str | None]]:
    """The plan, and why an atom is no use, for every atom of the timeline.

    Useless atoms are not held out. They stay in train, where slices are judged one by one.
    """
    pieces, atoms, reasons = [], [], []
    for scan in scans:
        atoms += [atom._replace(piece=atom.piece + len(pieces)) for atom in scan.atoms]
        pieces += scan.pieces
        reasons += scan.reasons
    rate = PRESETS[config.preset].audio.sample_rate
    usable = [number for number, reason in enumerate(reasons) if reason is None]
    lengths = [atoms[number].stop - atoms[number].start for number in usable]
    target = holdout.target_seconds(sum(lengths) / rate, config)
    held = [False] * len(atoms)
    for number, is_held in zip(usable, holdout.choose(lengths, target * rate, config.window * rate), strict=True):
        held[number] = bool(is_held)
    plan = Plan(
        sources,
        config,
        {
            "train": holdout.join(pieces, atoms, [not is_held for is_held in held]),
            "holdout": holdout.join(pieces, atoms, held),
        },
        tuple(drop for scan in scans for drop in scan.dropped),
        files=sum(scan.seconds > 0 for scan in scans),
        source_seconds=sum(scan.seconds for scan in scans),
        speech_seconds=sum(lengths) / rate,
    )
    return plan, reasons
