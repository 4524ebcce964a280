"""How a log-mel spectrogram looks, wherever it is shown: in reports, audits and TensorBoard."""

from __future__ import annotations

import numpy as np

_LEVELS = (-11.5, 1.0)
"""Log-mel values of the darkest and of the brightest color. The values are natural logarithms of
magnitudes: -11.5 is the floor of 1e-5, and loud speech reaches about 0.5."""

_COLOR_MAP = "magma"


def draw_log_mel(log_mel: np.ndarray) -> np.ndarray:
    """Return a picture of a log-mel spectrogram, low frequencies at the bottom.

    Args:
      log_mel: [frames, mels], as `audio.spectrogram.log_mel` computes it.

    Returns:
      uint8 [mels, frames, 3]: a pixel for every frame and filter, red, green and blue.
    """
    from matplotlib import colormaps

    darkest, brightest = _LEVELS
    levels = np.clip((log_mel.T[::-1] - darkest) / (brightest - darkest), 0, 1)
    return (255 * colormaps[_COLOR_MAP](levels)[..., :3]).astype(np.uint8)
