"""Reduces steady noise (hiss, hum, fans) by spectral gating."""

from __future__ import annotations

import numpy as np

from rvc_jax.audio.blocks import BLOCK, block_ranges, read_range, write_range
from rvc_jax.errors import UserError
from rvc_jax.storage.installation import install_command

_WINDOW_SECONDS = 0.05
_MOMENTS = 4000  # spread over the recording, from which the noise is estimated
_NOISE_QUANTILE = (
    0.1  # of a frequency's moments hold nothing but noise: speech has gaps everywhere
)
_NOISE_SECONDS = 5
_MARGIN_WINDOWS = 4  # a sample depends on less than this before and after it


def reduce_noise(wave: np.ndarray, rate: int, strength: float) -> None:
    """Reduce steady noise in a recording, in place and block by block, with noisereduce.

    The noise is estimated from the whole recording, per frequency, so that no pause is needed. Only
    what stands out of it keeps its level; the rest is attenuated by `strength` (0.7: 10 dB). The
    defaults of noisereduce take the mean level for the noise and blur the gates over 500 Hz, which
    costs speech of 19 dB above the noise 5 dB of its level: they are not used.

    Args:
      wave: float32 [samples], finite; may be a memmap.
      rate: in Hz.
      strength: share of the noise that is removed, 0..1.

    Raises:
      UserError: noisereduce is not installed.
    """
    try:
        import noisereduce
    except ImportError as error:
        raise UserError(
            f"cleaning needs the package noisereduce: {install_command('clean')}"
        ) from error
    window = 1 << round(np.log2(_WINDOW_SECONDS * rate))
    margin = _MARGIN_WINDOWS * window
    noise = noise_like(wave, window, _NOISE_SECONDS * rate)
    if noise is None or not strength:
        return
    before = np.zeros(margin, np.float32)
    for start, stop in block_ranges(len(wave), BLOCK // window * window):
        block = np.concatenate([before, read_range(wave, start, min(stop + margin, len(wave)))])
        # Kept before the block is overwritten.
        before = block[stop - start : stop - start + margin].copy()
        padded = np.pad(block, (0, margin + -len(block) % window))
        cleaned = noisereduce.reduce_noise(
            y=padded,
            sr=rate,
            stationary=True,
            y_noise=noise,
            prop_decrease=strength,
            freq_mask_smooth_hz=None,  # pyright: ignore[reportArgumentType] documented
            n_fft=window,
            chunk_size=None,  # pyright: ignore[reportArgumentType] documented
            padding=0,
        )
        write_range(wave, start, cleaned[margin : margin + stop - start].astype(np.float32))


def noise_like(wave: np.ndarray, window: int, samples: int) -> np.ndarray | None:
    """Make random noise with the spectrum of a recording's steady noise.

    The power of noise in one frequency is distributed exponentially: its mean follows from a low
    quantile, which speech hardly affects.

    Args:
      wave: [samples] the recording.
      window: samples of a Fourier transform.
      samples: of the result.

    Returns: [samples], or None if the recording is too short or silent.
    """
    last = len(wave) - window
    count = min(_MOMENTS, max(2 * last // window, 0))
    moments = np.unique(np.linspace(0, max(last, 0), count).astype(int))
    hann = np.hanning(window + 1)[:-1]
    powers = []
    for start in moments.tolist():
        spectrum = np.fft.rfft(hann * read_range(wave, start, start + window))
        if spectrum.any():
            powers.append(np.square(np.abs(spectrum)).astype(np.float32))
    if len(powers) < 2:
        return None
    quantile = np.quantile(powers, _NOISE_QUANTILE, axis=0)
    power = quantile / -np.log(1 - _NOISE_QUANTILE) / np.square(hann).sum()
    random = np.random.default_rng(0)
    noise = np.zeros(samples + 2 * window)
    fade = np.sqrt(hann)  # the powers of overlapping windows add up to one
    for start in range(0, samples + window, window // 2):
        spectrum = np.fft.rfft(random.normal(size=window)) * np.sqrt(power)
        noise[start : start + window] += fade * np.fft.irfft(spectrum)
    return noise[window // 2 : window // 2 + samples]
