"""Damaged versions of a file, endlessly many and always the same ones."""

from __future__ import annotations

import zlib

import numpy as np

_NUMBERS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x80")


def damage(content: bytes, number: int) -> bytes:
    """Flip bits, overwrite numbers, cut out or double parts, or cut off the end."""
    draw = np.random.default_rng([zlib.crc32(content), number])
    changed = bytearray(content)
    for _ in range(int(draw.integers(1, 4))):
        # Half of the damage goes to the header, where it does more.
        most = len(changed) if draw.random() < 0.5 else min(len(changed), 200)
        place = int(draw.integers(0, most))
        length = int(draw.integers(1, 100))
        match int(draw.integers(0, 6)):
            case 0 | 1:
                changed[place] ^= 1 << int(draw.integers(0, 8))
            case 2:
                changed[place : place + 4] = _NUMBERS[int(draw.integers(0, 4))]
            case 3:
                del changed[place : place + length]
            case 4:
                changed[place:place] = changed[place : place + length]
            case 5:
                changed = changed[: max(place, 64)]
    return bytes(changed)
