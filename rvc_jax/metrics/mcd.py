"""Mel-cepstral distortion: how much the timbre of two recordings of the same words differs.

Pitch, level and timing do not count.
"""

from __future__ import annotations

import math

import numpy as np

from rvc_jax.audio.spectrogram import mel_filters, periodic_hann

ORDER = 24
"""Coefficients that are compared; c0, the level, is not among them."""

# Frames of 25 ms every 10 ms at 16 kHz.
_WINDOW = 400
_HOP = 160
_TRANSFORM = 1024
_BANDS = 80

_SILENCE_DB = 40.0  # below the loud frames
_FLOOR_DB = 80.0  # below the loudest band


def mel_cepstrum(audio16k: np.ndarray) -> np.ndarray:
    """Compute the mel-cepstral coefficients 1 to 24 of the frames that are not silent.

    L_k is the natural logarithm of the amplitude in band k of K = 80 bands on the mel scale (0 to 8
    kHz, 25 ms Hann window every 10 ms), and c_m = 2/K * sum_k L_k cos(pi m (k + 1/2) / K), so that
    L_k is about c_0/2 + sum_m c_m cos(...). This is the cepstrum of the amplitude, whose scale the
    usual factor of the distortion presumes.

    Args:
      audio16k: float [samples] at 16 kHz.

    Returns: float64 [frames, 24]. Frames 40 dB below the loud ones are left out; silence has none.
    """
    if len(audio16k) < _WINDOW:
        return np.zeros((0, ORDER))
    samples = np.asarray(audio16k, np.float64)
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP]
    spectrum = np.fft.rfft(frames * periodic_hann(_WINDOW), _TRANSFORM)
    power = np.square(np.abs(spectrum))
    filters = mel_filters(16000, _TRANSFORM, _BANDS, 0.0, None)
    bands = power @ filters.astype(np.float64)
    level = bands.sum(axis=1)
    if not level.any():
        return np.zeros((0, ORDER))
    bands = bands[level > np.percentile(level, 95) * 10 ** (-_SILENCE_DB / 10)]
    floor = bands.max() * 10 ** (-_FLOOR_DB / 10)
    logarithm = 0.5 * np.log(np.maximum(bands, floor))
    angles = np.pi * (np.arange(_BANDS)[:, None] + 0.5) * np.arange(1, ORDER + 1) / _BANDS
    return logarithm @ np.cos(angles) * (2 / _BANDS)


def mel_cepstral_distortion(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the mel-cepstral distortion in dB of two recordings of the same words.

    10 / ln 10 * sqrt(2 * sum of the squared differences of the 24 coefficients), averaged along the
    path of dynamic time warping: about the root mean square, in dB, between the two smooth spectra
    on the mel scale. R. Kubichek, Mel-cepstral distance measure for objective speech quality
    assessment, 1993.

    Args:
      first, second: float [samples] at 16 kHz. Memory is proportional to the product of their
        lengths, 0.2 GB for 30 s each.

    Returns: 0 for equal recordings; NaN if one of them is silent.
    """
    import librosa

    cepstra = [mel_cepstrum(audio) for audio in (first, second)]
    if min(map(len, cepstra)) == 0:
        return math.nan
    total, path = librosa.sequence.dtw(
        *(cepstrum.T for cepstrum in cepstra), metric="euclidean"
    )
    return 10 / math.log(10) * math.sqrt(2) * float(total[-1, -1]) / len(path)
