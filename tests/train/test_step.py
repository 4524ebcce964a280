"""The training step: what is drawn, how it spreads over devices, that it learns."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from micro import MICRO, NANO
from on_devices import run_on_devices

from rvc_jax.config import PRESETS, TrainConfig
from rvc_jax.data.dataset import load_dataset
from rvc_jax.models.synthesizer import Latents
from rvc_jax.train.batches import gather
from rvc_jax.train.state import init_state, learning_rate
from rvc_jax.train.step import _generator_loss, build_networks, draw_segment_starts, make_step

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "parity" / "features.npz"


def steps_on(devices: int) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in run_on_devices(devices, HERE / "mesh_losses.py").splitlines()
    ]


def test_eight_devices_give_the_losses_of_one() -> None:
    one = steps_on(1)
    eight = steps_on(8)
    assert [(line["devices"], line["form"]) for line in eight] == 3 * [(8, "whole")] + 3 * [
        (8, "in pieces")
    ]
    for alone, spread in zip(2 * one, eight, strict=True):
        for name in alone:
            if name.startswith("loss/"):
                assert spread[name] == pytest.approx(alone[name], rel=1e-4), name
    assert one[2]["loss/mel"] < one[0]["loss/mel"]


def test_segments_start_anywhere_in_a_window_and_nowhere_else() -> None:
    lengths = np.array([32, 33, 40, 336, 20], np.int32)
    draw = jax.vmap(lambda key: draw_segment_starts(key, lengths, 32))
    starts = np.asarray(draw(jax.random.split(jax.random.key(0), 20_000)))
    assert starts.min(axis=0).tolist() == [0, 0, 0, 0, 0]
    assert starts.max(axis=0).tolist() == [0, 1, 8, 304, 0]
    counts = np.bincount(starts[:, 2], minlength=9)
    assert np.all(np.abs(counts / 20_000 - 1 / 9) < 0.01)


def test_learning_rate_decays_once_per_epoch() -> None:
    schedule = learning_rate(TrainConfig(), steps_per_epoch=10)
    assert schedule(9) == 1e-4
    assert schedule(10) == pytest.approx(0.999875e-4)
    assert schedule(10 * 200) == pytest.approx(9.753e-5, rel=1e-4)  # rvc.md 2.2


@pytest.mark.parametrize("preset", ["32k", "40k", "48k"])
def test_the_mel_term_is_45_times_the_distance_of_the_golden_log_mels(preset: str) -> None:
    """A golden wave against its own log-mel of two frames later."""
    audio = PRESETS[preset].audio
    networks = build_networks(dataclasses.replace(MICRO, audio=audio), steps_per_epoch=1)
    with np.load(GOLDEN) as file:
        wave, golden = (file[f"{kind}.{audio.sample_rate}"] for kind in ("wave", "logmel"))
    later = np.roll(golden, -2, axis=1)
    zeros = jnp.zeros((1, 1, 1))
    outputs = (jnp.asarray(wave)[None], Latents(zeros, zeros, zeros, zeros, zeros + 1))
    speech = {"real": outputs[0], "target": jnp.asarray(later.T)[None]}
    total, terms = jax.jit(lambda p: _generator_loss(networks, p, speech)(outputs))(
        networks.discriminator.init(0)
    )
    assert float(terms["loss/mel"]) == pytest.approx(
        45 * np.abs(golden - later).mean(), rel=1e-4
    )
    others = sum(
        float(terms[f"loss/{name}"]) for name in ("adversarial", "feature_matching", "kl")
    )
    assert float(total) == pytest.approx(float(terms["loss/mel"]) + others, rel=1e-5)


def test_nano_learns_ten_seconds_of_speech_by_heart(sample_dataset: Path) -> None:
    """80 steps on the same four windows: the log-mel error of their segments, 1.6 at first, was
    1.16 in the last 20."""
    networks = build_networks(NANO, steps_per_epoch=100)
    windows = load_dataset(sample_dataset).train
    longest = np.argsort(windows.lengths)[-4:]
    assert 900 <= windows.lengths[longest].sum() <= 1200
    state = jax.device_put(
        init_state(networks.synthesizer, networks.discriminator, networks.optimizer, 1234)
    )
    batch = jax.device_put(gather(windows, longest))
    step = jax.jit(make_step(networks), donate_argnums=0)
    errors = []
    for _ in range(80):
        state, metrics = step(state, batch)
        errors.append(float(metrics["loss/mel"]) / 45)
    assert np.mean(errors[-20:]) < 1.3 < errors[0], errors
