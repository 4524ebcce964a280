"""What the training step takes on a TPU in other forms than its own, by the TPU's compiler.

    python tests/benchmarks/tpu_forms.py --topology v6e:1x1 --forms scoped_vmem_kib=16384

prints the time of each program, the memory and the time to compile, first as `KERNEL_CONFIGS` has
it, then with what `--forms` changes (each time the option is given).
"""

from __future__ import annotations

import argparse
import dataclasses

from rvc_jax.config import PRESETS
from rvc_jax.models.kernels.options import KernelConfig, kernel_config_for
from rvc_jax.plan.chips import Topology
from rvc_jax.plan.compile import compile_step, configure_without_tpu


def with_fields(forms: KernelConfig, assignments: list[str]) -> KernelConfig:
    """Forms with fields set as in `fold_to=64` and `packed=True`."""
    kinds = {"True": True, "False": False}
    pairs = (assignment.split("=", 1) for assignment in assignments)
    return dataclasses.replace(
        forms,
        **{
            name: int(value) if value.isdigit() else kinds.get(value, value)
            for name, value in pairs
        },
    )


def line(preset: str, topology: Topology, batch: int, forms: KernelConfig) -> str:
    found = compile_step(PRESETS[preset], topology, batch, forms)
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
        "--forms", nargs="+", action="append", default=[[]], help="what differs, as fold_to=64"
    )
    options = parser.parse_args()
    topology = Topology.parse(options.topology)
    own = kernel_config_for("tpu", topology.chip.kind)
    configure_without_tpu()
    for changes in options.forms:
        found = line(
            options.preset, topology, options.batch_per_chip, with_fields(own, changes)
        )
        print(
            f"{topology.name} {options.preset}, {' '.join(changes) or 'its own forms'}: {found}",
            flush=True,
        )


if __name__ == "__main__":
    main()
