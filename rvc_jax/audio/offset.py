"""Removes a constant offset (DC) before a wave is resampled and filtered.

A high-pass filter takes the beginning of an offset for a jump and lets that pass: a thump at the
beginning of a recording, louder than the speech in it. The same happens where a device changes its
offset during the recording. Offsets that drift slowly are left to the filter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

_FRAME_SECONDS = 0.01
_BLOCK_FRAMES = 800
_REACH = 30
"""Frames before and after a jump, 0.3 s, whose median mean is the offset there."""
_MIN_FRAMES = 3
"""In a shorter wave a mean says nothing."""
_MIN_SHARE = 0.5
"""An offset of less than this share of the sound's level does no harm. The mean of half a second of
speech is below a hundredth of it."""
_MIN_OFFSET = 1e-4
_MAX_SPREAD = 0.25
"""The means on either side of a jump deviate by less than this share of it; in speech, by more."""
_MIN_STEEPNESS = 0.6
"""Share of a jump that happens within 1 ms: rumble is not as steep."""
_EDGE_LEVELS = 4.0
_INITIAL_SECONDS = 0.02


class OffsetRemover:
    """Removes the offset of a wave in blocks, also where it jumps to another value.

    A wave without an offset passes unchanged, to the bit. Results do not depend on the blocks.
    """

    def __init__(self, rate: int):
        """rate: of the wave in Hz."""
        self.largest = 0.0
        """Magnitude of the largest offset that was removed so far; full scale is 1."""
        self._frame = max(round(rate * _FRAME_SECONDS), 10)
        self._held = np.zeros(0, np.float32)
        self._done = 0  # the first samples of `_held` that were returned already
        self._offset: float | None = None

    def remove(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield blocks [samples] without their offset."""
        for block in blocks:
            ready = self.push(block)
            if len(ready):
                yield ready
        yield self.push(np.zeros(0, np.float32), last=True)

    def push(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """Add a block, and return the samples that are ready, without their offset.

        Args:
          block: float32 [samples]; may be empty.
          last: whether the wave ends with it.
        """
        self._held = np.concatenate([self._held, block]) if len(self._held) else block
        ready = [np.zeros(0, np.float32)]
        size = self._frame * _BLOCK_FRAMES
        margin = self._frame * (_REACH + 2)
        while len(self._held) >= self._done + size + margin:
            end = self._done + size
            ready.append(self._advance(self._held[: end + margin], end))
            kept = max(self._done - margin, 0)
            self._held = self._held[kept:]
            self._done -= kept
        if last:
            rest = self._advance(self._held, len(self._held))
            if self._offset:
                _fade(rest[-self._frame :][::-1])
            ready.append(rest)
        return ready[1] if len(ready) == 2 else np.concatenate(ready)

    def _advance(self, wave: np.ndarray, end: int) -> np.ndarray:
        """Return the samples of a wave from those returned before up to `end`."""
        start = self._done
        self._done = end
        means, levels = _measure_frames(wave, self._frame)
        jumps = [
            jump for jump in _find_jumps(wave, means, levels, self._frame) if jump[0] < end
        ]
        is_beginning = self._offset is None
        edge = 0.0
        if self._offset is None:
            first = jumps[0][0] // self._frame if jumps else len(means)
            before = slice(0, max(min(first, 2 * _REACH), 1))
            is_long = len(wave) >= _MIN_FRAMES * self._frame
            offset = _median(means[before]) if is_long else 0.0
            self._offset = _settle(offset, _median(levels[before]))
            if is_long:
                edge = self._find_edge(wave, _median(levels[: 2 * _REACH]))
        if not self._offset and not jumps and not edge:
            return wave[start:end]
        result = wave[start:end].copy()
        begin = 0
        for position, offset in jumps:
            if position < start:
                continue
            self._subtract(result[begin : position - start])
            begin = position - start
            self._offset = offset
        self._subtract(result[begin:])
        for position, _ in jumps:
            _bridge(result, position - start, self._frame // 10)
        if edge:
            # Opus removes offsets itself, with a filter of 3 Hz: they die away slowly.
            count = min(_REACH * self._frame, len(result))
            result[:count] -= edge * np.cos(np.linspace(0, np.pi / 2, count)) ** 2
            self.largest = max(self.largest, abs(edge))
        elif is_beginning:
            _fade(result[: self._frame])
        return result

    def _find_edge(self, wave: np.ndarray, level: float) -> float:
        """Return how far a wave begins from its offset, if that is far beyond its level, else 0."""
        edge = float(wave[: self._frame // 5].mean()) - (self._offset or 0.0)
        return edge if abs(edge) > max(_EDGE_LEVELS * level, _MIN_OFFSET) else 0.0

    def _subtract(self, part: np.ndarray) -> None:
        if self._offset and len(part):
            self.largest = max(self.largest, abs(self._offset))
            part -= np.float32(self._offset)


class InitialOffset:
    """Removes the offset that a stream begins with.

    It is the mean of the first 20 ms, which are held back until they are there; nothing is held
    back behind them. As with `OffsetRemover`, a stream without an offset passes unchanged.
    """

    def __init__(self, rate: int):
        """rate: of the stream in Hz."""
        self._needed = round(rate * _INITIAL_SECONDS)
        self._held = np.zeros(0, np.float32)
        self._offset: float | None = None

    def push(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """Add a block [samples], and return what is ready; last: whether the stream ends."""
        if self._offset is None:
            block = np.concatenate([self._held, block])
            self._held = block
            if not len(block) or (len(block) < self._needed and not last):
                return np.zeros(0, np.float32)
            first = block[: self._needed].astype(np.float64)
            self._offset = _settle(float(first.mean()), 4 * float(first.std()))
        return block - np.float32(self._offset) if self._offset else block


def _measure_frames(wave: np.ndarray, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean and the standard deviation of frames: float32 [frames] each.

    The last frame may be short.
    """
    count = max(len(wave) // frame, 1)
    frames = wave[: count * frame].reshape(count, -1)
    if not frames.size:
        return np.zeros(1, np.float32), np.zeros(1, np.float32)
    means = frames.mean(axis=1)
    powers = np.einsum("ft,ft->f", frames, frames) / frames.shape[1]
    return means, np.sqrt(np.maximum(powers - np.square(means), 0))


def _find_jumps(
    wave: np.ndarray, means: np.ndarray, levels: np.ndarray, frame: int
) -> list[tuple[int, float]]:
    """Find where the offset jumps by more than the level of the sound.

    Returns: (sample, offset from there on), in order.
    """
    found: dict[int, float] = {}
    change = np.abs(means[2:] - means[:-2])
    nearby = np.minimum(levels[2:], levels[:-2])
    for number in (1 + np.flatnonzero(change > np.maximum(nearby, _MIN_OFFSET))).tolist():
        around = slice(max(number - _REACH, 0), number + _REACH + 1)
        before = _median(means[around.start : number])
        after = _median(means[number + 1 : around.stop])
        jump = after - before
        if abs(jump) <= max(_median(levels[around]), _MIN_OFFSET):
            continue
        spread = max(
            _median(np.abs(means[around.start : number] - before)),
            _median(np.abs(means[number + 1 : around.stop] - after)),
        )
        if spread > _MAX_SPREAD * abs(jump):
            continue
        start = (number - 1) * frame
        position, steepest = _find_steepest(wave[start : start + 3 * frame], jump, frame // 10)
        if steepest >= _MIN_STEEPNESS * abs(jump):
            found[start + position] = _settle(after, _median(levels[number + 1 : around.stop]))
    return sorted(found.items())


def _find_steepest(part: np.ndarray, jump: float, width: int) -> tuple[int, float]:
    """Find the sample where the means before and after it, over `width`, differ most.

    Returns: its position, and the difference in the direction of `jump`.
    """
    total = np.concatenate([[0.0], np.cumsum(part, dtype=np.float64)])
    after = total[2 * width :] - total[width:-width]
    before = total[width:-width] - total[: -2 * width]
    steps = np.sign(jump) * (after - before) / width
    best = int(steps.argmax())
    return best + width, float(steps[best])


def _bridge(wave: np.ndarray, position: int, width: int) -> None:
    """Replace the surroundings of a jump by a line, in place: coders and devices blur the jump."""
    start = max(position - width, 0)
    stop = min(position + width, len(wave))
    if start < stop <= len(wave) and position > 0:
        wave[start:stop] = np.linspace(wave[start], wave[stop - 1], stop - start)


def _fade(wave: np.ndarray) -> None:
    """Fade a wave in, in place: coders blur where an offset begins and ends."""
    wave *= np.linspace(0, 1, len(wave), dtype=np.float32)


def _settle(offset: float, level: float) -> float:
    """Return an offset if it matters beside a level, else 0."""
    return offset if abs(offset) > max(_MIN_SHARE * level, _MIN_OFFSET) else 0.0


def _median(values: np.ndarray) -> float:
    """Return the median of a few values; 0 without any. `numpy.median` is slow for so few."""
    ordered = sorted(values.tolist())
    return ordered[len(ordered) // 2] if ordered else 0.0
