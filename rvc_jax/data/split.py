"""Split the slices: training, hold-out, or dropped and why."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rvc_jax.config import (
    FRAMES_PER_SECOND,
    MAX_CHANNEL,
    MAX_TRACK,
    PRESETS,
    WINDOW_FRAMES,
    PrepareConfig,
    option,
)
from rvc_jax.data.dataset import Drop
from rvc_jax.data.drop_advice import advise_on_drops
from rvc_jax.data.extraction import Analysis
from rvc_jax.data.holdout import (
    choose_holdout,
    find_longest_free_range,
    target_holdout_seconds,
)
from rvc_jax.data.sources import Sources
from rvc_jax.errors import UserError

_MIN_SLICE_SECONDS = 0.1
_SHARES = (
    "holdout",
    "clean_strength",
    "vad_threshold",
    "vad_min_speech",
    "max_clipped",
    "normalize_mix",
)
"""Settings from 0 to 1."""


class AssignedSlice(NamedTuple):
    """A slice that becomes a record, or the part of it that does."""

    number: int
    """The slice's number in its analysis."""
    split: str
    start: int
    """Sample of the cut, a multiple of two frames after the slice's own start."""
    stop: int


@dataclasses.dataclass(frozen=True)
class SplitPlan:
    """Which records a dataset will have."""

    sources: Sources
    config: PrepareConfig
    analyses: tuple[Analysis, ...]
    assigned: tuple[tuple[AssignedSlice, ...], ...]
    """The used slices of each analysis, in order."""
    dropped: tuple[Drop, ...]
    speech_seconds: float
    """Length of the good slices; overlaps count once."""

    @property
    def rate(self) -> int:
        """Samples per second."""
        return PRESETS[self.config.preset].audio.sample_rate

    @property
    def speakers(self) -> tuple[str, ...]:
        """Speakers with a record, in the order of the sources; positions are their numbers."""
        present = {
            analysis.cut.speaker
            for analysis, slices in zip(self.analyses, self.assigned, strict=True)
            if slices
        }
        return tuple(name for name in self.sources.speakers if name in present)

    @property
    def source_seconds(self) -> float:
        """Length of all cuts."""
        return sum(analysis.seconds for analysis in self.analyses)

    @property
    def holdout_seconds(self) -> float:
        """Length of the hold-out; overlaps count once."""
        total = 0
        for slices in self.assigned:
            end = 0
            for item in slices:
                if item.split == "holdout":
                    total += item.stop - max(item.start, end)
                    end = item.stop
        return total / self.rate

    def count(self, split: str) -> int:
        """Return the number of records of a split."""
        return sum(item.split == split for slices in self.assigned for item in slices)


def check_settings(config: PrepareConfig) -> None:
    """Check that the settings of a preparation make sense.

    Raises:
        UserError: A setting is out of its range.
    """
    longest = WINDOW_FRAMES / FRAMES_PER_SECOND
    is_shorter = 0 <= config.overlap_len < config.chunk_len
    if not is_shorter or config.chunk_len + config.overlap_len > longest:
        raise UserError(
            f"--chunk-len {config.chunk_len:g} with --overlap-len {config.overlap_len:g} is "
            "impossible: the overlap must be shorter than the chunk and both together at most "
            f"{longest:g} s"
        )
    if config.min_slice < _MIN_SLICE_SECONDS:
        raise UserError(
            f"--min-slice {config.min_slice:g} is too short: at least {_MIN_SLICE_SECONDS:g} s"
        )
    if not 0 <= config.high_pass_hz < 1000:
        raise UserError(f"--high-pass-hz {config.high_pass_hz:g} is not between 0 and 1000")
    if not -70 <= config.loudness_lufs <= 0:
        raise UserError(f"--loudness-lufs {config.loudness_lufs:g} is not between -70 and 0")
    for name in _SHARES:
        value = getattr(config, name)
        if not 0 <= value <= 1:
            raise UserError(f"{option(name)} {value:g} is not between 0 and 1")
    for name, most in (("track", MAX_TRACK), ("channel", MAX_CHANNEL)):
        value = getattr(config, name)
        if not 0 <= value <= most:
            raise UserError(f"{option(name)} {value} is not between 0 and {most}")
    if not 1 <= config.feature_batch <= 1024:
        raise UserError(f"--feature-batch {config.feature_batch} is not between 1 and 1024")


