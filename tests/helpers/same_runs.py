"""Whether two runs have come to the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rvc_jax.runs.folder import RunFolder


def read_parameters(run: Path) -> dict[str, np.ndarray]:
    """The generator's parameters in a run's newest checkpoint."""
    parameters = RunFolder.open(run).load_generator("latest")[1]
    return {name: np.asarray(value) for name, value in parameters.items()}


def assert_same(whole: Path, continued: Path) -> None:
    """The parameters of both runs are equal bit for bit, and so are the losses of all steps."""
    expected = read_parameters(whole)
    actual = read_parameters(continued)
    assert all(np.array_equal(expected[name], actual[name]) for name in expected)
    histories = [
        [line for line in RunFolder.open(run).history() if "loss/mel" in line]
        for run in (whole, continued)
    ]
    assert histories[0] == histories[1]
