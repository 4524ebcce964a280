"""A real training step, compiled by the real TPU compiler; needs the package libtpu, and no TPU."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

has_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu"
)


def planned(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rvc_jax", "plan", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"JAX_PLATFORMS": ""}
    )


@has_compiler
def test_nano_for_one_chip() -> None:
    done = planned(
        "--preset", "nano", "--minutes", "20", "--epochs", "10", "--per-op", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 1  # what it is doing, and nothing of libtpu's
    (plan,) = json.loads(done.stdout)
    assert (plan["topology"], plan["batch_per_chip"]) == ("v5e:1x1", 8)
    assert (plan["steps_per_epoch"], plan["steps"]) == (53, 530)
    total = sum(operation["cycles"] for operation in plan["operations"]) / plan["clock"]
    assert plan["step_ms"] == pytest.approx(1000 * total)
    assert plan["programs_ms"] == {"step": plan["step_ms"]}
    assert 0.2 < plan["step_ms"] < 20  # between the memory's and a bad program's time
    assert 0 < plan["utilisation"] < 1
    state = 3 * 4 * 0.9e6  # parameters and two moments of the generator alone
    assert state < plan["hbm_arguments"] < plan["hbm_bytes"] < plan["hbm_available"]
    assert plan["hours"] == pytest.approx(
        (530 * plan["step_ms"] / 1000 + plan["compile_s"]) / 3600
    )
    assert "not measured" in plan["estimated_by"]


def test_names_that_are_none_are_one_line() -> None:
    done = planned("--topology", "v5litepod-8")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("rvc-jax: error: no topology is called 'v5litepod-8'")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is here")
def test_without_the_compiler_there_is_a_way_to_get_it() -> None:
    done = planned("--preset", "nano")
    assert done.returncode == 2 and '[tpu]"' in done.stderr.splitlines()[-1]
