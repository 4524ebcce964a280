"""Names of voices can be names of files, on every system."""

from __future__ import annotations

import dataclasses

import pytest
from made_runs import make_model

from rvc_jax.errors import UserError
from rvc_jax.voices.names import check_name, to_usable_name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a/b",
        "..",
        "a\\b",
        "C:x",
        "a\nb",
        "con",
        "NUL.x",
        " a",
        "a.",
        "a*b",
        "\u202ea",
        "G_100",
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(UserError):
        check_name(name)


def test_names_are_made_usable() -> None:
    checkpoint_of = dataclasses.replace(make_model(1), facts={"name": "G_2333333"})
    assert checkpoint_of.with_file_name("my experiment").facts["name"] == "my_experiment"
    for name in ("Callie", "my voice 2", "Élise", "声", "a.b-c_d"):
        check_name(name)
    made = {
        name: to_usable_name(name)
        for name in ("my voice", "../../etc", "con", "", "a\nb", "x" * 300, "Élise 2")
    }
    assert (
        made["my voice"] == "my_voice"
        and made["../../etc"] == "etc"
        and made["Élise 2"] == "Élise_2"
    )
    for name in made.values():
        check_name(name)
