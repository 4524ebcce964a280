"""Level of a wave: level curves, normalization of slices and files, volume envelopes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import scipy.signal

from rvc_jax.audio.blocks import BLOCK, block_ranges, read_range, write_range
from rvc_jax.audio.level import NORMAL_PEAK, SILENT_PEAK
from rvc_jax.config import PrepareConfig

_LOUDNESS_PEAK = 0.99
_GATE_LUFS = -70.0
_LUFS_OFFSET = -0.691


def rms(wave: np.ndarray, frame: int, hop: int) -> np.ndarray:
    """Compute the root mean square of centered frames, like `librosa.feature.rms`.

    There is silence outside the wave.

    Args:
      wave: [samples]; one on the disk is read block by block.
      frame: length of a frame in samples.
      hop: step between frames in samples.

    Returns: float32 [samples // hop + 1]; frame i is centered on sample i * hop.
    """
    levels = np.empty(len(wave) // hop + 1, np.float32)
    for first, last in block_ranges(len(levels), max(BLOCK // hop, 1)):
        start = first * hop - frame // 2
        stop = start + (last - 1 - first) * hop + frame
        part = read_range(wave, max(start, 0), min(stop, len(wave)))
        part = part.astype(np.float32, copy=False)
        padded = np.pad(part, (max(-start, 0), max(stop - len(wave), 0)))
        frames = np.lib.stride_tricks.sliding_window_view(padded, frame)[::hop]
        levels[first:last] = np.sqrt(np.einsum("ft,ft->f", frames, frames) / frame)
    return levels


def normalize_slice(wave: np.ndarray, config: PrepareConfig) -> np.ndarray:
    """Scale a slice toward a peak of `normalize_peak`, keeping some of its own level, as RVC does.

    Args:
      wave: float32 [samples].

    Returns: float32 [samples]; digital silence is not changed.
    """
    peak = np.abs(wave).max(initial=0.0)
    return (wave * slice_gain(peak, config)).astype(np.float32) if peak else wave


def slice_gain(peak: float, config: PrepareConfig) -> float:
    """Compute the factor of `normalize_slice` for a wave of this peak."""
    return config.normalize_peak * config.normalize_mix / peak + 1 - config.normalize_mix


def normalize_file(
    wave: np.ndarray, rate: int, config: PrepareConfig
) -> tuple[float, tuple[str, ...]]:
    """Scale a whole recording by its `file_gain`, in place; arguments and result as there."""
    gain, notes = file_gain(wave, rate, config)
    if gain != 1:
        for start, stop in block_ranges(len(wave)):
            write_range(wave, start, read_range(wave, start, stop) * np.float32(gain))
    return gain, notes


def file_gain(
    wave: np.ndarray, rate: int, config: PrepareConfig
) -> tuple[float, tuple[str, ...]]:
    """Compute the gain that brings a recording to full scale ("pre") or a loudness ("loudness").

    Seconds with a peak above `max_peak` are damaged and are not measured. A recording with a peak
    below -80 dB of full scale keeps its level. So do recordings shorter than 0.4 s with "loudness",
    which also never raises peaks above 0.99.

    Args:
      wave: float32 [samples]; may be a memmap.
      rate: in Hz.

    Returns: the gain, and a note if the loudness is not reached.
    """
    if config.normalization not in ("pre", "loudness"):
        return 1.0, ()
    peaks = (
        float(np.abs(part).max()) for part in _undamaged_seconds(wave, rate, config.max_peak)
    )
    peak = max(peaks, default=0.0)
    if peak < SILENT_PEAK:
        return 1.0, ()
    if config.normalization == "pre":
        return 1 / peak, ()
    # The standard gates at -70 LUFS, which would leave nothing of a quiet recording.
    raising = max(1.0, NORMAL_PEAK / peak)
    seconds = _undamaged_seconds(wave, rate, config.max_peak)
    raised = (second * np.float32(raising) for second in seconds)
    loudness = integrated_loudness(raised, rate)
    gain, notes = _loudness_gain(loudness, peak * raising, config.loudness_lufs)
    return gain * raising if gain != 1 else 1.0, notes


def _undamaged_seconds(wave: np.ndarray, rate: int, max_peak: float) -> Iterator[np.ndarray]:
    """Yield a wave's seconds; those louder than `max_peak` are silenced."""
    for start, stop in block_ranges(len(wave), rate):
        second = read_range(wave, start, stop)
        yield second if np.abs(second).max() <= max_peak else np.zeros_like(second)


def _loudness_gain(
    loudness: float, peak: float, target: float
) -> tuple[float, tuple[str, ...]]:
    if loudness < _GATE_LUFS:
        return 1.0, ()
    wanted = 10 ** ((target - loudness) / 20)
    gain = min(wanted, _LOUDNESS_PEAK / peak)
    reached = loudness + 20 * np.log10(gain)
    if target - reached <= 0.1:
        return gain, ()
    note = f"loudness {reached:.1f} LUFS instead of {target:g}: with more, the peaks would clip"
    return gain, (note,)


def integrated_loudness(blocks: Iterable[np.ndarray], rate: int) -> float:
    """Measure the loudness of a mono recording in LUFS, by ITU-R BS.1770-4 and EBU R128.

    Args:
      blocks: [samples] each, in order.
      rate: in Hz.

    Returns: -inf for a recording shorter than 0.4 s or never above -70 LUFS.
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
    if len(steps) < 4:
        return -math.inf
    power = np.convolve(steps, np.full(4, 0.25), "valid")
    power = power[power > 10 ** ((_GATE_LUFS - _LUFS_OFFSET) / 10)]
    if not len(power):
        return -math.inf
    relative_gate = power.mean() / 10
    return _LUFS_OFFSET + 10 * float(np.log10(power[power > relative_gate].mean()))


def _k_weighting(rate: int) -> np.ndarray:
    """Second-order sections of BS.1770's two filters at any rate.

    At 48 kHz they are those of the standard's tables.
    """
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
    """Give a converted voice the volume envelope of its source (RVC's `change_rms`).

    Both levels are measured in frames of a second every half second, and interpolated over the
    target's samples.

    Args:
      source: [samples] the recording, at source_rate Hz.
      target: [samples] the converted voice, at target_rate Hz, of equal duration.
      mix: 1 returns the target unchanged, 0 follows the source's envelope entirely.

    Returns: float32, as long as the target.
    """
    if mix == 1 or len(target) == 0 or len(source) == 0:
        return target
    gains = volume_gains(source, source_rate, target, target_rate, mix)
    return (target * gains(0, len(target))).astype(np.float32)


def volume_gains(
    source: np.ndarray, source_rate: int, target: np.ndarray, target_rate: int, mix: float
) -> Callable[[int, int], np.ndarray]:
    """Compute the gains of `match_volume_envelope`.

    Arguments as there; neither wave is empty, and both may be on the disk.

    Returns: a function (start, stop) -> [stop - start].
    """
    wanted = _half_second_levels(source, source_rate)
    present = _half_second_levels(target, target_rate)

    def gains(start: int, stop: int) -> np.ndarray:
        numerator = _interpolate(wanted, start, stop, len(target))
        denominator = _interpolate(present, start, stop, len(target))
        return (numerator / np.maximum(denominator, 1e-6)) ** (1 - mix)

    return gains


def _half_second_levels(wave: np.ndarray, rate: int) -> np.ndarray:
    return rms(wave, rate // 2 * 2, rate // 2)


def _interpolate(levels: np.ndarray, start: int, stop: int, length: int) -> np.ndarray:
    """Interpolate levels at the points start..stop of `length` points spread evenly over them.

    Levels and points both stand for intervals, not for moments.
    """
    points = (np.arange(start, stop) + 0.5) * (len(levels) / length) - 0.5
    return np.interp(points, np.arange(len(levels)), levels)
