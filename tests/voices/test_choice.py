"""Names of voices and indexes in the layouts of today's tools."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from rvc_jax.voices.choice import (
    Candidate,
    choose_index,
    choose_voice,
    find_core,
    is_checkpoint,
)


@pytest.mark.parametrize(
    "stem",
    [
        "ada",
        "ada_e20_s100",
        "ada_200e_4000s",
        "ada_200e_4000s_best_epoch",
        "ada_best",
        "ada_100e",
        "ada-final",
        "Ada.v2",
        "ada_40k_e5",
        "ada_e20_s100 (1)",
        "ADA_epoch_30",
    ],
)
def test_marks_of_training_do_not_count(stem: str) -> None:
    assert find_core(stem) == "ada"


@pytest.mark.parametrize(
    ("voice", "there", "chosen"),
    [
        ("ada_200e_4000s.pth", "ada.index G_2333333.pth D_2333333.pth", "ada.index"),
        ("ada_best.pth", "ada.index bo.pth bo.index", "ada.index"),
        (
            "ada_e20_s100.pth",
            "added_IVF12_Flat_nprobe_1_ada_v2.index bo_e1_s2.pth",
            "added_IVF12_Flat_nprobe_1_ada_v2.index",
        ),
        ("ada_e20_s100.pth", "ada_e40_s200.pth weird.index", "weird.index"),
        ("ada.pth", "trained_IVF12_Flat_nprobe_1_ada_v2.index", None),
        ("ada.pth", "ada_two.pth ada_two.index", None),
        ("ada.pth", "adam.index bo.pth", None),
        (
            "声_e5_s10.pth",
            "added_IVF3_Flat_nprobe_1_声_v2.index x.pth",
            "added_IVF3_Flat_nprobe_1_声_v2.index",
        ),
    ],
)
def test_the_index_of_a_voice(voice: str, there: str, chosen: str | None) -> None:
    paths = [PurePath(voice), *map(PurePath, there.split())]
    voices = [path for path in paths if path.suffix == ".pth"]
    indexes = [Candidate(path, 0.0) for path in paths if path.suffix == ".index"]
    found, _ = choose_index(paths[0], voices, indexes)
    assert (found.path.name if found else None) == chosen


def test_the_newest_of_equal_indexes_is_taken_and_said() -> None:
    names = ("added_IVF9_Flat_nprobe_1_ada_v2.index", "added_IVF7_Flat_nprobe_1_ada_v2.index")
    indexes = [Candidate(PurePath(name), age) for age, name in enumerate(names)]
    found, note = choose_index(PurePath("ada.pth"), [PurePath("ada.pth")], indexes)
    assert found == indexes[1] and "the newest of 2" in note and names[0] in note


def test_the_voice_among_several() -> None:
    def choose(place: str, *names: str) -> tuple[str, str]:
        found = [Candidate(PurePath(name), age) for age, name in enumerate(names)]
        chosen, note = choose_voice(found, place)
        return chosen.path.name, note

    assert choose("x", "ada.pth", "G_5.pth", "D_5.pth") == ("ada.pth", "")
    assert choose("ada pack", "ada.pth", "bo.pth")[0] == "ada.pth"
    assert choose("x", "ada_e9.pth", "ada_e20.pth", "ada_e3.pth")[0] == "ada_e20.pth"
    assert choose("x", "ada_100e_5s.pth", "ada_best.pth", "ada.pth")[0] == "ada_best.pth"
    assert choose("x", "a.pth", "b.pth") == (
        "b.pth",
        "took b.pth of 2 voices there (not a.pth); --member takes another",
    )
    assert choose("x", "G_900.pth", "G_1000.pth", "D_1000.pth")[0] == "G_1000.pth"
    assert not is_checkpoint("G_Dragon.pth") and is_checkpoint("f0G40k.pth")


def test_the_version_of_an_index_counts() -> None:
    names = ("added_IVF9_Flat_nprobe_1_ada_v1.index", "added_IVF9_Flat_nprobe_1_ada_v2.index")
    indexes = [Candidate(PurePath(name), -age) for age, name in enumerate(names)]
    for version, name in zip(("v1", "v2"), names, strict=True):
        voice = PurePath("ada.pth")
        found, note = choose_index(voice, [voice], indexes, version)
        assert found is not None and found.path.name == name and note == ""
