"""Long waves block by block: filters that carry their state, and arrays on the disk."""

from __future__ import annotations

import contextlib
import math
import mmap
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import scipy.signal
import soxr

from rvc_jax.audio.filters import high_pass_sections, high_pass_zero_phase, resampled_length
from rvc_jax.errors import UserError, describe_os_error

BLOCK = 1 << 19
"""Samples that a pass over a wave reads at once: about eleven seconds at 48 kHz."""

IN_MEMORY_SECONDS = 120
"""Waves up to this duration are plain arrays; longer ones are in a scratch file."""

_INAUDIBLE = 1e-30


class Resampler:
    """Resamples blocks as they arrive; together they equal `filters.resample` of the whole."""

    def __init__(self, from_rate: int, to_rate: int, channels: int = 1, quality: str = "VHQ"):
        """Rates are in Hz; `quality` is one of soxr's names."""
        self.taken = 0
        """Samples pushed so far."""
        self._given = 0
        self._rates = (from_rate, to_rate)
        self._stream = None
        if from_rate != to_rate:
            self._stream = soxr.ResampleStream(
                from_rate, to_rate, channels, dtype="float32", quality=quality
            )

    def push(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """Add a block, and return the samples that are ready.

        Args:
          block: float32 [samples] or [samples, channels]; may be empty.
          last: whether the wave ends with it.
        """
        self.taken += len(block)
        ready = block
        if self._stream is not None:
            ready = self._stream.resample_chunk(block, last=last)
        if last:
            missing = max(resampled_length(self.taken, *self._rates) - self._given, 0)
            ready = ready[:missing]
            ready = np.pad(ready, [(0, missing - len(ready))] + [(0, 0)] * (ready.ndim - 1))
        self._given += len(ready)
        return ready


def resample_blocks(
    blocks: Iterable[np.ndarray], from_rate: int, to_rate: int
) -> Iterator[np.ndarray]:
    """Resample blocks [samples]; together they equal `filters.resample` of the whole."""
    if from_rate == to_rate:
        yield from blocks
        return
    resampler = Resampler(from_rate, to_rate)
    for block in blocks:
        ready = resampler.push(block)
        if len(ready):
            yield ready
    rest = resampler.push(np.zeros(0, np.float32), last=True)
    if len(rest):
        yield rest


def high_pass_blocks(
    blocks: Iterable[np.ndarray], rate: int, corner_hz: float
) -> Iterator[np.ndarray]:
    """Remove rumble from blocks [samples]; together they equal `filters.high_pass` of the whole.

    0 Hz turns the filter off.
    """
    if not corner_hz:
        yield from blocks
        return
    sections = high_pass_sections(rate, corner_hz)
    state = np.zeros((len(sections), 2))
    for block in blocks:
        filtered, state = scipy.signal.sosfilt(sections, block.astype(np.float64), zi=state)
        # Denormal numbers are slow, and digital silence would be full of them.
        state[np.abs(state) < _INAUDIBLE] = 0
        yield filtered.astype(np.float32)


def high_pass_blocks_zero_phase(
    blocks: Iterable[np.ndarray], rate: int, corner_hz: float
) -> Iterator[np.ndarray]:
    """Filter blocks [samples] like `filters.high_pass_zero_phase` of the whole.

    They are equal to the rounding of float32. Each part is filtered together with its surroundings,
    which are long enough that its borders leave no trace: the filter rings for about 15 / corner
    seconds until it is 120 dB down. 0 Hz turns the filter off.
    """
    if not corner_hz:
        yield from blocks
        return
    edge = math.ceil(30 / corner_hz * rate)
    held = np.zeros(0, np.float32)
    before = 0  # the first samples of `held` that were yielded already
    for block in map(_add_inaudible_dither, blocks):
        held = np.concatenate([held, block])
        if len(held) >= before + max(BLOCK, 2 * edge) + edge:
            yield high_pass_zero_phase(held, rate, corner_hz)[before:-edge]
            held = held[-2 * edge :]
            before = edge
    if len(held) > before:
        yield high_pass_zero_phase(held, rate, corner_hz)[before:]


def _add_inaudible_dither(block: np.ndarray) -> np.ndarray:
    """Add a tone at half the sample rate, 400 dB down.

    No high-pass filter removes it. Without it a filter would decay into denormal numbers, which are
    slow.
    """
    tiny = np.full(len(block), 1e-20, np.float32)
    tiny[::2] *= -1
    return block + tiny


class WaveCollector:
    """Concatenates the blocks of a wave as they arrive. Use it as a context.

    A wave of more than `IN_MEMORY_SECONDS` goes to a nameless scratch file, block by block.
    """

    def __init__(self, rate: int, scratch: Path):
        """rate: of the wave in Hz; scratch: folder for the scratch file."""
        self._most_in_memory = IN_MEMORY_SECONDS * rate
        self._scratch = scratch
        self._held: list[np.ndarray] = []
        self._samples = 0
        self._file: IO[bytes] | None = None

    def append(self, block: np.ndarray) -> None:
        """Add a block [samples].

        Raises:
          UserError: there is no room for the scratch file.
        """
        self._held.append(np.ascontiguousarray(block, np.float32))
        self._samples += len(block)
        if self._samples > self._most_in_memory:
            self._spill()

    def finish(self) -> np.ndarray:
        """Return the wave: float32 [samples], writeable; a long one is a memmap.

        The scratch file vanishes with the memmap. Raises UserError as `append` does.
        """
        if self._file is None:
            return np.concatenate(self._held or [np.zeros(0, np.float32)])
        with _explain_full_scratch(self._scratch):
            self._file.flush()
            return np.memmap(self._file, np.float32, "r+", shape=(self._samples,))

    def _spill(self) -> None:
        with _explain_full_scratch(self._scratch):
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115
            self._file.writelines(part.data for part in self._held)
        self._held.clear()

    def __enter__(self) -> WaveCollector:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()  # a memmap keeps the contents


@contextlib.contextmanager
def _explain_full_scratch(scratch: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"{scratch} cannot hold a recording while it is prepared"
        raise UserError(
            f"{what}: {describe_os_error(error)}; name a folder with more room in TMPDIR"
        ) from error


def collect_blocks(blocks: Iterable[np.ndarray], rate: int, scratch: Path) -> np.ndarray:
    """Concatenate blocks [samples]: float32 [samples], writeable; see `WaveCollector`."""
    with WaveCollector(rate, scratch) as collector:
        for block in blocks:
            collector.append(block)
        return collector.finish()


def block_ranges(samples: int, size: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of the blocks of a wave, in order; `BLOCK` samples each by default."""
    size = size or BLOCK
    return ((start, min(start + size, samples)) for start in range(0, samples, size))


def reflect_positions(positions: Any, length: Any) -> Any:
    """Map positions to those of the samples that reflection puts there.

    A signal is reflected at its first and last sample, as often as needed: the result equals
    indexing numpy's `pad` with mode "reflect". Works on numpy and JAX arrays alike.

    Args:
      positions: integers, any shape; they may lie before or behind the signal.
      length: of the signal, at least 2; an integer, or an array that broadcasts.

    Returns: integers in 0..length - 1, of the broadcast shape.
    """
    last = length - 1
    return last - abs(positions % (2 * last) - last)


def read_range(wave: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Read the samples start..stop of a wave; from the disk they are a copy.

    The pages that were read are released, so that a pass over a long wave takes no memory.
    """
    # A copy of a memmap is also of class memmap, but has no mapping.
    mapped = getattr(wave, "_mmap", None)
    if mapped is None:
        return wave[start:stop]
    samples = np.array(wave[start:stop])
    _release_pages(mapped)
    return samples


def write_range(wave: np.ndarray, start: int, samples: np.ndarray) -> None:
    """Write samples into a wave, in memory or on the disk."""
    wave[start : start + len(samples)] = samples
    mapped = getattr(wave, "_mmap", None)
    if mapped is not None:
        _release_pages(mapped)


def _release_pages(mapped: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_DONTNEED"):  # the file keeps what was written
        mapped.madvise(mmap.MADV_DONTNEED)
