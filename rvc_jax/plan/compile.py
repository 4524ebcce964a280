"""Compiles the real training step for a TPU, on a machine without one.

The compiler is that of the package libtpu. Before it is loaded, `configure_without_tpu` must state
that this machine has no TPU.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import time
from typing import Any

from rvc_jax.config import WINDOW_FRAMES, Preset
from rvc_jax.errors import UserError
from rvc_jax.models.kernels.options import REFERENCE, KernelConfig, kernel_config_for
from rvc_jax.plan.chips import Topology
from rvc_jax.plan.hlo import Operation, operations
from rvc_jax.storage.installation import install_command


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """The compiler's estimates for a training step; sizes in bytes per chip."""

    compile_seconds: float
    step_seconds: float
    """Sum of the estimated cycles of all operations, by the chip's clock."""
    arguments: int
    """Bytes of the state and the batch; the state is updated in place."""
    temporaries: int
    code: int
    flops: float
    """Operations of the reference's convolutions and products per chip, without the work that
    folding and padding add."""
    programs: dict[str, float]
    """Seconds of every program of the step (`train.split_step`); their sum is `step_seconds`."""
    operations: tuple[Operation, ...]
    """All operations, longest first."""

    @property
    def memory(self) -> int:
        """Bytes of memory that the step needs."""
        return self.arguments + self.temporaries + self.code


def configure_without_tpu() -> None:
    """State to JAX and libtpu that this machine has no TPU. Call it before JAX is used."""
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        # libtpu would look these up on the machine, and complain; compiling does not depend on
        # them.
        "TPU_ACCELERATOR_TYPE": "v5litepod-1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_STDERR_LOG_LEVEL": "3",
        "TPU_MIN_LOG_LEVEL": "3",
    }


def compile_step(
    preset: Preset, topology: Topology, batch_per_chip: int, kernels: KernelConfig | None = None
) -> StepPlan:
    """Compile the training step for a slice, after `configure_without_tpu`.

    Args:
      preset: what is trained.
      topology: the slice.
      batch_per_chip: windows per chip and step.
      kernels: the kernel config, by default that of the chip.

    Raises:
      UserError: libtpu is not installed, or the step does not fit into the chip's memory.
    """
    import jax

    mesh = _mesh(topology)
    kernels = kernels or kernel_config_for("tpu", topology.chip.kind)
    networks, arguments = _step(preset, mesh, batch_per_chip * topology.chips, kernels)
    began = time.perf_counter()
    try:
        programs = _programs(networks, mesh, arguments)
    except jax.errors.JaxRuntimeError as error:
        raise _does_not_fit(error, topology, batch_per_chip) or error from error
    seconds = time.perf_counter() - began
    memory = [program.memory_analysis() for program in programs.values()]
    # What one program hands on to the next is neither an argument of the step nor reused memory.
    handed_on = sum(one.output_size_in_bytes - one.alias_size_in_bytes for one in memory)
    by_program = {
        name: list(operations(program.as_text())) for name, program in programs.items()
    }
    times = {
        name: sum(one.cycles for one in found) / topology.chip.clock
        for name, found in by_program.items()
    }
    return StepPlan(
        compile_seconds=seconds,
        step_seconds=sum(times.values()),
        arguments=_bytes_per_chip(arguments),
        temporaries=handed_on + max(one.temp_size_in_bytes for one in memory),
        code=sum(one.generated_code_size_in_bytes for one in memory),
        flops=count_reference_flops(preset, batch_per_chip),
        programs=times,
        operations=tuple(
            sorted(
                itertools.chain(*by_program.values()), key=lambda operation: -operation.cycles
            )
        ),
    )


def _programs(networks: Any, mesh: Any, arguments: tuple[Any, Any]) -> dict[str, Any]:
    import jax

    from rvc_jax.train.split_step import compile_split_step
    from rvc_jax.train.step import make_step

    if networks.is_split:
        return vars(compile_split_step(networks, lambda batch: batch, mesh, *arguments))
    with jax.set_mesh(mesh):
        step = jax.jit(
            make_step(networks), donate_argnums=0, compiler_options=networks.compiler_options
        )
        return {"step": step.lower(*arguments).compile()}


def _bytes_per_chip(shapes: Any) -> int:
    import jax

    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(shapes)
    )


def count_reference_flops(preset: Preset, batch: int) -> float:
    """Return the operations of a step's convolutions and products in the reference form.

    A multiplication and an addition are two operations."""
    import jax

    from rvc_jax.plan.flops import count_flops
    from rvc_jax.train.step import make_step

    networks, arguments = _step(preset, None, batch, REFERENCE)
    return count_flops(jax.make_jaxpr(make_step(networks))(*arguments).jaxpr)


def _mesh(topology: Topology) -> Any:
    import jax
    from jax.experimental import topologies
    from jax.sharding import AxisType

    try:
        described = topologies.get_topology_desc(
            platform="tpu",
            topology_name=topology.name,
            chips_per_host_bounds=topology.chips_per_host,
        )
    except Exception as error:  # the plug-in raises errors of many types
        if "not installed" in str(error):
            raise UserError(
                f"the TPU compiler is not installed: {install_command('tpu')}"
            ) from error
        raise UserError(
            f"the TPU compiler does not know {topology.name}: "
            f"{str(error).splitlines()[0][:200]}"
        ) from error
    return jax.sharding.Mesh(described.devices, ("data",), axis_types=(AxisType.Auto,))


def _step(
    preset: Preset, mesh: Any, batch: int, kernels: KernelConfig
) -> tuple[Any, tuple[Any, Any]]:
    """Return the networks, and the shapes of a step's arguments: replicated state, divided
    batch."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    from rvc_jax.train.loader import Batch
    from rvc_jax.train.networks import build_networks
    from rvc_jax.train.state import abstract_state, shape_of

    train = dataclasses.replace(preset.train, precision="bfloat16")
    networks = build_networks(dataclasses.replace(preset, train=train), 100, kernels)
    everywhere, divided = (
        mesh and NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",))
    )
    state = abstract_state(
        networks.synthesizer, networks.discriminator, networks.optimizer, everywhere
    )
    state = shape_of(jax.eval_shape(networks.pack, state), everywhere)
    channels = preset.generator.content_channels

    def array(shape: tuple[int, ...], dtype: Any) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype)

    windows = Batch(
        content=array((batch, WINDOW_FRAMES // 2, channels), jnp.float16),
        f0=array((batch, WINDOW_FRAMES), jnp.float32),
        lengths=array((batch,), jnp.int32),
        speaker=array((batch,), jnp.int32),
        wave=array((batch, WINDOW_FRAMES * preset.audio.hop), jnp.float32),
    )
    return networks, (state, shape_of(windows, divided))


def _does_not_fit(
    error: Exception, topology: Topology, batch_per_chip: int
) -> UserError | None:
    if "RESOURCE_EXHAUSTED" not in str(error):
        return None
    return UserError(
        f"a batch of {batch_per_chip} per chip does not fit into the memory of "
        f"{topology.chip.name} ({topology.chip.memory / 2**30:.1f} GiB): "
        "take fewer, or use --rematerialize"
    )
