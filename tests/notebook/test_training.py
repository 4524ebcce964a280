"""Steps 4 and 5: estimates, the training command, and what follows a training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from notebook_room import T4, Room

from rvc_jax.config import RATES
from rvc_jax.notebook.program import NotebookError


def planned() -> dict[str, float]:
    """What docs/plan.json says of the voice of these tests on v5e."""
    return json.loads((Path(__file__).parents[2] / "docs" / "plan.json").read_text())[
        "v5e:1x1 40k 8"
    ]


def test_the_estimate_of_a_planned_chip(room: Room) -> None:
    made = room.prepared()
    made.estimate(200)
    plan = planned()
    seconds = 53 * 200 * plan["step_ms"] / 1000
    units = seconds / 3600 * RATES["v5e"].units_per_hour
    assert f"10600 steps of {plan['step_ms']:.0f} ms: about {seconds / 60:.0f} min" in room.text
    assert f"{units:.2f} compute units" in room.text and "not a measurement" in room.text
    assert f"it took {plan['compile_s'] / 60:.0f} min" in room.text
    assert "train" not in room.commands.names()


def test_the_users_own_rate(room: Room) -> None:
    made = room.prepared(units_per_hour=10)
    made.estimate(200)
    hours = 53 * 200 * planned()["step_ms"] / 1000 / 3600
    assert f"{10 * hours:.2f} compute units" in room.text
    made.train(200, "5units")
    assert room.commands.option("train", "--budget") == "30.00min"


def test_a_chip_without_a_plan_is_measured_once(room: Room) -> None:
    made = room.prepared(accelerator=T4)
    made.estimate(100, measure=False)
    assert "is not known" in room.shown[-1] and "train" not in room.commands.names()
    made.estimate(100)
    made.estimate(100)
    assert room.commands.names().count("train") == 1
    assert room.commands.option("train", "--steps") == "96"
    assert (
        room.text.count("5300 steps of 250 ms: about 22 min of training, 0.39 compute units")
        == 2
    )


def test_the_training_command(room: Room) -> None:
    made = room.prepared()
    made.train(300, " 5units ", 20)
    expected = {
        "--run": str(made.voice.run),
        "--preset": "40k",
        "--epochs": "300",
        "--save-every": "20",
    }
    expected |= {"--budget": "5units", "--progress": "json"}
    assert {name: room.commands.option("train", name) for name in expected} == expected
    assert (
        "2.000 at the start, 1.000 for the best voice" in room.text
        and "[report.html]" in room.shown
    )
    assert "release" not in room.colab.calls


def test_a_budget_that_is_none(room: Room) -> None:
    made = room.prepared()
    with pytest.raises(NotebookError, match="cannot be read"):
        made.train(300, "a lot")
    assert "train" not in room.commands.names()


@pytest.mark.parametrize("used_up", [False, True])
def test_when_training_or_its_budget_ends_the_runtime_goes_after_the_export(
    room: Room, used_up: bool
) -> None:
    made = room.prepared()
    room.commands.trained = {"interrupted": used_up, "used_up": used_up}
    made.train(300, release=True)
    assert room.commands.names()[-2:] == ["train", "export"]
    assert room.colab.calls[-2:] == ["send_to_drive", "release"]


def test_a_stopped_training_keeps_the_runtime(room: Room) -> None:
    made = room.prepared()
    room.commands.trained = {"interrupted": True}
    made.train(300, release=True)
    assert "release" not in room.colab.calls and "goes on costing units" in room.shown[-1]


@pytest.mark.parametrize("command", ["train", "export"])
def test_a_failure_keeps_the_runtime(room: Room, command: str) -> None:
    made = room.prepared()
    room.commands.fails[command] = "disk full: the voice"
    with pytest.raises(NotebookError, match="^disk full: the voice$"):
        made.train(300, release=True)
    assert "release" not in room.colab.calls
    with pytest.raises(NotebookError, match="The runtime stays"):
        made.release(True)
    assert "release" not in room.colab.calls
