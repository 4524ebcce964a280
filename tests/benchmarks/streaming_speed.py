"""Seconds of speech per second of streaming conversion, ours and PyTorch's, as Markdown.

python tests/benchmarks/streaming_speed.py [--presets nano,40k] [--rounds 5]

A round is one chunk, from input samples to output samples. Both programs encode the same windows
and render the same frames, with as many threads as there are cores. Weights that do not come with
the package are random: speed does not depend on them. Retrieval is off. nano uses whisper-tiny and
SwiftF0, whose original runs in onnxruntime (package swift-f0); 40k uses HuBERT base and RMVPE.
Without torch, only ours is timed. The ratio by processor time is disturbed less by other work on
the machine than that by the clock.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # threads of PyTorch that spin stand still beside other work
os.environ.setdefault("KMP_BLOCKTIME", "0")

import content_speed
import numpy as np
import pitch_rmvpe_fcpe

from rvc_jax.audio.reading import load
from rvc_jax.config import (
    FEATURE_HOP,
    FEATURE_RATE,
    PRESETS,
    WINDOW_FRAMES,
    ConvertConfig,
    Preset,
)
from rvc_jax.data.sources import find_bundled_sample
from rvc_jax.infer.chunking import CONTEXT_FRAMES
from rvc_jax.infer.compiled_voice import CompiledVoice
from rvc_jax.infer.engine import Engine
from rvc_jax.infer.streaming import EXACT, LOW_LATENCY, StreamingConverter

sys.path.append(str(Path(__file__).parents[1] / "helpers"))

from untrained_voices import untrained_voice

SETTINGS = {"exact": EXACT, "low latency": LOW_LATENCY}
WARM_UP = 2
Run = Callable[[], object]


def make_engine(preset: Preset) -> Engine:
    """An untrained voice of a preset; 40k gets encoders with random weights."""
    content = None
    pitch = None
    if preset.name != "nano":
        content = content_speed.ours("hubert", "")
        pitch = pitch_rmvpe_fcpe.ours("rmvpe")
    model = untrained_voice(preset, seed=0)
    config = ConvertConfig(index_rate=0)
    return Engine(CompiledVoice(model), config, content=content, pitch=pitch)


def ours(stream: StreamingConverter, speech: np.ndarray) -> Run:
    """Pushes what one more chunk needs; the first calls give nothing yet."""
    size = stream.plan.chunk * FEATURE_HOP
    place = 0

    def push() -> int:
        nonlocal place
        place += size
        return len(stream.push(np.take(speech, np.arange(place - size, place), mode="wrap")))

    while not push():
        pass
    return push


def pytorch(preset: Preset, stream: StreamingConverter, speech: np.ndarray) -> Run:
    """The modules of `torch_models.py` and the encoders on the windows that our stream encodes for
    a chunk."""
    import torch
    import torch_models

    torch.set_num_threads(os.cpu_count())
    model = torch_models.Synthesizer(preset.generator, preset.audio).eval()
    window = np.ascontiguousarray(speech[None, : WINDOW_FRAMES * FEATURE_HOP])
    encoder = content_speed.pytorch("hubert" if preset.name != "nano" else "whisper-tiny", "")
    extract = pitch_rmvpe_fcpe.pytorch("rmvpe") if preset.name != "nano" else _swift()
    sizes = stream.plan
    content = torch.randn(1, sizes.prior, preset.generator.content_channels)
    pitch = torch.full((1, sizes.prior), 80)
    mask = torch.ones(1, 1, sizes.prior)
    frames = CONTEXT_FRAMES + sizes.chunk + sizes.render_ahead
    f0 = torch.full((1, frames), 150.0)
    short_mask = torch.ones(1, 1, frames)
    speaker = torch.zeros(1, dtype=torch.long)

    def chunk() -> object:
        encoder(window)
        extract(window)
        with torch.inference_mode():
            g = model.emb_g(speaker).unsqueeze(2)
            mean, logs = (part[..., -frames:] for part in model.enc_p(content, pitch, mask))
            z = mean + 0.66666 * torch.randn_like(mean) * logs.exp()
            return model.dec(model.flow(z, short_mask, g, reverse=True), f0, g, 1.0)

    return chunk


def _swift() -> Callable[[np.ndarray], object]:
    import swift_f0

    detector = swift_f0.SwiftF0(threads=os.cpu_count())
    return lambda audio: [detector.detect(row, FEATURE_RATE) for row in audio]


def seconds_by_turns(runs: dict[str, Run], rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds of each, by the clock and of all processors together."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for number in range(rounds + WARM_UP):
        for name, run in runs.items():
            clock = time.perf_counter()
            work = time.process_time()
            run()
            if number >= WARM_UP:
                taken[name].append((time.perf_counter() - clock, time.process_time() - work))
    return {
        name: tuple(map(statistics.median, zip(*some, strict=True)))
        for name, some in taken.items()
    }


def row(
    name: str, label: str, stream: StreamingConverter, taken: dict[str, tuple[float, float]]
) -> str:
    chunk = stream.streaming.chunk_seconds
    mine = taken["ours"]
    latency = stream.latency_seconds
    start = f"| {name} | {label} | {latency:.2f} s | {chunk:g} s | {chunk / mine[0]:.2f}"
    if "torch" not in taken:
        return f"{start} | | | |"
    other = taken["torch"]
    ratios = f"{other[0] / mine[0]:.2f} | {other[1] / mine[1]:.2f}"
    return f"{start} | {chunk / other[0]:.2f} | {ratios} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", default="nano,40k")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    speech = np.concatenate(
        [
            load(file, FEATURE_RATE)
            for file in sorted(find_bundled_sample("voice").glob("*.flac"))[:8]
        ]
    )
    beside = importlib.util.find_spec("torch") is not None
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n")
    print(
        "| preset | setting | latency | a chunk | ours | PyTorch | ours / PyTorch "
        "| by processor time |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in options.presets.split(","):
        engine = make_engine(PRESETS[name])
        for label, setting in SETTINGS.items():
            stream = StreamingConverter(engine, streaming=setting)
            runs = {"ours": ours(stream, speech)}
            if beside:
                runs["torch"] = pytorch(PRESETS[name], stream, speech)
            print(row(name, label, stream, seconds_by_turns(runs, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
