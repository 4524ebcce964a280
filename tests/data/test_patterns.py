"""Regular expressions that are searched in time, and those that would take for ever."""

from __future__ import annotations

import re
import time

import pytest

from rvc_jax.data import patterns
from rvc_jax.data.patterns import PatternError, check_pattern, search_texts

TITLES = ["Part 1", "part two", "Intro", "Übung: Über alles", "", "x" * 300]


@pytest.mark.parametrize(
    "pattern", ["^part", r"\d$", "über", "(?<=a)r", r"(.)\1", "intro|alles", "", "a{2,3}|^$"]
)
def test_texts_are_found_as_by_re(pattern: str) -> None:
    expected = [re.search(pattern, title, re.IGNORECASE) is not None for title in TITLES]
    assert search_texts(pattern, TITLES) == expected


@pytest.mark.parametrize("pattern", ["(", "[a", "*a", "(?P<n", "a{99999999999}", "(?<=a*)b"])
def test_invalid_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(PatternError, match="not a regular expression"):
        check_pattern(pattern)


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*$", "(a|aa)+$", r"(\w+\s?)+:$", "(.*)*b", "(?:a?){40}a{40}b"]
)
def test_patterns_that_would_never_end_are_given_up(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "MAX_SECONDS", 1.0)
    start = time.monotonic()
    with pytest.raises(PatternError, match="takes more than 1 seconds"):
        search_texts(pattern, ["a" * 60 + "!"])
    assert time.monotonic() - start < 5


def test_patterns_that_need_much_memory_or_are_long_are_refused() -> None:
    with pytest.raises(PatternError, match="longer than"):
        check_pattern("a" * 2000)
    with pytest.raises(PatternError):
        search_texts("((((a{0,60000}b?){0,60000}){0,60000}){0,60000})c", ["ab" * 50_000])
