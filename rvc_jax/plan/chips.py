"""The chips that can be planned for, and the names of their slices."""

from __future__ import annotations

import dataclasses
import math
import re

from rvc_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Chip:
    """A chip. Sources: Google's pages on TPU v5e and v6e."""

    name: str
    kind: str
    """Its name in JAX."""
    flops: float
    """Peak bfloat16 operations per second."""
    clock: float
    """Cycles per second in the compiler's estimates. That of v6e is not published: an
    assumption."""
    memory: float
    """Bytes that a program can use."""


CHIPS = {
    "v5e": Chip("v5e", "TPU v5 lite", 197e12, 1.5e9, 14.5 * 2**30),
    "v6e": Chip("v6e", "TPU v6 lite", 918e12, 1.75e9, 31.0 * 2**30),
}
_NAME = re.compile(r"(v5e|v6e):(\d+)x(\d+)")
_CHIPS_PER_HOST = 8


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice of a TPU: `v5e:2x4` is eight v5e chips."""

    name: str
    chip: Chip
    shape: tuple[int, int]

    @classmethod
    def parse(cls, name: str) -> Topology:
        """Read a name such as `v5e:2x4`. Raises UserError for any other text."""
        if (found := _NAME.fullmatch(name)) is None or "0" in found.groups():
            known = ", ".join(
                f"{chip}:{shape}" for chip in CHIPS for shape in ("1x1", "2x2", "2x4")
            )
            raise UserError(f"no topology is called {name!r}: name one as {known}")
        return cls(name, CHIPS[found[1]], (int(found[2]), int(found[3])))

    @property
    def chips(self) -> int:
        """Number of chips."""
        return math.prod(self.shape)

    @property
    def chips_per_host(self) -> list[int]:
        """Shape of one host's part: slices of up to eight chips have one host, larger ones hosts of
        2x2."""
        return [*self.shape, 1] if self.chips <= _CHIPS_PER_HOST else [2, 2, 1]
