"""Facts of the chips that can be planned for, and of their slices' names."""

from __future__ import annotations

import dataclasses
import math
import re

from rvc_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip. Sources: Google's pages on TPU v5e and v6e."""

    name: str
    kind: str
    """As JAX names it."""
    flops: float
    """bfloat16 operations per second at most."""
    clock: float
    """Cycles per second of the compiler's estimates. v6e's is not published: an assumption."""
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
    """A slice of a TPU, as `v5e:2x4`: eight chips of v5e."""

    name: str
    chip: Chip
    shape: tuple[int, int]

    @classmethod
    def parse(cls, name: str) -> Topology:
        """Raises UserError for a name that is none."""
        if (found := _NAME.fullmatch(name)) is None or "0" in found.groups():
            known = ", ".join(
                f"{chip}:{shape}" for chip in CHIPS for shape in ("1x1", "2x2", "2x4")
            )
            raise UserError(f"no topology is called {name!r}: name one as {known}")
        return cls(name, CHIPS[found[1]], (int(found[2]), int(found[3])))

    @property
    def chips(self) -> int:
        return math.prod(self.shape)

    @property
    def chips_per_host(self) -> list[int]:
        """Up to eight chips are one host's; larger slices have hosts of 2x2."""
        return [*self.shape, 1] if self.chips <= _CHIPS_PER_HOST else [2, 2, 1]
