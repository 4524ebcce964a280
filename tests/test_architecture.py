"""Imports follow the layers of docs/architecture.md, and the code keeps its air."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import air
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rvc_jax"
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "architecture.md"

DOORS = {"rvc_jax", "rvc_jax.__main__"}
"""They hand on what others define, and belong to no layer."""

CROSS_CUTTING = (
    "benchmarks",
    "data_base",
    "docs",
    "fixtures",
    "fuzz",
    "helpers",
    "integration",
    "launch",
    "parity",
)
"""Folders of the tests that mirror no package."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports() -> dict[str, set[str]]:
    """Every module of the package and the modules that it imports, lazily or not."""
    sources = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    found = {}
    for name, path in sources.items():
        targets = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                # `from package import module` imports the module, not the package's own names.
                members = {f"{node.module}.{alias.name}" for alias in node.names}
                modules = {member if member in sources else node.module for member in members}
                targets |= modules & sources.keys()
            elif isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names} & sources.keys()
        found[name] = targets - {name}
    return found


@cache
def layers() -> dict[str, int]:
    """The height of every package, from the block in docs/architecture.md: 0 is the top."""
    block = re.search(r"<!-- layers -->\n+```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block, f"{PAGE} has no block of layers"
    heights = {}
    for height, line in enumerate(block[1].strip().splitlines()):
        for package in line.split("#")[0].replace(",", " ").split():
            heights[package] = height
    return heights


def room(module: str) -> str:
    return module.split(".")[1]


def test_every_package_has_a_layer() -> None:
    rooms = {room(module) for module in imports() if module not in DOORS}
    assert rooms == layers().keys()


def test_no_import_goes_up() -> None:
    upwards = [
        f"{module} -> {target}"
        for module, targets in imports().items()
        for target in targets
        if module not in DOORS | {target} and target not in DOORS
        if layers()[room(target)] < layers()[room(module)]
    ]
    assert not upwards, "\n".join(upwards)


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for target in sorted(arrows.get(node, ())):
            if target not in order:
                visit(target)
                lowest[node] = min(lowest[node], lowest[target])
            elif target in stack:
                lowest[node] = min(lowest[node], order[target])
        if lowest[node] == order[node]:
            start = stack.index(node)
            group = stack[start:]
            del stack[start:]
            if len(group) > 1:
                found.append(sorted(group))

    for node in arrows:
        if node not in order:
            visit(node)
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_modules_import_each_other_in_no_circle() -> None:
    inside = {
        module: targets - DOORS for module, targets in imports().items() if module not in DOORS
    }
    assert circles(inside) == []


def test_packages_import_each_other_in_no_circle() -> None:
    arrows: dict[str, set[str]] = {}
    for module, targets in imports().items():
        if module not in DOORS:
            arrows.setdefault(room(module), set()).update(room(t) for t in targets - DOORS)
    assert circles({name: targets - {name} for name, targets in arrows.items()}) == []


def mirrored_tests() -> list[Path]:
    files = TESTS.glob("*/**/test_*.py")
    return [file for file in files if file.relative_to(TESTS).parts[0] not in CROSS_CUTTING]


@pytest.mark.parametrize(
    "file", mirrored_tests(), ids=lambda file: str(file.relative_to(TESTS))
)
def test_tests_mirror_the_package(file: Path) -> None:
    """tests/a/test_b.py tests rvc_jax/a/b.py (or the package rvc_jax/a/b)."""
    place = file.relative_to(TESTS)
    module = PACKAGE / place.parent / place.name.removeprefix("test_")
    assert module.exists() or module.with_suffix("").is_dir(), f"{module} does not exist"


@pytest.mark.parametrize("folder", ["rvc_jax", "tests"])
def test_the_code_has_air(folder: str) -> None:
    """One statement a line: see tests/helpers/air.py, which prints the same figures."""
    figures = air.measure(ROOT / folder)
    assert figures.packed_by_three == 0
    assert figures.packed_per_1000 < 2
    assert figures.width_p90 <= 90
    assert figures.longer_than_100 == 0
    assert figures.fmt_skips <= air.TABLES