def split_slices(
    sources: Sources, config: PrepareConfig, analyses: Sequence[Analysis]
) -> SplitPlan:
    """Divide the good slices between training and hold-out.

    Raises:
        UserError: There is no good slice.
    """
    rate = PRESETS[config.preset].audio.sample_rate
    dropped = [drop for analysis in analyses for drop in _list_drops(analysis, rate)]
    # The same sound twice could end up on both sides.
    repeated = _find_repeated(analyses)
    for number, first in repeated.items():
        dropped.append(Drop(analyses[number].cut.name, None, f"the same sound as {first}"))
    timeline = {
        number: _count_new_samples(analysis)
        for number, analysis in enumerate(analyses)
        if number not in repeated
    }
    speech = sum(sum(new.values()) for new in timeline.values()) / rate
    if not any(timeline.values()):
        raise _no_speech(sources, analyses, dropped, config)
    held = _choose_held_out(analyses, timeline, speech, config)
    assigned = []
    for number, analysis in enumerate(analyses):
        slices, lost = _assign(analysis, timeline.get(number, {}), held[number], config)
        assigned.append(tuple(slices))
        dropped += lost
    dropped.sort(key=lambda drop: (drop.file, drop.seconds or 0.0))
    return SplitPlan(sources, config, tuple(analyses), tuple(assigned), tuple(dropped), speech)


def _list_drops(analysis: Analysis, rate: int) -> list[Drop]:
    name = analysis.cut.name
    if analysis.error is not None:
        return [Drop(name, None, analysis.error)]
    if not analysis.slices:
        return [Drop(name, None, "silent")]
    begin = analysis.cut.start
    return [
        Drop(name, begin + item.start / rate, item.reason)
        for item in analysis.slices
        if item.reason
    ]


def _find_repeated(analyses: Sequence[Analysis]) -> dict[int, str]:
    """Return the analyses whose sound has come before, with the name of its first cut."""
    first: dict[str, str] = {}
    repeated = {}
    for number, analysis in enumerate(analyses):
        if analysis.error is None and analysis.key in first:
            repeated[number] = first[analysis.key]
        first.setdefault(analysis.key, analysis.cut.name)
    return repeated


def _count_new_samples(analysis: Analysis) -> dict[int, int]:
    """Return the samples of each good slice that earlier good slices do not have."""
    new = {}
    end = 0
    for number in analysis.good:
        start, stop, _ = analysis.slices[number]
        new[number] = max(stop - max(start, end), 0)
        end = max(end, stop)
    return new


def _choose_held_out(
    analyses: Sequence[Analysis],
    timeline: dict[int, dict[int, int]],
    speech: float,
    config: PrepareConfig,
) -> list[set[int]]:
    """Return the numbers of each analysis's held-out slices; every speaker gives the same share.

    Args:
        analyses: All analyses.
        timeline: New samples of each good slice, by number of the analysis and of the slice.
        speech: Seconds in all.
        config: The settings.
    """
    rate = PRESETS[config.preset].audio.sample_rate
    share = target_holdout_seconds(speech, config) / speech
    by_speaker: dict[str, list[tuple[int, int, int]]] = collections.defaultdict(list)
    for number, new in timeline.items():
        entries = by_speaker[analyses[number].cut.speaker]
        entries += [(number, slice_number, samples) for slice_number, samples in new.items()]
    held: list[set[int]] = [set() for _ in analyses]
    for entries in by_speaker.values():
        lengths = [samples for _, _, samples in entries]
        chosen = choose_holdout(lengths, share * sum(lengths), config.chunk_len * rate)
        for (number, slice_number, _), is_held in zip(entries, chosen, strict=True):
            if is_held:
                held[number].add(slice_number)
    return held


def _assign(
    analysis: Analysis, good: Iterable[int], held: set[int], config: PrepareConfig
) -> tuple[list[AssignedSlice], list[Drop]]:
    """Assign one analysis's good slices; what they share with the hold-out is cut off."""
    rate = PRESETS[config.preset].audio.sample_rate
    two_frames = 2 * rate // FRAMES_PER_SECOND  # one frame of content
    ranges = [analysis.slices[number][:2] for number in held]
    assigned = []
    dropped = []
    for number in good:
        start, stop, _ = analysis.slices[number]
        if number in held:
            assigned.append(AssignedSlice(number, "holdout", start, stop))
            continue
        begin, end = find_longest_free_range(start, stop, ranges, two_frames)
        if end - begin >= config.min_slice * rate:
            assigned.append(AssignedSlice(number, "train", begin, end))
        else:
            seconds = analysis.cut.start + start / rate
            dropped.append(Drop(analysis.cut.name, seconds, "within the hold-out"))
    return assigned, dropped


def _no_speech(
    sources: Sources,
    analyses: Sequence[Analysis],
    dropped: Sequence[Drop],
    config: PrepareConfig,
) -> UserError:
    """Make the error for sources without a good slice: how much there was, and what is wrong."""
    counts = collections.Counter(drop.reason for drop in dropped)
    if len(dropped) > 1:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in counts.most_common())
    else:
        reasons = ", ".join(counts)
    seconds = sum(analysis.seconds for analysis in analyses)
    files = "file" if len(analyses) == 1 else "files"
    return UserError(
        f"{sources.root} holds no usable speech: {seconds:.1f} s of sound in "
        f"{len(analyses)} {files}: {reasons}"
        + "".join(f"; {advice}" for advice in advise_on_drops(counts, config))
    )
