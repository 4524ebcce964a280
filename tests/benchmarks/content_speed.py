"""Seconds of audio per second of every content encoder, ours and its original by turns, each in a process of its own.

python tests/benchmarks/content_speed.py [--names hubert,whisper-tiny] [--whisper-onnx ENCODER_INT8.onnx] [--rounds 5]

The originals are plain PyTorch, and for whisper-tiny also onnxruntime if its 8-bit file is given. Weights are random:
speed does not depend on them. Processor seconds are told beside, since other work on the machine disturbs them least.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from rvc_jax.config import FEATURE_RATE

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "features"), str(TESTS / "parity")]

SHAPES = {"16 x 3.36 s": (16, 53760), "1 x 30 s": (1, 480000)}
WHISPER_SIZES = {"whisper-tiny": (384, 4), "whisper-base": (512, 6), "whisper-small": (768, 12)}
NAMES = ("hubert", *WHISPER_SIZES)
Run = Callable[[np.ndarray], object]


def hubert_state() -> dict[str, np.ndarray]:
    """HuBERT base as transformers names it."""
    import reference

    names = json.loads((TESTS / "parity/names_features.json").read_text())["hubert."]
    return {name: reference.value(f"hubert.{name}", shape) for name, shape in names.items()}


def ours(name: str, _: str) -> Run:
    from rvc_jax.features.content import hubert, hubert_weights, whisper

    if name == "hubert":
        return hubert.HubertContent(hubert_weights.from_state_dict(hubert_state()), "")
    import torch_encoders

    state = torch_encoders.random_whisper(*WHISPER_SIZES[name])
    return whisper.WhisperContent(whisper.from_openai_state_dict(state), "")


def pytorch(name: str, _: str) -> Run:
    import torch
    import torch_encoders

    torch.set_num_threads(os.cpu_count())
    if name == "hubert":
        state = torch_encoders.tensors(hubert_state())
        encode = lambda audio: torch_encoders.hubert(state, audio)[-1]  # noqa: E731
    else:
        state = torch_encoders.tensors(torch_encoders.random_whisper(*WHISPER_SIZES[name]))
        filters = torch.from_numpy(whisper_filters())
        encode = lambda audio: torch_encoders.whisper(state, torch_encoders.log_mel(audio, filters))  # noqa: E731

    def run(audio: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return encode(torch.from_numpy(audio)).numpy()

    return run


def onnxruntime(name: str, path: str) -> Run:
    """Whisper tiny with 8-bit weights and activations; its input is always thirty seconds."""
    import onnxruntime
    import torch
    import torch_encoders

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    filters = torch.from_numpy(whisper_filters())

    def run(audio: np.ndarray) -> np.ndarray:
        mel = torch_encoders.log_mel(torch.from_numpy(audio), filters).numpy()
        return session.run(["last_hidden_state"], {"input_features": mel})[0]

    return run


def whisper_filters() -> np.ndarray:
    from rvc_jax.audio.spectrogram import mel_filters

    return np.ascontiguousarray(mel_filters(FEATURE_RATE, 400, 80, 0.0, None).T)


def work(make: Callable[[str, str], Run], name: str, path: str, pipe: Connection) -> None:
    """Answers every shape with seconds and processor seconds of a run, after one that wakes the memory.

    None ends it; the last answer is the most memory that it took, in GiB.
    """
    run = make(name, path)
    pipe.send("ready")
    while shape := pipe.recv():
        audio = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
        run(audio)
        begin, processor = time.perf_counter(), time.process_time()
        run(audio)
        pipe.send((time.perf_counter() - begin, time.process_time() - processor))
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def compare(name: str, makes: list[Callable], path: str, shapes: list[str], rounds: int) -> None:
    context, pipes = multiprocessing.get_context("spawn"), []
    for make in makes:
        here, there = context.Pipe()
        context.Process(target=work, args=(make, name, path, there), daemon=True).start()
        here.recv()
        pipes.append(here)
    for shape in shapes:
        times = np.zeros((rounds, len(makes), 2))
        for round_ in times:
            for pipe, taken in zip(pipes, round_, strict=True):
                pipe.send(SHAPES[shape])
                taken[:] = pipe.recv()
        audio = np.prod(SHAPES[shape]) / FEATURE_RATE
        speeds = ", ".join(
            f"{make.__name__} {audio / seconds:.1f} ({processor:.2f} s of processor)"
            for make, (seconds, processor) in zip(makes, np.median(times, axis=0), strict=True)
        )
        faster, leaner = np.median(times[:, 1] / times[:, 0], axis=0)
        print(f"{name:13s} {shape:11s} {speeds}: {faster:.2f} times the speed; processor {leaner:.2f}", flush=True)
    for make, pipe in zip(makes, pipes, strict=True):
        pipe.send(None)
        print(f"{name:13s} {make.__name__}: peak memory {pipe.recv():.2f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", default=",".join(NAMES))
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--whisper-onnx", default="")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for name in options.names.split(","):
        compare(name, [ours, pytorch], "", options.shapes.split(","), options.rounds)
    if options.whisper_onnx:
        compare("whisper-tiny", [ours, onnxruntime], options.whisper_onnx, ["1 x 30 s"], options.rounds)


if __name__ == "__main__":
    main()
