"""What becomes of every slice: training, hold-out, or nothing, and why."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rvc_jax.config import FRAMES_PER_SECOND, PRESETS, WINDOW_FRAMES, PrepareConfig
from rvc_jax.data import holdout
from rvc_jax.data.dataset import Drop
from rvc_jax.data.extraction import Analysis
from rvc_jax.data.sources import Sources
from rvc_jax.errors import UserError

_SHORTEST_SLICE = 0.1


class AssignedSlice(NamedTuple):
    """A slice, or the part of it that is used."""

    number: int
    """Of the slice in its analysis."""
    split: str
    start: int
    """Sample of the source, a multiple of two frames after the slice's own start."""
    stop: int


@dataclasses.dataclass(frozen=True)
class SplitPlan:
    """The records of a dataset before they are made."""

    sources: Sources
    config: PrepareConfig
    analyses: tuple[Analysis, ...]
    assigned: tuple[tuple[AssignedSlice, ...], ...]
    """Of every analysis, ordered."""
    dropped: tuple[Drop, ...]
    speech_seconds: float
    """Of good slices; overlaps count once."""

    @property
    def rate(self) -> int:
        return PRESETS[self.config.preset].audio.sample_rate

    @property
    def speakers(self) -> tuple[str, ...]:
        """Those that have a record, in the order of the sources: their numbers are places in this
        table."""
        heard = {
            analysis.cut.speaker
            for analysis, pieces in zip(self.analyses, self.assigned, strict=True)
            if pieces
        }
        return tuple(name for name in self.sources.speakers if name in heard)

    @property
    def source_seconds(self) -> float:
        return sum(analysis.seconds for analysis in self.analyses)

    @property
    def holdout_seconds(self) -> float:
        """Overlaps count once."""
        total = 0
        for pieces in self.assigned:
            end = 0
            for piece in pieces:
                if piece.split == "holdout":
                    total += piece.stop - max(piece.start, end)
                    end = piece.stop
        return total / self.rate

    def count(self, split: str) -> int:
        """Records of a split."""
        return sum(piece.split == split for pieces in self.assigned for piece in pieces)


def check_settings(config: PrepareConfig) -> None:
    """Raises UserError for settings that make no sense."""
    longest = WINDOW_FRAMES / FRAMES_PER_SECOND
    if (
        not 0 <= config.overlap_len < config.chunk_len
        or config.chunk_len + config.overlap_len > longest
    ):
        raise UserError(
            f"chunk-len {config.chunk_len:g} s with overlap-len {config.overlap_len:g} s is impossible: the overlap "
            f"must be shorter than the chunk and both together at most {longest:g} s"
        )
    if config.min_slice < _SHORTEST_SLICE:
        raise UserError(
            f"min-slice {config.min_slice:g} s is too short: at least {_SHORTEST_SLICE:g} s"
        )
    if not 0 <= config.high_pass_hz < 1000:
        raise UserError(f"high-pass-hz {config.high_pass_hz:g} is not between 0 and 1000")
    if not -70 <= config.loudness_lufs <= 0:
        raise UserError(f"loudness-lufs {config.loudness_lufs:g} is not between -70 and 0")
    for name in (
        "holdout",
        "clean_strength",
        "vad_threshold",
        "vad_min_speech",
        "max_clipped",
        "normalize_mix",
    ):
        if not 0 <= getattr(config, name) <= 1:
            raise UserError(
                f"{name.replace('_', '-')} {getattr(config, name):g} is not between 0 and 1"
            )
    if not 1 <= config.feature_batch <= 1024:
        raise UserError(f"feature-batch {config.feature_batch} is not between 1 and 1024")


def split_slices(
    sources: Sources, config: PrepareConfig, analyses: Sequence[Analysis]
) -> SplitPlan:
    """Divide the good slices between training and hold-out.

    Raises:
      UserError: there is no good slice.
    """
    rate = PRESETS[config.preset].audio.sample_rate
    dropped = [drop for analysis in analyses for drop in _dropped(analysis, rate)]
    repeated = _repeated(analyses)
    dropped += [
        Drop(analyses[n].cut.name, None, f"the same sound as {first}")
        for n, first in repeated.items()
    ]
    timeline = {
        n: _new_samples(analysis) for n, analysis in enumerate(analyses) if n not in repeated
    }
    speech = sum(sum(new.values()) for new in timeline.values()) / rate
    if not any(timeline.values()):
        raise _no_speech(sources, analyses, dropped)
    held = _held_out(analyses, timeline, speech, config)
    assigned = []
    for number, analysis in enumerate(analyses):
        pieces, lost = _assign(analysis, timeline.get(number, {}), held[number], config)
        assigned.append(tuple(pieces))
        dropped += lost
    dropped.sort(key=lambda drop: (drop.file, drop.seconds or 0.0))
    return SplitPlan(sources, config, tuple(analyses), tuple(assigned), tuple(dropped), speech)


