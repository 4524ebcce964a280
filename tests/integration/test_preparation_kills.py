"""Kill a preparation again and again: the dataset must be the same as without."""

import random
import shutil
import signal
import subprocess
import sys
import time

import pytest


def command(source, out, *options):
    return [
        sys.executable,
        "-m",
        "rvc_jax",
        "prepare",
        str(source),
        "--out",
        str(out),
        "--preset",
        "nano",
        *options,
    ]


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def killed_and_finished(source, out, cache, moments):
    """Kill the command once per moment (seconds after its start), then let it finish.

    Returns how often it was killed.
    """
    kills = 0
    for moment in moments:
        process = subprocess.Popen(
            command(source, out, "--cache", str(cache)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(moment)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        if out.exists():
            break
    if not out.exists():
        subprocess.run(
            command(source, out, "--cache", str(cache)), check=True, capture_output=True
        )
    return kills


def test_a_killed_preparation_goes_on_and_gives_the_same_bytes(
    sample_voice, sample_dataset, tmp_path
):
    kills = killed_and_finished(sample_voice, tmp_path / "out", tmp_path / "cache", [4.0, 8.0])
    assert kills >= 1
    assert contents(tmp_path / "out") == contents(sample_dataset)
    assert list_names(tmp_path) == ["cache", "out"]


def killed_while_writing(source, out, delay):
    """Kill the command this long after it has begun to write; return whether it was running."""
    process = subprocess.Popen(
        command(source, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not list(out.parent.glob(f".{out.name}.*.unfinished/*")):
        time.sleep(0.01)
    time.sleep(delay)
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    "delays", [(0.0, 0.3), pytest.param([n / 10 for n in range(20)], marks=pytest.mark.heavy)]
)
def test_kills_while_the_dataset_is_written(sample_voice, sample_dataset, tmp_path, delays):
    out = tmp_path / "out"
    kills = 0
    for delay in delays:
        kills += killed_while_writing(sample_voice, out, delay)
        if out.exists():  # whole, or not at all
            assert contents(out) == contents(sample_dataset)
            shutil.rmtree(out)
    assert kills >= min(len(delays), 5)
    subprocess.run(command(sample_voice, out), check=True, capture_output=True)
    assert contents(out) == contents(sample_dataset)
    assert list_names(tmp_path) == ["out"]


@pytest.mark.heavy
def test_twenty_kills_at_random_moments(sample_voice, sample_dataset, tmp_path):
    began = time.monotonic()
    subprocess.run(command(sample_voice, tmp_path / "first"), check=True, capture_output=True)
    whole = time.monotonic() - began
    draw = random.Random(7)
    kills = 0
    for round_number in range(20):
        out = tmp_path / f"out{round_number}"
        cache = tmp_path / f"cache{round_number}"
        kills += killed_and_finished(
            sample_voice, out, cache, [draw.uniform(0.2, 1.0) * whole for _ in range(3)]
        )
        assert contents(out) == contents(sample_dataset)
        if kills >= 20:
            break
    assert kills >= 20
    assert not [name for name in list_names(tmp_path) if name.startswith(".")]
