"""The loudest sample of every frame."""

from __future__ import annotations

import numpy as np

from rvc_jax.config import PrepareConfig
from rvc_jax.data.peaks import measure_peaks
from rvc_jax.data.recording import Recording, read_slice

RATE = 16000
HOP = RATE // 100


def test_peaks_are_those_of_the_frames_as_stored() -> None:
    wave = np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    marks = np.zeros(300, np.float32)
    recording = Recording(wave, RATE, marks.astype(bool), marks)
    config = PrepareConfig(preset="nano")
    slices = [(0, RATE, 100), (RATE, 2 * RATE + 50, 98)]  # the second ends in a part of a frame
    peaks = measure_peaks(recording, slices, config)
    assert peaks.dtype == np.float32 and len(peaks) == 198
    place = 0
    for start, stop, frames in slices:
        stored = read_slice(recording, start, stop, config)
        for frame in range(frames):
            expected = np.abs(stored[frame * HOP : (frame + 1) * HOP]).max()
            assert peaks[place + frame] == expected
        place += frames


def test_no_slice_has_no_peaks() -> None:
    empty = np.zeros(0, np.float32)
    recording = Recording(empty, RATE, empty.astype(bool), empty)
    assert measure_peaks(recording, [], PrepareConfig(preset="nano")).shape == (0,)
