"""Pitch without a network, on the CPU: harvest and dio of WORLD (pyworld), pm of Praat
(parselmouth).

Settings are those of RVC's feature extraction. The packages come with the extra `pitch`.
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
from typing import Any

import numpy as np

from rvc_jax.config import CONTENT_HOP, FEATURE_HOP, FEATURE_RATE, PITCH_MAX_HZ, PITCH_MIN_HZ
from rvc_jax.errors import UserError
from rvc_jax.storage.installation import install_command

PRAAT_VOICING_THRESHOLD = 0.6

_PACKAGES = {"harvest": "pyworld", "dio": "pyworld", "pm": "praat-parselmouth"}
_STEP = FEATURE_HOP / FEATURE_RATE
_PRAAT_WINDOW = round(3 * FEATURE_RATE / PITCH_MIN_HZ)
"""Samples of a frame of Praat: three periods of the lowest pitch."""

Method = Callable[[np.ndarray, int], np.ndarray]
"""Finds the pitch of samples (float64) in a number of frames; 0 is unvoiced."""


class ClassicalPitch:
    """The pitch extractors "harvest", "dio" and "pm"; see `features.f0.PitchExtractor`.

    stonemask, WORLD's refinement, follows harvest and dio. RVC offers a median filter over three
    frames for harvest in conversion, and never applies it in preparation; here it is left out, so
    that features are the same in both. pm is Praat's autocorrelation method. As in RVC, the frames
    that it lacks at the two ends are unvoiced, equally many at either, so that its frames are up to
    5 ms off the grid.
    """

    def __init__(self, name: str) -> None:
        """Load the method's package.

        Raises:
          UserError: the package is missing.
          ValueError: another name.
        """
        if name not in _PACKAGES:
            raise ValueError(f"no classical pitch method: {name!r}")
        self.name = name
        self._pitch = _praat() if name == "pm" else _world(name)
        version = importlib.metadata.version(_PACKAGES[name])
        # Features are cached by this hash: its text must not change.
        settings = (name, version, PITCH_MIN_HZ, PITCH_MAX_HZ, PRAAT_VOICING_THRESHOLD)
        self.fingerprint = hashlib.sha256(f"classical pitch {settings}".encode()).hexdigest()

    def __call__(self, audio: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        """Find the pitch; see `features.f0.PitchExtractor`."""
        if audio.ndim != 2 or audio.shape[1] % CONTENT_HOP:
            raise ValueError(
                f"audio must be [batch, multiple of {CONTENT_HOP}], not {audio.shape}"
            )
        if lengths is None:
            lengths = np.full(len(audio), audio.shape[1])
        pitch = np.zeros((len(audio), audio.shape[1] // FEATURE_HOP), np.float32)
        rows = [row[:length] for row, length in zip(audio, lengths, strict=True)]
        # Threads are enough: pyworld releases the interpreter's lock.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for result, found in zip(pitch, pool.map(self._find_row, rows), strict=True):
                result[: len(found)] = found
        return pitch

    def _find_row(self, row: np.ndarray) -> np.ndarray:
        """Pitch of one row [samples] -> [samples // 160]."""
        frames = len(row) // FEATURE_HOP
        if not frames:
            return np.zeros(0)
        return self._pitch(np.ascontiguousarray(row, np.float64), frames)


def _world(name: str) -> Method:
    world = load_world()
    estimate = getattr(world, name)

    def pitch(samples: np.ndarray, frames: int) -> np.ndarray:
        limits = {"f0_floor": PITCH_MIN_HZ, "f0_ceil": PITCH_MAX_HZ}
        coarse, times = estimate(samples, FEATURE_RATE, frame_period=1000 * _STEP, **limits)
        # WORLD has one more frame at the very end.
        return world.stonemask(samples, coarse, times, FEATURE_RATE)[:frames]

    return pitch


@functools.cache
def load_world() -> Any:
    """Import the compiled part of pyworld, without the package around it.

    The package imports pkg_resources to look up its version; setuptools 81 dropped that.
    """
    name = "pyworld.pyworld"
    if name in sys.modules:
        return sys.modules[name]
    package = importlib.util.find_spec("pyworld")
    if package is None:
        raise _missing_package_error("pyworld")
    folders = package.submodule_search_locations
    spec = importlib.machinery.PathFinder.find_spec(name, folders)
    if spec is None or spec.loader is None:
        raise _missing_package_error("pyworld")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # It cannot be loaded twice: a later import of pyworld has to get the same module.
    sys.modules[name] = module
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
        f"pitch by {' or '.join(methods)} needs the package {package}: "
        f"{install_command('pitch')}, or choose another method"
    )
