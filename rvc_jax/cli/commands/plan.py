"""`rvc-jax plan`."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import tyro

from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import Json, OptionalInt, OptionalPlace
from rvc_jax.config import PRESETS, PresetName
from rvc_jax.errors import UserError
from rvc_jax.formatting import format_bytes, format_duration

_Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME [NAME ...]")]
_Number = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
_LISTED = 25


def plan(
    topology: _Names = ("v5e:1x1",),
    preset: PresetName = "40k",
    batch_per_chip: int = 8,
    dataset: OptionalPlace = None,
    minutes: float = 20.0,
    epochs: OptionalInt = None,
    rematerialize: bool = False,
    per_op: bool = False,
    units_per_hour: _Number = None,
    dollars_per_hour: _Number = None,
    as_json: Json = False,
) -> int:
    """What training will take on a TPU, before paying for it: memory, time and cost by that TPU's
    own compiler.

    The real training step is compiled, here, without a TPU; that takes minutes. Needs the extra
    `tpu`.

    Args:
        topology: Slices: v5e:1x1 is one chip of v5e, v6e:2x4 eight of v6e.
        preset: Voice format.
        batch_per_chip: Windows per chip and step; a multiple of 8.
        dataset: Prepared dataset to plan for.
        minutes: Minutes of speech to plan for, if no dataset is named.
        epochs: Passes over the speech; the preset's own number if not given.
        rematerialize: Trade time for memory, as in training.
        per_op: List where the time goes.
        units_per_hour: Colab units per chip and hour, in the place of the table's.
        dollars_per_hour: Dollars per chip and hour, in the place of the table's.
    """
    from rvc_jax.plan.chips import Topology
    from rvc_jax.plan.compile import configure_without_tpu

    slices = [Topology.parse(name) for name in topology]
    if batch_per_chip < 1:
        raise UserError(f"batch-per-chip must be at least 1, not {batch_per_chip}")
    configure_without_tpu()
    from rvc_jax.plan.compile import compile_step
    from rvc_jax.plan.cost import count_windows, estimate_run_cost, resolve_rate
    from rvc_jax.storage.environment import start_jax

    start_jax()
    settings = PRESETS[preset]
    settings = dataclasses.replace(
        settings, train=dataclasses.replace(settings.train, rematerialize=rematerialize)
    )
    windows = _windows(dataset) if dataset else count_windows(minutes)
    results = []
    for place in slices:
        with Display() as display:
            display.message(f"compiling {preset} for {place.name}; this takes minutes")
            compiled = compile_step(settings, place, batch_per_chip)
        rate = resolve_rate(place, units_per_hour, dollars_per_hour)
        cost = estimate_run_cost(
            compiled.step_seconds,
            compiled.compile_seconds,
            windows,
            epochs or settings.train.epochs,
            batch_per_chip * place.chips,
            place,
            rate,
        )
        results.append(_result(preset, place, batch_per_chip, compiled, cost, per_op))
    print_result(results, [row for result in results for row in _rows(result)], as_json)
    return 0


def _windows(dataset: str) -> int:
    from rvc_jax.data.dataset import read_info

    return read_info(dataset).train_slices


def _result(
    preset: str, place: Any, batch: int, compiled: Any, cost: Any, per_op: bool
) -> dict[str, Any]:
    """Everything under plain names; estimates are the compiler's."""
    result = {
        "topology": place.name,
        "preset": preset,
        "batch_per_chip": batch,
        "compile_s": compiled.compile_seconds,
        "step_ms": 1000 * compiled.step_seconds,
        "programs_ms": {name: 1000 * seconds for name, seconds in compiled.programs.items()},
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
    parts = ", ".join(
        f"{format_bytes(result[f'hbm_{part}'])} {part}"
        for part in ("arguments", "temporaries", "code")
    )
    rows = [
        (
            "slice",
            f"{result['topology']}, preset {result['preset']}, {result['batch_per_chip']} windows per chip",
        ),
        ("compiled in", f"{result['compile_s']:.0f} s, on this machine"),
        ("step", f"{result['step_ms']:.1f} ms ({result['estimated_by']})"),
        (
            "utilisation",
            f"{result['utilisation']:.0%} of the chip's peak, {result['flops'] / 1e12:.2f} TFLOP a step",
        ),
        (
            "memory per chip",
            f"{format_bytes(result['hbm_bytes'])} of {format_bytes(result['hbm_available'])}: {parts}",
        ),
        (
            "run",
            f"{result['steps']} steps, {result['steps_per_epoch']} per epoch: {format_duration(3600 * result['hours'])}",
        ),
        (
            "cost",
            f"{result['units']:.1f} Colab units, or ${result['dollars']:.2f} in the cloud; rates change",
        ),
    ]
    if len(result["programs_ms"]) > 1:
        of_step = ", ".join(
            f"{time:.1f} {name}" for name, time in result["programs_ms"].items()
        )
        rows.insert(3, ("of the step", f"{of_step} (ms)"))
    for operation in result.get("operations", [])[:_LISTED]:
        share = operation["cycles"] / result["clock"] * 1e3
        rows.append((f"{share:.3f} ms", f"{operation['name']} {operation['source'][-90:]}"))
    return rows
