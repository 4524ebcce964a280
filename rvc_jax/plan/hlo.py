"""Where the time goes in a program compiled for a TPU, by the estimates in its text."""

from __future__ import annotations

import collections
import re
from typing import NamedTuple


class Operation(NamedTuple):
    """An instruction of the compiled program; in a loop, all iterations together."""

    name: str
    cycles: int
    source: str
    """The JAX operation that it was compiled from; may be empty."""
    times: int
    """Runs per step."""


_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\([^\n]*\) -> [^\n]*)?\{")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = ")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_SOURCE = re.compile(r'op_name="([^"]*)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_WHILE = re.compile(r" while\(.*?condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_CALL = re.compile(
    r"(?: call\(.*?to_apply=| conditional\(.*?(?:true_computation|branch_computations)=\{?)"
    r"%?([\w.\-]+)"
)


def operations(text: str) -> list[Operation]:
    """Return every instruction with an estimate, longest first.

    Instructions in the body of a loop are estimated for one iteration; their cycles are multiplied
    by the loop's known trip count.
    """
    entry, bodies = _computations(text)
    found: list[Operation] = []
    waiting = [(entry, 1)]
    while waiting:
        name, times = waiting.pop()
        for line in bodies[name]:
            if cycles := _CYCLES.search(line):
                source = _SOURCE.search(line)
                label = _INSTRUCTION.match(line)
                total = int(cycles[1]) * times
                found.append(
                    Operation(
                        label[1] if label else "?", total, source[1] if source else "", times
                    )
                )
            elif loop := _WHILE.search(line):
                trips = _TRIPS.search(line)
                waiting.append((loop[2], times * (int(trips[1]) if trips else 1)))
            elif call := _CALL.search(line):
                waiting.append((call[1], times))
    return sorted(found, key=lambda operation: -operation.cycles)


def _computations(text: str) -> tuple[str, dict[str, list[str]]]:
    """Return the name of the entry computation, and the lines of all computations."""
    entry = ""
    current = ""
    bodies: dict[str, list[str]] = collections.defaultdict(list)
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            current = header[2]
            entry = current if header[1] else entry
        elif current and _INSTRUCTION.match(line):
            bodies[current].append(line)
    return entry, bodies