def _dropped(analysis: Analysis, rate: int) -> list[Drop]:
    name = analysis.cut.name
    if analysis.error is not None:
        return [Drop(name, None, analysis.error)]
    if not analysis.slices:
        return [Drop(name, None, "silent")]
    begin = analysis.cut.start
    return [
        Drop(name, begin + piece.start / rate, piece.reason)
        for piece in analysis.slices
        if piece.reason
    ]


def _repeated(analyses: Sequence[Analysis]) -> dict[int, str]:
    """Analyses of sound that has come before, with the name that it came under; it could be on both
    sides."""
    first: dict[str, str] = {}
    repeated = {}
    for number, analysis in enumerate(analyses):
        if analysis.error is None and analysis.key in first:
            repeated[number] = first[analysis.key]
        first.setdefault(analysis.key, analysis.cut.name)
    return repeated


def _new_samples(analysis: Analysis) -> dict[int, int]:
    """Samples of every good slice that the good ones before it do not have."""
    new = {}
    end = 0
    for number in analysis.good:
        start, stop, _ = analysis.slices[number]
        new[number] = max(stop - max(start, end), 0)
        end = max(end, stop)
    return new


def _held_out(
    analyses: Sequence[Analysis],
    timeline: dict[int, dict[int, int]],
    speech: float,
    config: PrepareConfig,
) -> list[set[int]]:
    """Numbers of the held-out slices of every analysis; every speaker gives his share."""
    rate = PRESETS[config.preset].audio.sample_rate
    held: list[set[int]] = [set() for _ in analyses]
    target = holdout.target_holdout_seconds(speech, config) / speech
    by_speaker = collections.defaultdict(list)
    for number, new in timeline.items():
        by_speaker[analyses[number].cut.speaker] += [
            (number, piece, samples) for piece, samples in new.items()
        ]
    for entries in by_speaker.values():
        lengths = [samples for _, _, samples in entries]
        chosen = holdout.choose_holdout(lengths, target * sum(lengths), config.chunk_len * rate)
        for (number, piece, _), is_held in zip(entries, chosen, strict=True):
            if is_held:
                held[number].add(piece)
    return held


def _assign(
    analysis: Analysis, good: Iterable[int], held: set[int], config: PrepareConfig
) -> tuple[list[AssignedSlice], list[Drop]]:
    """The records of one analysis; what a training slice shares with the hold-out is cut off."""
    rate = PRESETS[config.preset].audio.sample_rate
    ranges = [analysis.slices[number][:2] for number in held]
    assigned = []
    dropped = []
    for number in good:
        start, stop, _ = analysis.slices[number]
        if number in held:
            assigned.append(AssignedSlice(number, "holdout", start, stop))
            continue
        begin, end = holdout.find_longest_free_range(
            start, stop, ranges, 2 * rate // FRAMES_PER_SECOND
        )
        if end - begin >= config.min_slice * rate:
            assigned.append(AssignedSlice(number, "train", begin, end))
        else:
            dropped.append(
                Drop(
                    analysis.cut.name, analysis.cut.start + start / rate, "within the hold-out"
                )
            )
    return assigned, dropped


def _no_speech(
    sources: Sources, analyses: Sequence[Analysis], dropped: Iterable[Drop]
) -> UserError:
    """How much there was, and why it is no use."""
    dropped = list(dropped)
    counts = collections.Counter(drop.reason for drop in dropped)
    reasons = ", ".join(
        f"{reason} ({count})" if len(dropped) > 1 else reason
        for reason, count in counts.most_common()
    )
    seconds = sum(analysis.seconds for analysis in analyses)
    amount = (
        f"{seconds:.1f} s of sound in {len(analyses)} file{'s' if len(analyses) > 1 else ''}"
    )
    return UserError(f"{sources.root} holds no usable speech: {amount}: {reasons}")
