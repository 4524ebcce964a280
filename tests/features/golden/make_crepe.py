"""Make crepe.npz with torchcrepe; see README.md. Needs the packages torchcrepe, torchaudio and
resampy.

python tests/features/golden/make_crepe.py
"""

from pathlib import Path

import numpy as np
import torch
import torchcrepe

from rvc_jax.audio.reading import find_audio, load

HERE = Path(__file__).parent
SAMPLE = HERE.parents[2] / "data/sample"


def two_rows() -> np.ndarray:
    """The golden's input: 3.36 s of either voice, rows 0 and 4 of the fixture `speech_windows`."""
    files = find_audio(SAMPLE / "other") + find_audio(SAMPLE / "voice")
    wave = np.concatenate([load(path, 16000) for path in files[:10]])
    return wave[: 16 * 53760].reshape(16, 53760)[[0, 4]]


def original(audio: np.ndarray, capacity: str) -> dict[str, np.ndarray]:
    """What torchcrepe says of one row [samples], without the noise that it adds, and the pitch that
    RVC makes of it."""
    torchcrepe.convert.dither = lambda cents: cents
    row = torch.from_numpy(audio)[None]
    scores = torch.cat(
        [
            torchcrepe.infer(frames, capacity)
            for frames in torchcrepe.preprocess(row, 16000, 160)
        ]
    )
    raw, periodicity = torchcrepe.predict(
        row, 16000, 160, 50, 1100, capacity, return_periodicity=True, pad=True
    )
    pitch = torchcrepe.filter.mean(raw, 3)
    pitch[torchcrepe.filter.median(periodicity, 3) < 0.1] = 0
    results = {
        "scores": scores[::16],
        "raw": raw[0],
        "periodicity": periodicity[0],
        "pitch": pitch[0],
    }
    return {name: value.detach().numpy() for name, value in results.items()}


def main() -> None:
    arrays = {}
    for capacity in ("tiny", "full"):
        rows = [original(row, capacity) for row in two_rows()]
        arrays |= {
            f"{capacity}_{name}": np.stack([row[name] for row in rows]) for name in rows[0]
        }
    np.savez_compressed(HERE / "crepe.npz", **arrays)


if __name__ == "__main__":
    main()
