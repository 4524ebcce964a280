"""`rvc-jax plan`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import Flag, Json, OptionalFloat, OptionalInt, OptionalPlace
from rvc_jax.config import PRESETS, PresetName, option
from rvc_jax.errors import UserError
from rvc_jax.formatting import format_bytes, format_duration

if TYPE_CHECKING:
    from rvc_jax.plan.chips import Topology
    from rvc_jax.plan.compile import StepPlan
    from rvc_jax.plan.cost import RunCost

_Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")]
_LISTED_OPERATIONS = 25


def plan(
    topology: _Names = ("v5e:1x1",),
    preset: PresetName = "40k",
    batch_per_chip: int = 8,
    dataset: OptionalPlace = None,
    minutes: float = 20.0,
    epochs: OptionalInt = None,
    rematerialize: Flag = False,
    per_op: Flag = False,
    units_per_hour: OptionalFloat = None,
    dollars_per_hour: OptionalFloat = None,
    as_json: Json = False,
) -> int:
    """Estimate what training takes on a TPU before you pay for one: memory, time and cost, by the
    TPU's own compiler.

    The real training step is compiled on this machine, without a TPU, which takes minutes. Needs
    the extra `tpu`.

    Args:
        topology: TPU slices: v5e:1x1 is one v5e chip, v6e:2x4 is eight v6e chips.
        preset: Voice format.
        batch_per_chip: Windows per chip and step; a multiple of 8.
        dataset: Prepared dataset to plan for.
        minutes: Minutes of speech to plan for, without --dataset.
        epochs: Passes over the speech; by default as many as the preset has.
        rematerialize: Save memory at the cost of time, as in training.
        per_op: List the operations that take the most time.
        units_per_hour: Colab units per chip and hour, instead of the built-in rate.
        dollars_per_hour: Dollars per chip and hour, instead of the built-in rate.
    """
    from rvc_jax.plan.chips import Topology
    from rvc_jax.plan.compile import configure_without_tpu

    slices = [Topology.parse(name) for name in topology]
    if batch_per_chip < 1:
        raise UserError(f"{option('batch_per_chip')} must be at least 1, not {batch_per_chip}")
    configure_without_tpu()
    from rvc_jax.plan.compile import compile_step
    from rvc_jax.plan.cost import count_windows, estimate_run_cost, resolve_rate
    from rvc_jax.storage.environment import start_jax

    start_jax()
    settings = PRESETS[preset]
    recipe = dataclasses.replace(settings.train, rematerialize=rematerialize)
    settings = dataclasses.replace(settings, train=recipe)
    windows = _count_dataset_windows(dataset) if dataset else count_windows(minutes)
    results = []
    for place in slices:
        with Display() as display:
            display.message(f"compiling {preset} for {place.name}; this takes minutes")
            compiled = compile_step(settings, place, batch_per_chip)
        cost = estimate_run_cost(
            compiled.step_seconds,
            compiled.compile_seconds,
            windows,
            epochs or settings.train.epochs,
            batch_per_chip * place.chips,
            place,
            resolve_rate(place, units_per_hour, dollars_per_hour),
        )
        results.append(_result(preset, place, batch_per_chip, compiled, cost, per_op))
    print_result(results, [row for result in results for row in _rows(result)], as_json)
    return 0


def _count_dataset_windows(dataset: str) -> int:
    from rvc_jax.data.dataset import read_info

    return read_info(dataset).train_slices


def _result(
    preset: str, place: Topology, batch: int, compiled: StepPlan, cost: RunCost, per_op: bool
) -> dict[str, Any]:
    """Return the plan as `--json` prints it, and as docs/plan.json keeps it."""
    programs = {name: 1000 * seconds for name, seconds in compiled.programs.items()}
    result = {
        "topology": place.name,
        "preset": preset,
        "batch_per_chip": batch,
        "compile_s": compiled.compile_seconds,
        "step_ms": 1000 * compiled.step_seconds,
        "programs_ms": programs,
        "utilisation": compiled.flops / compiled.step_seconds / place.chip.flops,
        "flops": compiled.flops,
        "hbm_bytes": compiled.memory,
        "hbm_arguments": compiled.arguments,
        "hbm_temporaries": compiled.temporaries,
        "hbm_code": compiled.code,
        "hbm_available": place.chip.memory,
        **dataclasses.asdict(cost),
        "estimated_by": "the TPU compiler's cost model, not measured on a chip",
    }
    if per_op:
        result["operations"] = [operation._asdict() for operation in compiled.operations]
        result["clock"] = place.chip.clock
    return result


def _rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    step = [("step", f"{result['step_ms']:.1f} ms ({result['estimated_by']})")]
    if len(result["programs_ms"]) > 1:
        programs = [f"{time:.1f} {name}" for name, time in result["programs_ms"].items()]
        step.append(("parts of the step", f"{', '.join(programs)} (ms)"))
    memory = ", ".join(
        f"{format_bytes(result[f'hbm_{part}'])} {part}"
        for part in ("arguments", "temporaries", "code")
    )
    used = format_bytes(result["hbm_bytes"])
    available = format_bytes(result["hbm_available"])
    run_time = format_duration(3600 * result["hours"])
    return [
        (
            "slice",
            f"{result['topology']}, preset {result['preset']}, "
            f"{result['batch_per_chip']} windows per chip",
        ),
        ("compiled in", f"{result['compile_s']:.0f} s, on this machine"),
        *step,
        (
            "utilization",
            f"{result['utilisation']:.0%} of the chip's peak, "
            f"{result['flops'] / 1e12:.2f} TFLOP per step",
        ),
        ("memory per chip", f"{used} of {available}: {memory}"),
        (
            "run",
            f"{result['steps']} steps, {result['steps_per_epoch']} per epoch: {run_time}",
        ),
        (
            "cost",
            f"{result['units']:.1f} Colab units, or ${result['dollars']:.2f} in the cloud; "
            "rates change",
        ),
        *_operation_rows(result),
    ]


def _operation_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for operation in result.get("operations", [])[:_LISTED_OPERATIONS]:
        milliseconds = operation["cycles"] / result["clock"] * 1e3
        source = operation["source"][-90:]
        rows.append((f"{milliseconds:.3f} ms", f"{operation['name']} {source}"))
    return rows
