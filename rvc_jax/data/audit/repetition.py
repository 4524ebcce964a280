"""Sound that is in several slices of a dataset."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from rvc_jax.data.audit.slice_metrics import SliceMetrics
from rvc_jax.metrics.fingerprint import FRAMES_PER_SECOND, Fingerprint, Repeat, find_repeats


@dataclasses.dataclass(frozen=True)
class RepeatedSound:
    """Two files, or two places of one, with the same sound."""

    first: str
    first_at: float
    """Seconds into the file."""
    second: str
    second_at: float
    seconds: float
    """Length, over all slices of the two that share some."""


class Repetitions:
    """Which slices repeat others. A repetition comes after its original, by file and time.

    Args:
        slices: All slices of a dataset.
        prints: Their fingerprints.
    """

    def __init__(self, slices: Sequence[SliceMetrics], prints: Sequence[Fingerprint]) -> None:
        order = sorted(range(len(slices)), key=lambda i: (slices[i].file, slices[i].start))
        self._slices = [slices[i] for i in order]
        ordered = [prints[i] for i in order]
        files = [item.file for item in self._slices]
        starts = [item.start for item in self._slices]
        self._pairs = find_repeats(ordered, files, starts)
        self._seconds: dict[SliceMetrics, float] = {}
        self._where: dict[SliceMetrics, str] = {}
        covered: dict[int, np.ndarray] = {}  # bool [frames] by slice: what is repeated
        for pair in self._pairs:
            mask = covered.setdefault(
                pair.second, np.zeros(len(ordered[pair.second].bits), bool)
            )
            begin = max(0, -pair.offset)
            mask[begin : begin + pair.frames] = True
            first = self._slices[pair.first]
            second = self._slices[pair.second]
            self._seconds[second] = float(mask.sum() / FRAMES_PER_SECOND)
            self._where[second] = f"{first.file} at {self._locate(pair)[0]:.1f} s"

    @property
    def seconds(self) -> float:
        """Seconds of all slices that are there at least once before."""
        return sum(self._seconds.values())

    @property
    def holdout_in_train_seconds(self) -> float:
        """Seconds of the hold-out's slices that slices of the training split share."""
        frames: dict[int, int] = {}
        for pair in self._pairs:
            splits = [self._slices[number].split for number in (pair.first, pair.second)]
            if len(set(splits)) == 2:
                held_out = (pair.first, pair.second)[splits.index("holdout")]
                frames[held_out] = max(frames.get(held_out, 0), pair.frames)
        return sum(frames.values()) / FRAMES_PER_SECOND

    def find_share(self, item: SliceMetrics) -> tuple[float, str] | None:
        """Return the share of a slice that is there before, and where; None if nothing is."""
        if item not in self._seconds:
            return None
        return min(self._seconds[item] / item.seconds, 1.0), self._where[item]

    def by_file(self) -> tuple[RepeatedSound, ...]:
        """Return one entry for every two files that share sound, the longest first."""
        groups: dict[tuple[str, str], list[Repeat]] = collections.defaultdict(list)
        for pair in self._pairs:
            groups[self._slices[pair.first].file, self._slices[pair.second].file].append(pair)
        found = []
        for (first, second), pairs in groups.items():
            first_at, second_at = min(self._locate(pair) for pair in pairs)
            seconds = sum(pair.frames for pair in pairs) / FRAMES_PER_SECOND
            found.append(RepeatedSound(first, first_at, second, second_at, seconds))
        return tuple(sorted(found, key=lambda item: (-item.seconds, item.first, item.second)))

    def _locate(self, pair: Repeat) -> tuple[float, float]:
        """Return where in the two files the common sound begins, in seconds."""
        shift = pair.offset / FRAMES_PER_SECOND
        first = self._slices[pair.first].start + max(0, shift)
        second = self._slices[pair.second].start + max(0, -shift)
        return first, second
