"""The data card: hours, speakers and languages of every source, with licenses and credits."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from data.base.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Row:
    """The speech of one speaker from one source."""

    source: str
    speaker: str
    sex: str
    language: str
    seconds: float
    license: str
    copyright: str
    is_synthetic: bool


def write_card(recipe: Recipe, rows: Sequence[Row], path: Path) -> None:
    """Write the card as Markdown."""
    path.write_text(describe(recipe, rows))


def describe(recipe: Recipe, rows: Sequence[Row]) -> str:
    """Return the card as Markdown."""
    hours = sum(row.seconds for row in rows) / 3600
    real = sum(row.seconds for row in rows if not row.is_synthetic) / 3600
    speakers = {row.speaker: row.sex for row in rows}
    women = sum(sex == "woman" for sex in speakers.values())
    parts = [
        "# Speech of the base voice\n",
        f"{hours:.2f} hours ({real:.2f} recorded, {hours - real:.2f} synthesized) of "
        f"{len(speakers)} speakers ({women} women, {len(speakers) - women} men), in "
        f"{len({_family(row) for row in rows})} languages.\n",
        f"Seed {recipe.seed}. Left out on purpose: {', '.join(recipe.forbidden)}.\n",
        "## Sources\n",
        _table(rows, ("source", "license", "credit"), _source_of),
        "## Languages (of the speakers; a third of the synthesized speech is in others)\n",
        _table(rows, ("language",), lambda row: (row.language,)),
        "## Speakers\n",
        _table(rows, ("speaker", "sex"), lambda row: (row.speaker, row.sex)),
    ]
    return "\n".join(parts)


def _family(row: Row) -> str:
    return row.language.partition("-")[0]


def _source_of(row: Row) -> tuple[str, ...]:
    return row.source, row.license, row.copyright


def _table(
    rows: Sequence[Row], heads: tuple[str, ...], key: Callable[[Row], tuple[str, ...]]
) -> str:
    minutes: collections.Counter[tuple[str, ...]] = collections.Counter()
    for row in rows:
        minutes[key(row)] += row.seconds / 60
    lines = [
        f"| {' | '.join(heads)} | minutes |",
        "|" + "---|" * (len(heads) + 1),
        *(f"| {' | '.join(group)} | {total:.1f} |" for group, total in minutes.items()),
    ]
    return "\n".join(lines) + "\n"
