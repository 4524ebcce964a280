"""Memory and time of converting a long file.

python tests/benchmarks/convert_memory.py --minutes 20 60

The bundled voice is repeated into one stereo file at 48 kHz, which is converted from file to file,
each length in a process of its own. Without --run the voice is an untrained one of few channels
(tests/micro.py): the length is measured, not the network.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from rvc_jax.audio.reading import load
from rvc_jax.audio.writing import EncodingOptions
from rvc_jax.config import ConvertConfig
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.infer.converter import Converter
from rvc_jax.infer.files import convert_file, write_audio
from rvc_jax.infer.recording import Source
from rvc_jax.storage.environment import peak_memory

RATE = 48000


def write_long_file(path: Path, minutes: float, share: float) -> None:
    """Speech in two channels of different level for a share of every two minutes, silence for the
    rest."""
    clips = [load(file, RATE) for file in sorted(find_bundled_sample("voice").glob("*.flac"))]
    two_minutes = np.resize(np.concatenate(clips), 120 * RATE)[:, None] * np.array(
        [0.5, 0.4], np.float32
    )
    two_minutes[round(share * len(two_minutes)) :] = 0
    wanted = round(minutes * 60 * RATE)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        while wanted:
            file.write(two_minutes[:wanted])
            wanted -= min(wanted, len(two_minutes))


def make_converter(config: ConvertConfig) -> Converter:
    """A converter of an untrained voice of few channels."""
    tests = Path(__file__).parents[1]
    sys.path[:0] = [str(tests), str(tests / "helpers")]
    import untrained_voices
    from micro import MICRO

    return untrained_voices.make_converter(untrained_voices.untrained_voice(MICRO), config)


def convert(source: Path, run: Path | None, config: ConvertConfig) -> None:
    """Convert the file in this process and print what it took."""
    out = source.with_name("converted.flac")
    if run is None:
        converted = make_converter(config).convert(Source.open(source))
        write_audio(out, converted, EncodingOptions())
    else:
        convert_file(run, source, out, config)
    print(f"{soundfile.info(out).frames} samples, {peak_memory() / 1e6:.0f} MB at most", end="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, nargs="+", default=[20, 60])
    parser.add_argument(
        "--speech", type=float, default=1.0, help="share of the file that is not silent"
    )
    parser.add_argument("--run", type=Path, help="folder of a trained voice")
    parser.add_argument("--stereo", default="mono", choices=("mono", "keep-side"))
    parser.add_argument("--volume-envelope", type=float, default=1.0)
    parser.add_argument("--file", type=Path, help="convert this file, and do nothing else")
    options = parser.parse_args()
    if options.file:
        config = ConvertConfig(
            stereo=options.stereo, volume_envelope=options.volume_envelope, auto_transpose=True
        )
        convert(options.file, options.run, config)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.flac"
        for minutes in options.minutes:
            write_long_file(path, minutes, options.speech)
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--file", path],
                check=True,
                capture_output=True,
                text=True,
            )
            print(
                f"{minutes:g} min: {done.stdout} in {time.perf_counter() - began:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
