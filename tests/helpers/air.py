"""How dense code is: statements packed into a line, and the width of lines.

python tests/helpers/air.py rvc_jax tests
"""

from __future__ import annotations

import ast
import dataclasses
import sys
from pathlib import Path

TABLES = 4
"""How many `# fmt: skip` a folder may have: only where a table is a table."""

KEPT_AS_IT_CAME = "reference.py"


@dataclasses.dataclass
class Density:
    """Figures of all Python files below a folder."""

    lines: int = 0
    packed: int = 0
    """Assignments of a tuple to a tuple: `a, b = x, y`."""
    packed_by_three: int = 0
    """The same of three or more."""
    longer_than_100: int = 0
    fmt_skips: int = 0
    comments: int = 0
    """Lines that are a comment, or end in one."""
    width_p90: int = 0
    """90 % of the lines that are not empty are at most this wide."""

    @property
    def packed_per_1000(self) -> float:
        return 1000 * self.packed / max(self.lines, 1)


def packed_assignments(source: str) -> list[int]:
    """The length of every assignment of a tuple to a tuple."""
    return [
        len(node.value.elts)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Tuple)
        and isinstance(node.targets[0], ast.Tuple)
    ]


def measure(folder: Path) -> Density:
    """Measures the Python files below a folder, but for those kept as they came."""
    density = Density()
    widths = []
    for path in sorted(folder.rglob("*.py")):
        if path.name == KEPT_AS_IT_CAME:
            continue
        source = path.read_text()
        lines = source.splitlines()
        sizes = packed_assignments(source)
        density.lines += len(lines)
        density.packed += len(sizes)
        density.packed_by_three += sum(size >= 3 for size in sizes)
        density.longer_than_100 += sum(len(line) > 100 for line in lines)
        density.fmt_skips += sum(line.rstrip().endswith("# fmt: skip") for line in lines)
        density.comments += sum("# " in line for line in lines)
        widths += [len(line) for line in lines if line.strip()]
    widths.sort()
    density.width_p90 = widths[len(widths) * 9 // 10] if widths else 0
    return density


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(
            name,
            measure(Path(name)),
            f"packed per 1,000: {measure(Path(name)).packed_per_1000:.2f}",
        )
