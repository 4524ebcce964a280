"""Compiles the training step for a TPU with other kernel configs than its own.

    python tests/benchmarks/tpu_kernels.py --topology v6e:1x1 --kernels scoped_vmem_kib=16384

prints the time of each program, the memory and the time to compile, by the TPU's own compiler:
first as `KERNEL_CONFIGS` has it, then with the changes of each `--kernels`.
"""

from __future__ import annotations

import argparse
import dataclasses

from rvc_jax.config import PRESETS
from rvc_jax.models.kernels.options import KernelConfig, kernel_config_for
from rvc_jax.plan.chips import Topology
from rvc_jax.plan.compile import compile_step, configure_without_tpu


def with_fields(config: KernelConfig, assignments: list[str]) -> KernelConfig:
    """Replaces fields, given as `fold_to=64` or `pack_parameters=True`."""
    booleans = {"True": True, "False": False}
    changes = {}
    for assignment in assignments:
        name, value = assignment.split("=", 1)
        changes[name] = int(value) if value.isdigit() else booleans.get(value, value)
    return dataclasses.replace(config, **changes)


def compile_and_describe(
    preset: str, topology: Topology, batch: int, config: KernelConfig
) -> str:
    """Returns the figures of one config as a line."""
    found = compile_step(PRESETS[preset], topology, batch, config)
    programs = ", ".join(
        f"{name} {1000 * seconds:.2f}" for name, seconds in found.programs.items()
    )
    return (
        f"{1000 * found.step_seconds:.2f} ms a step ({programs}), {found.memory / 1e9:.2f} GB, "
        f"{found.code / 1e6:.0f} MB of it code, compiled in {found.compile_seconds:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topology", default="v5e:1x1")
    parser.add_argument("--preset", default="40k", choices=PRESETS)
    parser.add_argument("--batch-per-chip", type=int, default=8)
    parser.add_argument(
        "--kernels",
        nargs="+",
        action="append",
        default=[[]],
        help="changes to the chip's own config, such as fold_to=64",
    )
    options = parser.parse_args()
    topology = Topology.parse(options.topology)
    own = kernel_config_for("tpu", topology.chip.kind)
    configure_without_tpu()
    for changes in options.kernels:
        config = with_fields(own, changes)
        line = compile_and_describe(options.preset, topology, options.batch_per_chip, config)
        label = " ".join(changes) or "its own config"
        print(f"{topology.name} {options.preset}, {label}: {line}", flush=True)


if __name__ == "__main__":
    main()
