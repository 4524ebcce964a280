"""Steady noise (hiss, hum, fans) reduced by spectral gating."""

from __future__ import annotations

import numpy as np

from rvc_jax.audio import blocks
from rvc_jax.errors import UserError

_WINDOW_SECONDS = 0.05
_MOMENTS = 4000  # looked at to learn the noise, spread over the recording
_NOISE_QUANTILE = (
    0.1  # of a frequency's moments have nothing but noise in it: speech leaves gaps everywhere
)
_NOISE_SECONDS = 5
_MARGIN_WINDOWS = 4  # what a sample depends on before and after it is less


def reduce_noise(wave: np.ndarray, rate: int, strength: float) -> None:
    """Take steady noise out of a recording, in place and block by block, with the package
    noisereduce.

    The noise is learnt from the whole recording, per frequency, so that no pause is needed. What
    does not stand out of it is made quieter by `strength` (0.7: 10 dB). noisereduce's own defaults
    take the mean level for the noise and blur the gates over 500 Hz, which costs speech of 19 dB
    above the noise 5 dB of its level: they are not used.

    Args:
      wave: float32 [samples], finite; a memmap as well.
      rate: in Hz.
      strength: share of the noise that is removed, 0..1.

    Raises:
      UserError: noisereduce is not installed.
    """
    try:
        import noisereduce
    except ImportError as error:
        raise UserError(
            'cleaning needs the package noisereduce: pip install "rvc_jax[clean]"'
        ) from error
    window = 1 << round(np.log2(_WINDOW_SECONDS * rate))
    margin = _MARGIN_WINDOWS * window
    noise = noise_like(wave, window, _NOISE_SECONDS * rate)
    if noise is None or not strength:
        return
    before = np.zeros(margin, np.float32)
    for start, stop in blocks.block_ranges(len(wave), blocks.BLOCK // window * window):
        block = np.concatenate(
            [before, blocks.read_range(wave, start, min(stop + margin, len(wave)))]
        )
        before = block[stop - start : stop - start + margin].copy()
        padded = np.pad(block, (0, margin + -len(block) % window))
        cleaned = noisereduce.reduce_noise(
            y=padded,
            sr=rate,
            stationary=True,
            y_noise=noise,
            prop_decrease=strength,
            freq_mask_smooth_hz=None,
            n_fft=window,
            chunk_size=None,
            padding=0,
        )
        blocks.write_range(
            wave, start, cleaned[margin : margin + stop - start].astype(np.float32)
        )


def noise_like(wave: np.ndarray, window: int, samples: int) -> np.ndarray | None:
    """Random noise with the spectrum of a recording's steady noise: [samples], or None if it has
    too few moments.

    The power of noise in one frequency is distributed exponentially: its mean follows from a low
    quantile, which speech hardly touches.
    """
    last = len(wave) - window
    moments = np.unique(
        np.linspace(0, max(last, 0), min(_MOMENTS, max(2 * last // window, 0))).astype(int)
    )
    hann = np.hanning(window + 1)[:-1]
    spectra = (
        np.fft.rfft(hann * blocks.read_range(wave, start, start + window))
        for start in moments.tolist()
    )
    powers = [
        np.square(np.abs(spectrum)).astype(np.float32) for spectrum in spectra if spectrum.any()
    ]
    if len(powers) < 2:
        return None
    power = (
        np.quantile(powers, _NOISE_QUANTILE, axis=0)
        / -np.log(1 - _NOISE_QUANTILE)
        / np.square(hann).sum()
    )
    random = np.random.default_rng(0)
    noise = np.zeros(samples + 2 * window)
    fade = np.sqrt(hann)  # the powers of overlapping windows add up to one
    for start in range(0, samples + window, window // 2):
        spectrum = np.fft.rfft(random.normal(size=window)) * np.sqrt(power)
        noise[start : start + window] += fade * np.fft.irfft(spectrum)
    return noise[window // 2 : window // 2 + samples]
