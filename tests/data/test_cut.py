"""Names of cuts."""

from __future__ import annotations

from rvc_jax.data.cut import name_cut, number_duplicates


def test_cuts_are_named_by_their_times() -> None:
    assert name_cut("speech.m4a", 62.5, 190) == "speech.m4a[62.5-190.0]"
    assert name_cut("speech.m4a", 0, None) == "speech.m4a"
    assert name_cut("speech.m4a", 0, 1.25) == "speech.m4a[0.0-1.25]"
    assert name_cut("speech.m4a", 0.001, None) == "speech.m4a[0.001-end]"
    assert name_cut("a", 1 / 3, 2 / 3) != name_cut("a", 1 / 3, 2 / 3 + 1e-5)


def test_duplicates_are_numbered() -> None:
    assert number_duplicates(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]
    assert number_duplicates([]) == []
