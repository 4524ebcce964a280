"""Difference of streaming and the conversion of the whole recording, by setting, as Markdown.

python tests/benchmarks/streaming_agreement.py RUN RECORDING... [--seconds 24]

The table has the relative error of the samples and the mean difference of log-mel spectrograms,
after the first second, with noise and retrieval, at the same gain. The last rows show, for
comparison, what another seed and a second of silence before the recording change.
"""

from __future__ import annotations

import argparse

import jax.numpy as jnp
import numpy as np

from rvc_jax.audio.reading import load
from rvc_jax.audio.spectrogram import log_mel, spectrogram
from rvc_jax.config import FEATURE_RATE, AudioConfig, ConvertConfig
from rvc_jax.infer.converter import Converter
from rvc_jax.infer.engine import Engine
from rvc_jax.infer.recording import Source
from rvc_jax.infer.streaming import EXACT, LOW_LATENCY, StreamingConfig, StreamingConverter
from rvc_jax.runs.folder import RunFolder
from rvc_jax.voices.model import VoiceModel

SETTINGS = {
    "exact": EXACT,
    "1.2 s and 1.96 s": StreamingConfig(1.2, None, 1.96),
    "1.2 s and 1.48 s": StreamingConfig(1.2, None, 1.48),
    "0.48 s and 1.96 s": StreamingConfig(0.48, None, 1.96),
    "0.48 s and 0.96 s": StreamingConfig(0.48, None, 0.96),
    "low latency: 0.16 s and 0.32 s": LOW_LATENCY,
    "0.08 s and 0.2 s": StreamingConfig(0.08, 1.2, 0.2),
}
PUSHED = 1600


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--seconds", type=float, default=24.0)
    options = parser.parse_args()
    speech = np.concatenate([load(file, FEATURE_RATE) for file in options.recordings])
    speech = speech[: round(options.seconds * FEATURE_RATE)]
    model = VoiceModel.from_run(RunFolder.open(options.run))
    engine = Engine.from_model(model, ConvertConfig())
    whole = convert_whole(engine, speech)
    print(f"{len(speech) / FEATURE_RATE:.1f} s of speech\n")
    print("| chunk and lookahead | latency | relative error | log-mel difference |")
    print("|---|---|---|---|")
    for label, setting in SETTINGS.items():
        stream = StreamingConverter(engine, streaming=setting)
        starts = range(0, len(speech), PUSHED)
        parts = [stream.push(speech[start : start + PUSHED]) for start in starts]
        wave = np.concatenate([*parts, stream.flush()])
        compare(label, f"{stream.latency_seconds:.2f} s", wave, whole, model.audio)
    reseeded = convert_whole(engine.with_config(ConvertConfig(seed=1)), speech)
    compare("another seed", "-", reseeded, whole, model.audio)
    later = convert_whole(engine, np.pad(speech, (FEATURE_RATE, 0)))
    delayed = later[model.audio.sample_rate :]
    compare("a second of silence before", "-", delayed, whole, model.audio)


def convert_whole(engine: Engine, speech: np.ndarray) -> np.ndarray:
    """The conversion of the whole recording, at the gain of the streams."""
    source = Source.from_array(speech, FEATURE_RATE)
    return Converter(engine).convert(source, gain=1.0).to_array()


def compare(
    label: str, latency: str, wave: np.ndarray, whole: np.ndarray, audio: AudioConfig
) -> None:
    """Print a row of the table."""
    waves = [x[audio.sample_rate :] for x in (wave, whole)]
    error = 20 * np.log10(np.linalg.norm(waves[0] - waves[1]) / np.linalg.norm(waves[1]))
    mels = [np.asarray(log_mel(spectrogram(jnp.asarray(x)[None], audio), audio)) for x in waves]
    loud = mels[1] > mels[1].max() - np.log(10) * 3  # within 60 dB of the loudest
    difference = np.abs(mels[0] - mels[1])[loud].mean()
    print(f"| {label} | {latency} | {error:.1f} dB | {difference:.3f} |", flush=True)


if __name__ == "__main__":
    main()
