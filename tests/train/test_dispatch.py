"""Many steps in one dispatch train as the steps one by one."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from random_windows import SPLIT_STEP, Row, take_steps

from rvc_jax.models.kernels.options import KernelConfig
from rvc_jax.train.loader import Loader, ResidentLoader, StreamingLoader
from rvc_jax.train.state import TrainState


@pytest.fixture(scope="module")
def one_by_one() -> tuple[TrainState, list[Row]]:
    return take_steps(ResidentLoader, 1, [1] * 5)


@pytest.mark.parametrize(
    ("kind", "steps", "counts", "kernels"),
    [
        (ResidentLoader, 4, [4, 1], KernelConfig(pack_parameters=True)),
        (StreamingLoader, 3, [2, 3], None),
        (ResidentLoader, 3, [3, 2], SPLIT_STEP),
    ],
    ids=["resident and packed", "streamed", "in four programs"],
)
def test_dispatches_are_the_steps_one_by_one(
    kind: type[Loader],
    steps: int,
    counts: list[int],
    kernels: KernelConfig | None,
    one_by_one: tuple[TrainState, list[Row]],
) -> None:
    state, rows = take_steps(kind, steps, counts, kernels)
    expected_state, expected = one_by_one
    assert len(rows) == len(expected) == 5
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-5)
    assert int(state.step) == int(expected_state.step) == 5
    for name, value in expected_state.generator.params.items():
        # The true gradient of these biases is zero: AdamW steps by the rounding's sign.
        if not name.endswith("conv_k.bias"):
            far = np.abs(np.asarray(state.generator.params[name]) - value) > 1e-4
            assert far.mean() < 0.01, name


@pytest.mark.parametrize("split_step_from", [0, 1], ids=["one program", "four"])
def test_a_chips_options_reach_the_compiler(split_step_from: int) -> None:
    """One that has no such memory says so."""
    kernels = KernelConfig(scoped_vmem_kib=4096, split_step_from=split_step_from)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_tpu_scoped_vmem_limit_kib"):
        take_steps(ResidentLoader, 1, [1], kernels)
