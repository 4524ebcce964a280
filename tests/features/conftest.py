"""Real speech at 16 kHz for the tests of features."""

from pathlib import Path

import numpy as np
import pytest
from small_hubert import save_folder

from rvc_jax.audio.reading import find_audio, load

SAMPLE = Path(__file__).parents[2] / "data/sample"
WINDOW = 336 * 160


@pytest.fixture(scope="session")
def speech_windows() -> np.ndarray:
    """Two voices of the sample in windows of 3.36 s: float32 [16, 53760]."""
    files = find_audio(SAMPLE / "other") + find_audio(SAMPLE / "voice")
    wave = np.concatenate([load(path, 16000) for path in files[:10]])
    return wave[: 16 * WINDOW].reshape(16, WINDOW)


@pytest.fixture
def hubert_folder(tmp_path: Path) -> Path:
    """A small HuBERT model as transformers saves it."""
    save_folder(tmp_path)
    return tmp_path
