"""Arithmetic of time and money, and names of slices."""

from __future__ import annotations

import pytest

from rvc_jax.config import RATES, Rate
from rvc_jax.errors import UserError
from rvc_jax.plan.chips import Topology
from rvc_jax.plan.cost import count_windows, estimate_run_cost, resolve_rate


def test_a_run_takes_its_steps_and_its_compilation() -> None:
    place = Topology.parse("v5e:2x4")
    cost = estimate_run_cost(
        0.030, 360, windows=440, epochs=300, batch=64, topology=place, rate=Rate(4.0, 1.2)
    )
    assert (cost.steps_per_epoch, cost.steps) == (7, 2100)
    assert cost.hours == pytest.approx((2100 * 0.030 + 360) / 3600)
    assert cost.units == pytest.approx(cost.hours * 8 * 4.0)
    assert cost.dollars == pytest.approx(cost.hours * 8 * 1.2)


def test_twenty_minutes_are_the_windows_that_preparation_makes() -> None:
    assert count_windows(20) == 423  # 60 s of 1200 held out, a window every 2.7 s
    assert count_windows(0.01) == 1


def test_the_user_knows_the_rates_better() -> None:
    place = Topology.parse("v6e:1x1")
    assert resolve_rate(place, None, None) == RATES["v6e"]
    assert resolve_rate(place, 0.0, 9.5) == Rate(0.0, 9.5)


@pytest.mark.parametrize(
    "name", ["v5litepod-8", "v5e", "v5e:0x1", "v5e:1x1x1", "h100:1x1", "v5e:1x1 "]
)
def test_other_names_are_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(UserError, match="v5e:1x1"):
        Topology.parse(name)


def test_hosts_of_large_slices() -> None:
    assert Topology.parse("v5e:2x4").chips_per_host == [2, 4, 1]
    assert (Topology.parse("v6e:4x4").chips, Topology.parse("v6e:4x4").chips_per_host) == (
        16,
        [2, 2, 1],
    )
