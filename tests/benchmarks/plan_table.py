"""Writes the tables of docs/speed.md, docs/accelerators.md and README.md: time and cost of training
on TPUs, as the TPU compiler estimates them.

    python tests/benchmarks/plan_table.py --topology v5e:1x1 v6e:1x1 v5e:2x4 v6e:2x4 \\
        --preset 40k 48k 32k nano

The named combinations that docs/plan.json lacks are compiled and added to it (40k takes four to
five minutes on two idle cores); then the tables are rewritten. `--again` compiles all named
combinations.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from page_table import write_table

from rvc_jax.config import PRESETS
from rvc_jax.formatting import format_duration
from rvc_jax.plan.chips import Topology
from rvc_jax.plan.cost import resolve_rate
from rvc_jax.storage.files import atomic_write

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BEGIN = "<!-- plan_table.py -->"
END = "<!-- end of plan_table.py -->"
STEP_HEADER = (
    "| slice | preset | step | share of peak | memory per chip | compiled in "
    "| 20 minutes of speech |\n"
    "|---|---|---|---|---|---|---|"
)
COST_HEADER = (
    "| TPU | preset | training | the same with the first compilation |\n|---|---|---|---|"
)


def planned(topology: str, preset: str, batch: int) -> dict[str, Any]:
    """The result of `rvc-jax plan`, with the versions of jax and libtpu."""
    command = [
        sys.executable,
        "-m",
        "rvc_jax",
        "plan",
        "--topology",
        topology,
        "--preset",
        preset,
    ]
    done = subprocess.run(
        [*command, "--batch-per-chip", str(batch), "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    (result,) = json.loads(done.stdout)
    return result | {"jax": version("jax"), "libtpu": version("libtpu")}


def step_row(result: dict[str, Any]) -> tuple[str, ...]:
    cost = f"{result['units']:.1f} units or ${result['dollars']:.2f}"
    return (
        result["topology"],
        f"`{result['preset']}`",
        f"{result['step_ms']:.1f} ms",
        f"{result['utilisation']:.0%}",
        f"{result['hbm_bytes'] / 1e9:.1f} GB",
        f"{result['compile_s'] / 60:.0f} min",
        f"{result['steps']:,} steps, {60 * result['hours']:.0f} min, {cost}",
    )


def cost_row(result: dict[str, Any]) -> tuple[str, ...]:
    """Time and cost of a run, with the step already compiled and with its compilation."""
    place = Topology.parse(result["topology"])
    chips = "one chip" if place.chips == 1 else f"{place.chips} chips"
    training = result["steps"] * result["step_ms"] / 1000
    name = f"{place.chip.name}, {chips} (`{place.name}`)"
    return (
        name,
        f"`{result['preset']}`",
        _cost(training, place),
        _cost(training + result["compile_s"], place),
    )


def _cost(seconds: float, place: Topology) -> str:
    rate = resolve_rate(place, None, None)
    hours = place.chips * seconds / 3600
    units = hours * rate.units_per_hour
    dollars = hours * rate.dollars_per_hour
    return f"{format_duration(seconds)}, {units:.2f} units or ${dollars:.2f}"


PAGES = {
    DOCS / "speed.md": (STEP_HEADER, step_row),
    DOCS / "accelerators.md": (COST_HEADER, cost_row),
    ROOT / "README.md": (
        COST_HEADER,
        lambda result: () if result["preset"] == "nano" else cost_row(result),
    ),
}


def table(
    results: dict[str, dict[str, Any]],
    header: str,
    row: Callable[[dict[str, Any]], tuple[str, ...]],
) -> str:
    """A Markdown table of the results; results for which `row` returns no cells are left out."""
    presets = list(PRESETS)
    ordered = sorted(
        results.values(),
        key=lambda result: (presets.index(result["preset"]), result["topology"]),
    )
    return "\n".join(
        [header, *(f"| {' | '.join(cells)} |" for cells in map(row, ordered) if cells)]
    )


def write_tables(results: dict[str, dict[str, Any]]) -> None:
    """Replaces the text between BEGIN and END on every page."""
    for page, (header, row) in PAGES.items():
        write_table(page, BEGIN, END, table(results, header, row))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topology", nargs="*", default=[], help="none: only rewrite tables")
    parser.add_argument("--preset", nargs="*", default=["40k"], choices=list(PRESETS))
    parser.add_argument("--batch-per-chip", type=int, default=8, help="windows per chip")
    parser.add_argument("--again", action="store_true", help="recompile known results")
    options = parser.parse_args()
    file = DOCS / "plan.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for preset in options.preset:
        for topology in options.topology:
            key = f"{topology} {preset} {options.batch_per_chip}"
            if key in results and not options.again:
                continue
            results[key] = planned(topology, preset, options.batch_per_chip)
            with atomic_write(file) as out:
                out.write((json.dumps(results, indent=1, sort_keys=True) + "\n").encode())
    write_tables(results)


if __name__ == "__main__":
    main()
