"""The preset small from the command to the converted recording: in chunks, streamed, killed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from micro import MICRO_SMALL
from reporting import KeepingReporter
from same_runs import assert_same
from training_process import finish, start
from untrained_voices import make_converter, untrained_voice

from rvc_jax.audio.reading import load
from rvc_jax.config import ConvertConfig
from rvc_jax.infer.chunking import plan_chunks
from rvc_jax.infer.recording import Source
from rvc_jax.infer.streaming import EXACT, StreamingConverter
from rvc_jax.reporter import SILENT, Reporter
from rvc_jax.runs.folder import RunFolder
from rvc_jax.train import loop
from rvc_jax.train.loop import TrainResult
from rvc_jax.voices.model import VoiceModel

OPTIONS = ("--preset", "small", "--epochs", "4", "--save-every", "1", "--log-every", "1")


@pytest.fixture(scope="module")
def voice() -> VoiceModel:
    """Gains that depend on the content, and features of a recording in the index."""
    model = untrained_voice(MICRO_SMALL)
    weights = model.weights | {"dec.gains.weight": 5 * model.weights["dec.gains.weight"]}
    rows = np.random.default_rng(0).standard_normal((300, 384)).astype(np.float32)
    return dataclasses.replace(model, weights=weights, index=rows)


@pytest.fixture(scope="module")
def clip(other_clip: Path) -> np.ndarray:
    return load(other_clip, 16000)[: 6 * 16000 + 77]


@pytest.fixture(scope="module")
def whole(voice: VoiceModel, clip: np.ndarray) -> np.ndarray:
    converter = make_converter(voice, ConvertConfig(), (1008,))
    assert len(plan_chunks(602, (1008,))) == 1
    return converter.convert_array(clip, 16000)


def decibels(error: np.ndarray, reference: np.ndarray) -> float:
    return float(20 * np.log10(np.linalg.norm(error) / np.linalg.norm(reference) + 1e-30))


def test_chunks_equal_one_pass(voice: VoiceModel, clip: np.ndarray, whole: np.ndarray) -> None:
    """With noise and retrieval, up to the last sample."""
    chunks = plan_chunks(602, (336,))
    assert len(chunks) == 3
    wave = make_converter(voice, ConvertConfig(), (336,)).convert_array(clip, 16000)
    assert len(wave) == len(whole) == len(clip)
    assert np.abs(whole).max() > 0.02
    # The phase is a sum of float32, whose error every harmonic multiplies by its number.
    assert decibels(wave - whole, whole) < -50
    assert decibels((wave - whole)[-3200:], whole[-3200:]) < -45


def test_streams_equal_the_whole_recording(voice: VoiceModel, clip: np.ndarray) -> None:
    converter = make_converter(voice, ConvertConfig(), (336,))
    stream = StreamingConverter(converter.engine, streaming=EXACT)
    parts = [stream.push(clip[begin : begin + 4000]) for begin in range(0, len(clip), 4000)]
    wave = np.concatenate([*parts, stream.flush()])
    whole = converter.convert(Source.from_array(clip, 16000), gain=1.0).to_array()
    assert len(wave) == len(whole)
    assert decibels(wave - whole, whole) < -60


def test_a_pitch_above_half_the_sample_rate_is_rendered(
    voice: VoiceModel, clip: np.ndarray
) -> None:
    config = ConvertConfig(transpose=60.0)
    wave = make_converter(voice, config, (336,)).convert_array(clip[:32000], 16000)
    assert np.isfinite(wave).all() and np.abs(wave).max() > 1e-3


def test_an_interrupted_run_continues_exactly(sample_dataset: Path, tmp_path: Path) -> None:
    settings = {"epochs": 3, "save_every": 1, "evaluate_every": 3, "log_every": 1}

    def train(run: str, reporter: Reporter = SILENT) -> TrainResult:
        place = tmp_path / run
        return loop.train(sample_dataset, place, MICRO_SMALL, settings, reporter=reporter)

    def interrupt(step: float) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    assert not train("whole").interrupted
    first = train("stopped", KeepingReporter(on_progress=interrupt))
    assert first.interrupted
    assert train("stopped").resumed_from == first.steps
    assert_same(tmp_path / "whole", tmp_path / "stopped")
    history = RunFolder.open(tmp_path / "whole").history()
    assert all("loss/kl" not in line for line in history)


@pytest.mark.heavy
def test_a_killed_run_ends_with_the_same_parameters(
    sample_dataset: Path, tmp_path: Path
) -> None:
    """It is trained on the dataset of nano: both have the same rate and features."""
    finish(sample_dataset, tmp_path / "whole", OPTIONS)
    run = tmp_path / "killed"
    process = start(sample_dataset, run, OPTIONS)
    end = time.monotonic() + 300
    checkpoints = run / "checkpoints"
    while process.poll() is None and time.monotonic() < end:
        if any(path.name.isdigit() for path in checkpoints.glob("*")):
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    finish(sample_dataset, run, OPTIONS)
    assert_same(tmp_path / "whole", run)
    stored = json.loads((run / "config.json").read_text())["preset"]
    assert stored["name"] == "small" and "content_dilations" in stored["generator"]
