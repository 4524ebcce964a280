"""Time read from the text of a compiled program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from rvc_jax.plan.flops import count_flops
from rvc_jax.plan.hlo import operations

PROGRAM = """HloModule jit_step, entry_computation_layout={...}

%fused (p: f32[8]) -> f32[8] {
  ROOT %add = f32[8]{0} add(%p, %p), backend_config={"estimated_cycles":"999"}
}

%body.1 (arg: (s32[], f32[8])) -> (s32[], f32[8]) {
  %inner = f32[8]{0} fusion(%x), metadata={op_name="jit(step)/while/conv"}, \
backend_config={"estimated_cycles":"100"}
  ROOT %tuple = (s32[], f32[8]) tuple(%i, %inner)
}

%cond.1 (arg: (s32[], f32[8])) -> pred[] {
  ROOT %compare = pred[] compare(%a, %b)
}

ENTRY %main.3 (p0: f32[8]) -> f32[8] {
  %first = f32[8]{0} fusion(%p0), metadata={op_name="jit(step)/mul"}, \
backend_config={"estimated_cycles":"30"}
  %loop = (s32[], f32[8]) while(%init), condition=%cond.1, body=%body.1, \
backend_config={"known_trip_count":{"n":"16"}}
  ROOT %last = f32[8]{0} copy(%y), backend_config={"estimated_cycles":"5"}
}
"""


def test_loops_count_every_round_and_fusions_only_once() -> None:
    found = [
        (operation.name, operation.cycles, operation.times) for operation in operations(PROGRAM)
    ]
    assert found == [("inner", 1600, 16), ("first", 30, 1), ("last", 5, 1)]
    assert operations(PROGRAM)[0].source == "jit(step)/while/conv"


def test_flops_of_products_convolutions_and_loops() -> None:
    def function(x: jax.Array, kernel: jax.Array) -> jax.Array:
        y = jax.lax.conv_general_dilated(
            x, kernel, (1,), [(1, 1)], dimension_numbers=("NWC", "WIO", "NWC")
        )
        return jax.lax.scan(lambda carry, _: (carry @ jnp.ones((6, 6)), None), y, length=5)[0]

    jaxpr = jax.make_jaxpr(function)(jnp.zeros((2, 10, 4)), jnp.zeros((3, 4, 6))).jaxpr
    assert count_flops(jaxpr) == 2 * (2 * 10 * 6 * 3 * 4) + 5 * 2 * (2 * 10 * 6 * 6)


def test_flops_of_grouped_and_transposed_convolutions() -> None:
    def grouped(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (2,),
            [(1, 1)],
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=2,
        )

    jaxpr = jax.make_jaxpr(grouped)(jnp.zeros((1, 10, 4)), jnp.zeros((3, 2, 6))).jaxpr
    assert count_flops(jaxpr) == 2 * (5 * 6) * 3 * 2

    def spread(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (1,),
            [(1, 1)],
            lhs_dilation=(2,),
            dimension_numbers=("NWC", "WIO", "NWC"),
        )

    jaxpr = jax.make_jaxpr(spread)(jnp.zeros((1, 10, 4)), jnp.zeros((3, 4, 6))).jaxpr
    assert count_flops(jaxpr) == pytest.approx(2 * (19 * 6) * 3 * 4 / 2)
