"""The table of docs/speed.md: what a training step takes on slices of TPUs, by their own compiler.

    python tests/benchmarks/plan_table.py --topology v5e:1x1 v6e:1x1 v5e:2x4 v6e:2x4 --preset 40k 48k 32k nano

compiles what is not in docs/plan.json yet (40k took 36 minutes of two busy cores and 13 GB of memory for v5e, and needs
more for v6e: nothing else should run), adds it there, and writes the table anew. `--again` compiles all that is named.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rvc_jax.config import PRESETS
from rvc_jax.files import replacing

DOCS = Path(__file__).parents[2] / "docs"
BEGIN, END = "<!-- plan_table.py -->", "<!-- end of plan_table.py -->"
HEADER = (
    "| slice | preset | step | of the peak | memory per chip | compiled in | 20 minutes of speech |\n"
    "|---|---|---|---|---|---|---|"
)


def planned(topology: str, preset: str, batch: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "rvc_jax", "plan", "--topology", topology, "--preset", preset]
    done = subprocess.run(
        [*command, "--batch-per-chip", str(batch), "--json"], stdout=subprocess.PIPE, text=True, check=True
    )
    (result,) = json.loads(done.stdout)
    return result | {"jax": version("jax"), "libtpu": version("libtpu")}


def row(result: dict[str, Any]) -> str:
    cost = f"{result['units']:.1f} units or ${result['dollars']:.2f}"
    cells = (
        result["topology"], f"`{result['preset']}`", f"{result['step_ms']:.1f} ms", f"{result['utilisation']:.0%}",
        f"{result['hbm_bytes'] / 1e9:.1f} GB", f"{result['compile_s'] / 60:.0f} min",
        f"{result['steps']:,} steps, {60 * result['hours']:.0f} min, {cost}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def write_table(results: dict[str, dict[str, Any]]) -> None:
    presets = list(PRESETS)
    ordered = sorted(results.values(), key=lambda result: (presets.index(result["preset"]), result["topology"]))
    page = DOCS / "speed.md"
    before, rest = page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    with replacing(page) as file:
        rows = "\n".join(row(result) for result in ordered)
        file.write(f"{before}{BEGIN}\n{HEADER}\n{rows}\n{END}{after}".encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", nargs="*", default=[], help="none: only write the table")
    parser.add_argument("--preset", nargs="*", default=["40k"], choices=list(PRESETS))
    parser.add_argument("--batch-per-chip", type=int, default=8)
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    file = DOCS / "plan.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for preset in options.preset:
        for topology in options.topology:
            key = f"{topology} {preset} {options.batch_per_chip}"
            if key in results and not options.again:
                continue
            results[key] = planned(topology, preset, options.batch_per_chip)
            with replacing(file) as out:
                out.write((json.dumps(results, indent=1, sort_keys=True) + "\n").encode())
    write_table(results)


if __name__ == "__main__":
    main()
