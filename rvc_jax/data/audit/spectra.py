"""Long-term spectra of a dataset's files: bandwidth, and files that sound duller than the rest."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Iterable

import numpy as np

from rvc_jax.data.audit.slice_metrics import NARROW_SHARE, SliceSignature
from rvc_jax.metrics.signal import FRAMES_PER_SECOND, bandwidth

_SPECTRUM_POINTS = 192
_MIN_FILE_SPEECH = 5.0  # seconds of speech that a file's bandwidth is measured from


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """Long-term spectra in dB of the speech's total power."""

    hz: tuple[float, ...]
    speech: tuple[float, ...]
    pause: tuple[float, ...] | None


@dataclasses.dataclass(frozen=True)
class NarrowFile:
    """A file whose speech ends well below the rest of the dataset's."""

    file: str
    speech_seconds: float
    bandwidth_hz: float


class LongTermSpectra:
    """Spectra of speech and pauses of every file. Add all slices before asking for results."""

    def __init__(self) -> None:
        # float32 [2, bins] and int [2] by file: speech, pauses
        self._spectra: dict[str, np.ndarray] = {}
        self._frames: dict[str, np.ndarray] = collections.defaultdict(lambda: np.zeros(2, int))

    def add(self, file: str, signature: SliceSignature) -> None:
        """Add a slice of a file."""
        self._spectra[file] = self._spectra.get(file, 0) + signature.spectra.astype(np.float32)
        self._frames[file] += signature.spectra_frames

    def bandwidth(self) -> float:
        """Return the frequency in Hz that a quarter of the speech reaches; 0 without speech.

        It is measured per file, since the noise of one file would hide what others hold above it.
        Where most speech is in files too short for that, it is measured over all files at once.
        """
        _, bandwidths, seconds = self._long_files
        all_frames = sum(frames[0] for frames in self._frames.values())
        if not len(seconds) or seconds.sum() < all_frames / FRAMES_PER_SECOND / 2:
            mean = self._mean(self._spectra)
            return bandwidth(*mean) if mean else 0.0
        order = np.argsort(bandwidths)
        below = np.cumsum(seconds[order])
        return float(bandwidths[order][np.searchsorted(below, 0.75 * below[-1])])

    def narrow_files(self) -> list[NarrowFile]:
        """Return the narrow ones among files with enough speech, the narrowest first."""
        limit = NARROW_SHARE * self.bandwidth()
        files = [
            NarrowFile(file, float(seconds), float(hz))
            for file, hz, seconds in zip(*self._long_files, strict=True)
        ]
        narrow = [item for item in files if item.bandwidth_hz < limit]
        return sorted(narrow, key=lambda item: (item.bandwidth_hz, item.file))

    def spectrum(self) -> Spectrum | None:
        """Return the mean spectra over all files; None without speech."""
        mean = self._mean(self._spectra)
        if mean is None:
            return None
        speech, pause = mean
        group = -(-len(speech) // _SPECTRUM_POINTS)  # bins per point, rounded up
        starts = np.arange(0, len(speech), group)

        def to_db(power: np.ndarray) -> tuple[float, ...]:
            grouped = np.add.reduceat(power, starts) / speech.sum()
            return tuple(np.round(10 * np.log10(grouped + 1e-15), 1).tolist())

        hz = starts * FRAMES_PER_SECOND  # a bin is as wide as there are frames per second
        return Spectrum(
            tuple(hz.tolist()), to_db(speech), None if pause is None else to_db(pause)
        )

    @functools.cached_property
    def _long_files(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Names, bandwidths in Hz and seconds of speech of the files with enough speech."""
        files = []
        bandwidths = []
        for file, frames in self._frames.items():
            if frames[0] < _MIN_FILE_SPEECH * FRAMES_PER_SECOND:
                continue
            mean = self._mean([file])
            assert mean is not None  # the file has speech
            files.append(file)
            bandwidths.append(bandwidth(*mean))
        seconds = [self._frames[file][0] / FRAMES_PER_SECOND for file in files]
        return files, np.array(bandwidths), np.array(seconds)

    def _mean(self, files: Iterable[str]) -> tuple[np.ndarray, np.ndarray | None] | None:
        """Return the mean spectra of speech and of pauses over some files; None without."""
        files = list(files)
        frames = sum((self._frames[file] for file in files), np.zeros(2, int))
        if not frames[0]:
            return None
        spectra = (self._spectra[file].astype(np.float64) for file in files)
        speech, pause = functools.reduce(np.add, spectra)
        return speech / frames[0], pause / frames[1] if frames[1] else None
