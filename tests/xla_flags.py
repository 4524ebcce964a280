"""How XLA compiles for tests."""

from __future__ import annotations

from importlib.metadata import version


def quick(level: int) -> str:
    """XLA_FLAGS: programs that run for a moment are compiled four times as fast without LLVM's
    optimisations (level 0) and XLA's own emitters, which newer versions can't do without."""
    flags = f"--xla_backend_optimization_level={level}"
    is_old = tuple(int(part) for part in version("jaxlib").split(".")[:2]) < (0, 11)
    return f"{flags} --xla_cpu_use_fusion_emitters=false" if is_old else flags
