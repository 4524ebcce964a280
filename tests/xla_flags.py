"""How XLA compiles for tests."""

from __future__ import annotations

from importlib.metadata import version


def fast_compile_flags(level: int) -> str:
    """Returns XLA_FLAGS that compile four times as fast, for programs that run for a moment.

    level: of LLVM's optimizations; 0 turns them off. XLA's own fusion emitters are turned off, too,
    except in jaxlib 0.11 and later, which cannot do without them.
    """
    flags = f"--xla_backend_optimization_level={level}"
    is_old = tuple(int(part) for part in version("jaxlib").split(".")[:2]) < (0, 11)
    return f"{flags} --xla_cpu_use_fusion_emitters=false" if is_old else flags
