"""The code and the pages use plain, standard words: see tests/helpers/words.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import words

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "place", ["rvc_jax", "docs", "data", "launch", "README.md", "CONTRIBUTING.md"]
)
def test_words_are_plain(place: str) -> None:
    findings = words.all_findings(ROOT / place)
    assert not findings, "\n".join(map(str, findings))


def test_avoided_words_are_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        'def f():\n    """Of the step, the gradient by x."""\n'
        "    # it is no file, and lies in `lies in`\n"
    )
    phrases = [finding.phrase for finding in words.find(module)]
    assert phrases == [
        "Of the step, the gradient by x.",
        "gradient by",
        "is no file",
        "lies in",
    ]
