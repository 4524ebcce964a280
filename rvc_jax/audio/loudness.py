"""Level of a wave: the level meter, the normalisers of slices and of files, the loudness matching
of conversions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import scipy.signal

from rvc_jax.audio import blocks as stream
from rvc_jax.config import PrepareConfig

_SILENT_PEAK = 1e-4
_LOUDNESS_PEAK = 0.99
_GATE_LUFS = -70.0
_LUFS_OFFSET = -0.691


def rms(wave: np.ndarray, frame: int, hop: int) -> np.ndarray:
    """Root mean square over centred frames; outside the wave there is silence (like
    `librosa.feature.rms`).

    Args:
      wave: [samples]; one on the disk is read block by block.
      frame: length of a frame in samples.
      hop: step between frames in samples.

    Returns: float32 [samples // hop + 1]; frame i is centred on sample i * hop.
    """
    levels = np.empty(len(wave) // hop + 1, np.float32)
    for first, last in stream.block_ranges(len(levels), max(stream.BLOCK // hop, 1)):
        start = first * hop - frame // 2
        stop = start + (last - 1 - first) * hop + frame
        part = stream.read_range(wave, max(start, 0), min(stop, len(wave))).astype(
            np.float32, copy=False
        )
        padded = np.pad(part, (max(-start, 0), max(stop - len(wave), 0)))
        frames = np.lib.stride_tricks.sliding_window_view(padded, frame)[::hop]
        levels[first:last] = np.sqrt(np.einsum("ft,ft->f", frames, frames) / frame)
    return levels


def normalize_slice(wave: np.ndarray, config: PrepareConfig) -> np.ndarray:
    """Bring the peak of a slice towards `normalize_peak`, keeping some of its own level (RVC's
    preparation).

    Args:
      wave: [samples] float32.

    Returns: float32 [samples]; digital silence is returned as it is.
    """
    peak = np.abs(wave).max(initial=0.0)
    return (wave * slice_gain(peak, config)).astype(np.float32) if peak else wave


def slice_gain(peak: float, config: PrepareConfig) -> float:
    """What `normalize_slice` multiplies a wave of this peak by."""
    return config.normalize_peak * config.normalize_mix / peak + 1 - config.normalize_mix


def normalize_file(
    wave: np.ndarray, rate: int, config: PrepareConfig
) -> tuple[float, tuple[str, ...]]:
    """Multiply a whole recording by its `file_gain`, in place; args and result as there."""
    gain, notes = file_gain(wave, rate, config)
    if gain != 1:
        for start, stop in stream.block_ranges(len(wave)):
            stream.write_range(
                wave, start, stream.read_range(wave, start, stop) * np.float32(gain)
            )
    return gain, notes


def file_gain(
    wave: np.ndarray, rate: int, config: PrepareConfig
) -> tuple[float, tuple[str, ...]]:
    """What brings a whole recording to full scale ("pre") or to `loudness_lufs` ("loudness").

    Seconds with a peak above `max_peak` are damage and are not measured. Digital silence stays as
    it is, and so does what is shorter than 0.4 s or below -70 LUFS with "loudness"; peaks of more
    than 0.99 are not made for the sake of loudness.

    Args:
      wave: float32 [samples]; a memmap as well.
      rate: in Hz.

    Returns: the gain, and notes of what was not reached.
    """
    if config.normalization not in ("pre", "loudness"):
        return 1.0, ()
    peak = max(
        (
            float(np.abs(block).max())
            for block in _undamaged_seconds(wave, rate, config.max_peak)
        ),
        default=0.0,
    )
    if peak < _SILENT_PEAK:
        return 1.0, ()
    if config.normalization == "pre":
        return 1 / peak, ()
    loudness = integrated_loudness(_undamaged_seconds(wave, rate, config.max_peak), rate)
    return _loudness_gain(loudness, peak, config.loudness_lufs)


def _undamaged_seconds(wave: np.ndarray, rate: int, max_peak: float) -> Iterator[np.ndarray]:
    """Copies of a wave's seconds, silent where they are louder than `max_peak`."""
    for start, stop in stream.block_ranges(len(wave), rate):
        second = stream.read_range(wave, start, stop)
        yield second if np.abs(second).max() <= max_peak else np.zeros_like(second)


def _loudness_gain(
    loudness: float, peak: float, target: float
) -> tuple[float, tuple[str, ...]]:
    if loudness < _GATE_LUFS:
        return 1.0, ()
    wanted = 10 ** ((target - loudness) / 20)
    gain = min(wanted, _LOUDNESS_PEAK / peak)
    reached = loudness + 20 * np.log10(gain)
    note = f"loudness {reached:.1f} LUFS instead of {target:g}: with more, the peaks would clip"
    return gain, (note,) if target - reached > 0.1 else ()


def integrated_loudness(blocks: Iterable[np.ndarray], rate: int) -> float:
    """Loudness of a whole mono recording in LUFS, as ITU-R BS.1770-4 and EBU R128 measure it.

    Args:
      blocks: [samples] each, one after the other.
      rate: in Hz.

    Returns: -inf for what is shorter than 0.4 s or never above -70 LUFS.
    """
    step = rate // 10  # windows of 0.4 s overlap by three quarters
    sections = _k_weighting(rate)
    state = np.zeros((len(sections), 2))
    rest = np.zeros(0)
    powers = []
    for block in blocks:
        weighted, state = scipy.signal.sosfilt(sections, block.astype(np.float64), zi=state)
        squares = np.concatenate([rest, np.square(weighted)])
        whole = len(squares) // step * step
        powers.append(squares[:whole].reshape(-1, step).mean(axis=1))
        rest = squares[whole:]
    steps = np.concatenate(powers or [rest])
    power = np.convolve(steps, np.full(4, 0.25), "valid") if len(steps) >= 4 else steps[:0]
    power = power[power > 10 ** ((_GATE_LUFS - _LUFS_OFFSET) / 10)]
    if not len(power):
        return -math.inf
    return _LUFS_OFFSET + 10 * float(np.log10(power[power > power.mean() / 10].mean()))


def _k_weighting(rate: int) -> np.ndarray:
    """Second-order sections of BS.1770's two filters at any rate; at 48 kHz they are those of the
    standard's tables."""
    angle = math.tan(math.pi * 1681.974450955533 / rate)
    high = 10 ** (3.999843853973347 / 20)
    middle = high**0.4996667741545416
    damped = angle / 0.7071752369554196
    shelf = [
        high + middle * damped + angle**2,
        2 * (angle**2 - high),
        high - middle * damped + angle**2,
        1 + damped + angle**2,
        2 * (angle**2 - 1),
        1 - damped + angle**2,
    ]
    angle = math.tan(math.pi * 38.13547087602444 / rate)
    damped = angle / 0.5003270373238773
    first = 1 + damped + angle**2
    high_pass = [1, -2, 1, 1, 2 * (angle**2 - 1) / first, (1 - damped + angle**2) / first]
    return np.array([np.array(shelf) / shelf[3], high_pass])


def match_volume_envelope(
    source: np.ndarray, source_rate: int, target: np.ndarray, target_rate: int, mix: float
) -> np.ndarray:
    """Give a converted voice the loudness of the recording that it was made from (RVC's
    `change_rms`).

    Both levels are metered in frames of a second every half second and interpolated over the
    target's samples.

    Args:
      source: [samples] the recording, at source_rate Hz.
      target: [samples] the converted voice, at target_rate Hz; both last equally long.
      mix: 1 returns the target unchanged, 0 follows the recording's loudness wholly.

    Returns: float32, as long as the target.
    """
    if mix == 1 or len(target) == 0 or len(source) == 0:
        return target
    gains = volume_gains(source, source_rate, target, target_rate, mix)
    return (target * gains(0, len(target))).astype(np.float32)


def volume_gains(
    source: np.ndarray, source_rate: int, target: np.ndarray, target_rate: int, mix: float
) -> Callable[[int, int], np.ndarray]:
    """What `match_volume_envelope` multiplies the target by: a function (start, stop) -> [stop -
    start].

    Args as there, waves on the disk as well; neither is empty.
    """
    wanted = _half_second_levels(source, source_rate)
    present = _half_second_levels(target, target_rate)

    def gains(start: int, stop: int) -> np.ndarray:
        over = [_interpolate(levels, start, stop, len(target)) for levels in (wanted, present)]
        return (over[0] / np.maximum(over[1], 1e-6)) ** (1 - mix)

    return gains


def _half_second_levels(wave: np.ndarray, rate: int) -> np.ndarray:
    return rms(wave, rate // 2 * 2, rate // 2)


def _interpolate(levels: np.ndarray, start: int, stop: int, length: int) -> np.ndarray:
    """Levels at start..stop of `length` points spread evenly over them; both count their samples as
    intervals."""
    points = (np.arange(start, stop) + 0.5) * (len(levels) / length) - 0.5
    return np.interp(points, np.arange(len(levels)), levels)
