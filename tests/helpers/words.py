"""Words that the code and the pages avoid, and what to write in their place.

python tests/helpers/words.py rvc_jax docs README.md
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

AVOIDED = {
    r"\bgradients? by\b": "gradient with respect to",
    r"\b(?<![Tt]here )(?:is|are|was|were) no "
    r"(?!longer|more|less|later|faster|slower|larger|better|worse)\w+": (
        "does not ..., is not a ..., without ..."
    ),
    r"\b(?:tells?|told|telling)\b": "returns, shows, reports, states",
    r"\b(?:speaks?|spoken|spoke)\b(?! in somebody's name)": "converts, renders, says",
    r"\b(?:hears?|heard)\b": "uses, receives, sees, measures",
    r"\b(?:whoever|whomever)\b": "the caller, everyone who",
    r"\bso many\b": "this many, that number of",
    r"\b(?:lies|lie) (?:in|on|at(?! most| least)|there|beside)\b": "is in, is stored in",
    r"\b(?:normalis|optimis|initialis|rematerialis|recognis|serialis|synthesis(?=e[sd]?\b))\w*": (
        "American spelling"
    ),
    r"\b(?:licence|colour|neighbour|centre|behaviour|favour|flavour|grey|catalogue|artefact)\w*": (
        "American spelling"
    ),
}
"""Pattern: what to write instead. Quotations of other programs and of speech are not prose."""

GENITIVE = re.compile(r"Of (?:the|a|an|its|all|every|each|one|two|what|those|\w+s)\b")


class Finding(NamedTuple):
    """A phrase that is avoided, and where it is."""

    path: Path
    line: int
    phrase: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.phrase!r}: {self.advice}"


def prose_of_python(source: str) -> Iterator[tuple[int, str, bool]]:
    """Line, text and whether it is a docstring, of the docstrings and comments of a module."""
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", [])
        for statement in body if isinstance(body, list) else []:
            if not isinstance(statement, ast.Expr) or not isinstance(
                statement.value, ast.Constant
            ):
                continue
            if isinstance(statement.value.value, str):
                yield statement.lineno, statement.value.value, True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string, False


def prose_of_page(text: str) -> Iterator[tuple[int, str, bool]]:
    """The lines of a page outside its blocks of code."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        fenced ^= line.lstrip().startswith("```")
        if not fenced and not line.startswith("    "):
            yield number, line, False


def find(path: Path) -> Iterator[Finding]:
    """Every avoided phrase of a module or page; code in backticks and quotations are left out."""
    text = path.read_text()
    parts = prose_of_python(text) if path.suffix == ".py" else prose_of_page(text)
    for line, prose, is_docstring in parts:
        plain = re.sub(r"`[^`]*`|\"[^\"]*\"|'[^'\n]*'(?!\w)", "", prose)
        if is_docstring and GENITIVE.match(prose.strip()):
            yield Finding(path, line, prose.strip().split("\n")[0][:40], "begin with the noun")
        for pattern, advice in AVOIDED.items():
            for match in re.finditer(pattern, plain, re.IGNORECASE):
                yield Finding(path, line + plain[: match.start()].count("\n"), match[0], advice)


def all_findings(place: Path) -> list[Finding]:
    """The findings of a file, or of all modules and pages below a folder."""
    if place.is_file():
        return list(find(place))
    files = sorted([*place.rglob("*.py"), *place.rglob("*.md")])
    return [finding for file in files for finding in find(file)]


if __name__ == "__main__":
    findings = [finding for name in sys.argv[1:] for finding in all_findings(Path(name))]
    for finding in findings:
        print(finding)
    print(len(findings), "findings")
    sys.exit(bool(findings))
