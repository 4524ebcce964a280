"""Arithmetic of budgets."""

from __future__ import annotations

from pathlib import Path

import pytest

from rvc_jax.config import RATES, Rate
from rvc_jax.errors import UserError
from rvc_jax.train.budget import Budget, BudgetMeter, lookup_rate

RATE = Rate(units_per_hour=4.0, dollars_per_hour=1.5)


@pytest.mark.parametrize(
    ("text", "chips", "seconds"),
    [
        ("2h", 8, 7200),
        ("90min", 1, 5400),
        ("0.5h", 1, 1800),
        ("5units", 1, 4500),
        ("1 unit", 1, 900),
        ("5units", 8, 562.5),
        ("$3", 1, 7200),
        ("3$", 4, 1800),
    ],
)
def test_a_budget_is_so_much_time(text: str, chips: int, seconds: float) -> None:
    assert Budget.parse(text, RATE, chips).seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "h", "-2h", "0h", "2days", "$3h", "1e3h", "5units 2h"]
)
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="5units, 2h, 90min"):
        Budget.parse(text, RATE, 1)


def test_units_of_an_unknown_machine_are_refused() -> None:
    assert Budget.parse("2h", None, 1).seconds == 7200
    with pytest.raises(UserError, match="not known"):
        Budget.parse("2units", None, 1)


def test_amounts_are_those_of_the_time() -> None:
    assert Budget.parse("5units", RATE, 2).amount(1800) == "4.00 units"
    assert Budget.parse("$3", RATE, 2).amount(1800) == "$1.50"
    assert Budget.parse("2h", RATE, 2).amount(1800) == "0.50 h"


def test_the_meter_goes_on_where_it_was_and_keeps_time_for_the_end(tmp_path: Path) -> None:
    now = 100.0
    meter = BudgetMeter(tmp_path / "spent.json", Budget.parse("10min", None, 1), lambda: now)
    now += 300
    assert meter.spent == 300 and not meter.is_used_up(10)
    assert meter.text() == "0.08 h spent, 0.08 h left"
    assert not meter.is_used_up(279) and meter.is_used_up(281)  # 20 s for the end
    meter.pause(60)
    assert not meter.is_used_up(179) and meter.is_used_up(181)
    meter.save()
    later = BudgetMeter(tmp_path / "spent.json", Budget.parse("10min", None, 1), lambda: now)
    assert later.spent == 300
    (tmp_path / "spent.json").write_text("damaged")
    assert BudgetMeter(tmp_path / "spent.json", None, lambda: now).spent == 0


def test_without_a_budget_nothing_ends(tmp_path: Path) -> None:
    meter = BudgetMeter(tmp_path / "spent.json", None)
    assert not meter.is_used_up(1e9) and meter.text() == ""


def test_devices_are_known_by_their_kind() -> None:
    assert lookup_rate("TPU v5 lite") == RATES["v5e"]
    assert lookup_rate("TPU v6 lite") == RATES["v6e"]
    assert lookup_rate("NVIDIA L4") == RATES["L4"]
    assert lookup_rate("NVIDIA A100-SXM4-40GB") == RATES["A100"]
    assert lookup_rate("cpu") is None
