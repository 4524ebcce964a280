"""Seeded damage to JSON: other types, sizes and depths, and damaged bytes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    10**6,
    10**12,
    2**63,
    2**70,
    10**400,
    "",
    "x",
    "\0",
    "\ud800",
    "\x1b[31m",
    "9" * 5000,
    [],
    {},
    [[]],
    [{}],
    [None] * 100,
    {"": None},
    {"a": {"a": {"a": []}}},
]


def mutate(content: bytes, seed: int) -> bytes:
    """Return the JSON of a file, or one of its lines, with one to three damages."""
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 3)):
        is_deep = chance.random() < 0.75
        content = _mutate_value(content, chance) if is_deep else _mutate_bytes(content, chance)
    return content


def _mutate_value(content: bytes, chance: random.Random) -> bytes:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return _mutate_bytes(content, chance)
    places = list(_places(value))
    if not places:
        return json.dumps(chance.choice(VALUES)).encode()
    holder, key = chance.choice(places)
    action = chance.random()
    if action < 0.15:
        del holder[key]
    elif action < 0.25 and isinstance(holder, dict):
        holder[chance.choice(["", "x", key + "x", "step"])] = holder.pop(key)
    elif action < 0.3:
        nested: Any = holder[key]
        for _ in range(chance.choice([3, 70, 900])):
            nested = [nested]
        holder[key] = nested
    else:
        holder[key] = chance.choice(VALUES)
    try:
        return json.dumps(value).encode()
    except (ValueError, RecursionError):
        return b"[" * 2000


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, item in list(items):
        yield value, key
        yield from _places(item)


def _mutate_bytes(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) + 1)
    garbage = chance.choice(
        [
            b"\0",
            b"\xff\xfe",
            b"[" * 100_000,
            b'"',
            b"\\ud800",
            b"\n",
            b"{}",
            b"-",
            b"1e999",
            b"NaN",
        ]
    )
    action = chance.random()
    if action < 0.2:
        return content[:place]
    if action < 0.6 or not content:
        return content[:place] + garbage + content[place:]
    changed = bytearray(content)
    changed[min(place, len(content) - 1)] ^= 1 << chance.randrange(8)
    return bytes(changed)
