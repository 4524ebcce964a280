"""Pitch without a network, on the CPU: harvest and dio of WORLD (pyworld), pm of Praat
(parselmouth).

Settings are those of RVC's feature extraction. The packages are those of the extra `pitch`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import numpy as np

from rvc_jax.config import CONTENT_HOP, FEATURE_HOP, FEATURE_RATE, PITCH_MAX_HZ, PITCH_MIN_HZ
from rvc_jax.errors import UserError

PRAAT_VOICING_THRESHOLD = 0.6

_PACKAGES = {"harvest": "pyworld", "dio": "pyworld", "pm": "praat-parselmouth"}
_STEP = FEATURE_HOP / FEATURE_RATE
_PRAAT_WINDOW = round(3 * FEATURE_RATE / PITCH_MIN_HZ)
"""Samples that Praat looks at for one frame: three periods of the lowest pitch."""


class ClassicalPitch:
    """The pitch extractors "harvest", "dio" and "pm"; see `features.f0.PitchExtractor`.

    harvest and dio are followed by stonemask, WORLD's refinement; the median filter over three
    frames that RVC offers for harvest at conversion, and never applies in preparation, is left out:
    features are the same in both. pm is Praat's autocorrelation method. As in RVC, the frames that
    it does not give for want of samples at the two ends are unvoiced, the same number at either,
    which leaves its frames up to 5 ms from the grid.
    """

    def __init__(self, name: str) -> None:
        """Raises UserError if the package is missing, ValueError for another name."""
        if name not in _PACKAGES:
            raise ValueError(f"no classical pitch method: {name!r}")
        self.name = name
        self._pitch = _praat() if name == "pm" else _world(name)
        version = importlib.metadata.version(_PACKAGES[name])
        settings = (name, version, PITCH_MIN_HZ, PITCH_MAX_HZ, PRAAT_VOICING_THRESHOLD)
        self.fingerprint = hashlib.sha256(f"classical pitch {settings}".encode()).hexdigest()

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        if audio.ndim != 2 or audio.shape[1] % CONTENT_HOP:
            raise ValueError(
                f"audio must be [batch, multiple of {CONTENT_HOP}], not {audio.shape}"
            )
        if lengths is None:
            lengths = np.full(len(audio), audio.shape[1])
        pitch = np.zeros((len(audio), audio.shape[1] // FEATURE_HOP), np.float32)
        rows = [row[:length] for row, length in zip(audio, lengths, strict=True)]
        with ThreadPoolExecutor(
            os.cpu_count()
        ) as pool:  # pyworld lets go of the interpreter's lock
            for result, found in zip(pitch, pool.map(self._row, rows), strict=True):
                result[: len(found)] = found
        return pitch

    def _row(self, row: np.ndarray) -> np.ndarray:
        """Pitch of one row [samples] -> [samples // 160]."""
        frames = len(row) // FEATURE_HOP
        return (
            self._pitch(np.ascontiguousarray(row, np.float64), frames)
            if frames
            else np.zeros(0)
        )


Method = Callable[[np.ndarray, int], np.ndarray]
"""Pitch of samples (float64) in a number of frames; 0 is unvoiced."""


def _world(name: str) -> Method:
    world = _world_extension()
    estimate = getattr(world, name)

    def pitch(samples: np.ndarray, frames: int) -> np.ndarray:
        limits = {"f0_floor": PITCH_MIN_HZ, "f0_ceil": PITCH_MAX_HZ}
        coarse, times = estimate(samples, FEATURE_RATE, frame_period=1000 * _STEP, **limits)
        return world.stonemask(samples, coarse, times, FEATURE_RATE)[
            :frames
        ]  # one more lies at the very end

    return pitch


@functools.cache
def _world_extension() -> ModuleType:
    """The compiled part of pyworld, without the package around it.

    That imports pkg_resources for no more than a version; setuptools 81 has dropped it.
    """
    name = "pyworld.pyworld"
    if name in sys.modules:
        return sys.modules[name]
    package = importlib.util.find_spec("pyworld")
    spec = package and importlib.machinery.PathFinder.find_spec(
        name, package.submodule_search_locations
    )
    if spec is None:
        raise _missing_package_error("pyworld")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[name] = (
        module  # whoever imports pyworld afterwards gets the same; it cannot be loaded twice
    )
    return module


def _praat() -> Method:
    try:
        import parselmouth
    except ModuleNotFoundError as error:
        raise _missing_package_error("praat-parselmouth") from error

    def pitch(samples: np.ndarray, frames: int) -> np.ndarray:
        if len(samples) < _PRAAT_WINDOW:
            return np.zeros(frames)
        found = parselmouth.Sound(samples, FEATURE_RATE).to_pitch_ac(
            time_step=_STEP,
            voicing_threshold=PRAAT_VOICING_THRESHOLD,
            pitch_floor=PITCH_MIN_HZ,
            pitch_ceiling=PITCH_MAX_HZ,
        )
        hz = found.selected_array["frequency"]
        before = (frames - len(hz) + 1) // 2
        return np.pad(hz, (before, frames - len(hz) - before))

    return pitch


def _missing_package_error(package: str) -> UserError:
    methods = [name for name, needed in _PACKAGES.items() if needed == package]
    return UserError(
        f'pitch by {" or ".join(methods)} needs the package {package}: pip install "rvc_jax[pitch]", '
        "or choose another method"
    )
