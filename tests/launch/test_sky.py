"""launch/sky/voice.yaml: what SkyPilot makes of it, and what its commands do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "launch" / "sky" / "voice.yaml"
PLACES = {"DATASET": "gs://b1/dataset", "RUN": "gs://b1/run"}


def yaml_of(file: Path) -> dict[str, Any]:
    return pytest.importorskip("yaml").safe_load(file.read_text())


@pytest.fixture
def task() -> dict[str, Any]:
    return yaml_of(FILE)


def test_skypilot_reads_it() -> None:
    sky = pytest.importorskip("sky")
    task = sky.Task.from_yaml_config(yaml_of(FILE), env_overrides=list(PLACES.items()))
    assert task.name == "voice" and task.num_nodes == 1
    assert task.envs["RUN"] == "gs://b1/run"
    wanted = {(str(each.accelerators), each.use_spot) for each in task.resources}
    assert wanted == {
        (f"{{'{name}': 1}}", True) for name in ("tpu-v5litepod-1", "tpu-v6e-1", "L4", "A100")
    }
    for each in task.resources:
        if "tpu" in str(each.accelerators):
            images = {"tpu-v5litepod-1": "v2-alpha-tpuv5-lite", "tpu-v6e-1": "v2-alpha-tpuv6e"}
            assert each.accelerator_args == {
                "runtime_version": images[next(iter(each.accelerators))]
            }
        assert each.job_recovery == {
            "strategy": "EAGER_NEXT_REGION",
            "max_restarts_on_errors": 3,
        }


def test_skypilot_asks_for_the_places() -> None:
    sky = pytest.importorskip("sky")
    with pytest.raises(ValueError, match="DATASET"):
        sky.Task.from_yaml_config(yaml_of(FILE))


def executed(script: str, folder: Path, **environment: str) -> list[list[str]]:
    """The commands that a part of the task gives, run with stand-ins for all programs that it
    names."""
    (folder / "voice_environment" / "bin").mkdir(parents=True, exist_ok=True)
    (folder / "voice_environment" / "bin" / "activate").touch()
    for name in (
        "rvc-jax",
        "pip",
        "uv",
        *(["nvidia-smi"] if environment.pop("gpu", "") else []),
    ):
        file = folder / name
        file.write_text(
            '#!/bin/sh\nprintf "%s\\0" "${0##*/}" "$@" >>"$HOME/calls"\n'
            'printf "\\n" >>"$HOME/calls"\n'
        )
        file.chmod(0o755)
    for name in ("bash", "head"):
        (folder / name).symlink_to(shutil.which(name) or "")
    environment |= {"HOME": str(folder), "PATH": str(folder)}
    subprocess.run(["bash", "-c", script], env=environment, check=True)
    lines = (folder / "calls").read_bytes().decode().split("\n")
    return [line.split("\0")[:-1] for line in lines if line]


def run_environment(task: dict[str, Any], **more: str) -> dict[str, str]:
    one = {
        "SKYPILOT_NUM_NODES": "1",
        "SKYPILOT_NODE_RANK": "0",
        "SKYPILOT_NODE_IPS": "10.0.0.1",
    }
    return task["envs"] | PLACES | one | more


@pytest.mark.parametrize(
    ("gpu", "extras"), [("", [".[cloud,tpu]"]), ("yes", [".[cloud]", "jax[cuda12]"])]
)
def test_what_is_installed(
    task: dict[str, Any], tmp_path: Path, gpu: str, extras: list[str]
) -> None:
    assert executed(task["setup"], tmp_path, gpu=gpu)[-1] == [
        "pip",
        "install",
        "--quiet",
        *extras,
    ]


def test_it_trains_and_exports(task: dict[str, Any], tmp_path: Path) -> None:
    environment = run_environment(
        task, OPTIONS="--epochs 30 --preset 48k", EXPORT="--format rvc"
    )
    train, export = executed(task["run"], tmp_path, **environment)
    words = (
        "rvc-jax train gs://b1/dataset --run gs://b1/run --budget 3h --progress lines "
        "--epochs 30 --preset 48k"
    )
    assert train == words.split()
    assert export == ["rvc-jax", "export", "gs://b1/run", "--format", "rvc"]


def test_several_gpu_machines_are_told_of_each_other(
    task: dict[str, Any], tmp_path: Path
) -> None:
    several = {
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NODE_RANK": "1",
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
    }
    (train,) = executed(task["run"], tmp_path, gpu="yes", **run_environment(task, **several))
    assert train[-6:] == [
        "--coordinator",
        "10.0.0.1:9999",
        "--processes",
        "2",
        "--process",
        "1",
    ]
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    (train,) = executed(task["run"], tmp_path, **run_environment(task, **several))
    assert "--coordinator" not in train  # hosts of a TPU slice


def test_the_options_are_those_of_the_program(
    task: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from rvc_jax.cli.main import main

    option = re.compile("--[a-z][a-z-]+")
    known = set()
    for command in ("train", "export"):
        assert main([command, "--help"]) == 0
        known |= set(option.findall(capsys.readouterr().out))
    commands = [line for line in task["run"].splitlines() if not line.strip().startswith("#")]
    assert set(option.findall("\n".join(commands))) - known == set()
