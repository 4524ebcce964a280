"""The training step as four programs instead of one.

Together they take two thirds of the processor time to compile, and compile at the same time.

1. `render`: the generator's forward pass. Its residuals go to the fourth program in the layout
   that the compiler chose for them. The default layout would cost a copy on the way out and
   another one on the way in.
2. `update_discriminator`.
3. `generator_loss_and_grad`: the losses, and their gradient w.r.t. the generator's outputs.
4. `update_generator`: the backward pass of the generator, and its update.

The device never waits for the host between programs: the host dispatches asynchronously and is
many steps ahead.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Format, Layout
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rvc_jax.models.kernels.weight_norm import squared_norms
from rvc_jax.models.parameters import Parameters
from rvc_jax.train import step as whole_step
from rvc_jax.train.distributed import place_on_mesh
from rvc_jax.train.loader import Batch, Loader
from rvc_jax.train.networks import Networks
from rvc_jax.train.segments import draw_segments
from rvc_jax.train.state import NetworkState, TrainState, shape_of
from rvc_jax.train.step import Metrics, Outputs, Pullback, Rendered

BatchFunction = Callable[..., Batch]
"""Makes the batch from the last arguments of a call."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class WeightNorms:
    """Squared norms of both networks' kernels (`weight_norm.squared_norms`).

    An update computes those of the next step as it goes, so no step passes over the kernels for
    them.
    """

    generator: Parameters
    discriminator: Parameters


def measure_norms(state: TrainState) -> WeightNorms:
    """Compute the squared norms of both networks' kernels."""
    return WeightNorms(
        squared_norms(state.generator.params),
        squared_norms(state.discriminator.params),
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Residuals:
    """What the generator's forward pass keeps for its backward pass, which is another program.

    Many residuals are parameters themselves: kernels without a weight norm. Both programs have
    the parameters as arguments, so these residuals are not copied from one to the other.
    """

    arrays: list[jax.Array]
    """The residuals that are not parameters."""
    parameters: tuple[int | None, ...] = dataclasses.field(metadata={"static": True})
    """For every leaf of `tree`: the number of the parameter that it is; None if it is the next of
    `arrays`."""
    tree: Any = dataclasses.field(metadata={"static": True})

    @classmethod
    def split(cls, pullback: Pullback, params: Parameters) -> Residuals:
        """Take a pullback of `jax.vjp` apart, in the trace in which it was given `params`."""
        leaves, tree = jax.tree.flatten(pullback)
        # Sound: the caller holds `params` while we compare, so an id belongs to one tracer only,
        # and equal ids are the same value. A JAX version that wraps residuals anew would make
        # fewer of them match: they would be copied, with the same numbers, and
        # `test_residuals_hold_no_copies_of_parameters` would fail. Seen with JAX 0.10.2.
        numbers = {id(leaf): number for number, leaf in enumerate(jax.tree.leaves(params))}
        found = tuple(numbers.get(id(leaf)) for leaf in leaves)
        arrays = [leaf for leaf, number in zip(leaves, found, strict=True) if number is None]
        return cls(arrays, found, tree)

    def join(self, params: Parameters) -> Pullback:
        """Rebuild the pullback; the inverse of `split`."""
        given = jax.tree.leaves(params)
        others = iter(self.arrays)
        return self.tree.unflatten(
            next(others) if number is None else given[number] for number in self.parameters
        )


class StepFunctions:
    """The pure functions of the four programs."""

    def __init__(self, networks: Networks, make_batch: BatchFunction, chips: int = 1):
        self._networks = networks
        self._make_batch = make_batch
        recipe = networks.preset.train
        # On several chips gradients are summed over chips before they are used. Other work fills
        # that time only if it doesn't wait for a sub-discriminator's update.
        self._in_turn = (
            chips == 1
            and recipe.discriminator_every == 1
            and not recipe.clip_norm
            and bool(networks.packings)
        )

    def render(
        self, generator: Parameters, norms: Parameters, step: jax.Array, *batch_args: Any
    ) -> tuple[Rendered, Residuals]:
        """Render the segments of a step's batch."""
        preset = self._networks.preset
        batch = self._make_batch(*batch_args)
        segments, rng = draw_segments(preset, step, batch)
        rendered, pullback = whole_step.forward(self._networks, generator, segments, rng, norms)
        return rendered, Residuals.split(pullback, generator)

    def update_discriminator(
        self,
        state: NetworkState,
        norms: Parameters,
        step: jax.Array,
        rate: jax.Array,
        rendered: Rendered,
    ) -> tuple[NetworkState, Parameters, Metrics]:
        """Update the discriminator; returns its state, its norms and its metrics."""
        if self._in_turn:
            state, metrics = whole_step.update_discriminator_in_turn(
                self._networks, state, rate, rendered, norms
            )
        else:
            loss = whole_step.make_discriminator_loss(self._networks, rendered, norms)
            state, metrics = whole_step.update_discriminator(
                self._networks, state, step, rate, loss
            )
        return state, squared_norms(state.params), metrics

    def generator_loss_and_grad(
        self, discriminator: Parameters, norms: Parameters, rendered: Rendered
    ) -> tuple[Metrics, Outputs]:
        """Compute the generator's losses and their gradient w.r.t. its outputs."""
        return whole_step.generator_loss_and_grad(
            self._networks, discriminator, rendered, norms
        )

    def update_generator(
        self,
        state: NetworkState,
        average: Parameters | None,
        step: jax.Array,
        rate: jax.Array,
        residuals: Residuals,
        terms: Metrics,
        cotangents: Outputs,
        metrics: Metrics,
    ) -> tuple[NetworkState, Parameters, Parameters | None, jax.Array, Metrics]:
        """Update the generator.

        Returns its state, its norms, the average, the number of the next step, and all metrics.
        """
        (grads,) = residuals.join(state.params)(cotangents)
        state, average, generator_metrics = whole_step.update_generator(
            self._networks, state, average, step, rate, terms, grads
        )
        metrics = whole_step.merge_metrics(metrics, generator_metrics)
        return state, squared_norms(state.params), average, step + 1, metrics


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """The four programs, compiled."""

    render: Any
    update_discriminator: Any
    generator_loss_and_grad: Any
    update_generator: Any

    def __call__(
        self, state: TrainState, norms: WeightNorms, *batch_args: Any
    ) -> tuple[TrainState, WeightNorms, Metrics]:
        """Take the step of `make_step`, but with the arguments of the `BatchFunction`.

        State and norms are donated.
        """
        rendered, residuals = self.render(
            state.generator.params, norms.generator, state.step, *batch_args
        )
        discriminator, discriminator_norms, metrics = self.update_discriminator(
            state.discriminator, norms.discriminator, state.step, state.rate, rendered
        )
        terms, cotangents = self.generator_loss_and_grad(
            discriminator.params, discriminator_norms, rendered
        )
        generator, generator_norms, average, step, metrics = self.update_generator(
            state.generator,
            state.average,
            state.step,
            state.rate,
            residuals,
            terms,
            cotangents,
            metrics,
        )
        state = TrainState(step, state.rate, generator, discriminator, average)
        return state, WeightNorms(generator_norms, discriminator_norms), metrics


def compile_split_step(
    networks: Networks,
    make_batch: BatchFunction,
    mesh: Mesh,
    state: TrainState,
    *batch_args: Any,
) -> CompiledStep:
    """Compile the step, as many programs at a time as there are processors.

    Args:
      networks: of the preset.
      make_batch: makes the batch from `batch_args`.
      mesh: devices to compile for.
      state: packed; arrays or their shapes.
      batch_args: arrays or their shapes.
    """
    functions = StepFunctions(networks, make_batch, mesh.size)
    replicated = NamedSharding(mesh, PartitionSpec())
    divided = NamedSharding(mesh, PartitionSpec("data"))

    def trace(
        function: Any, *arguments: Any, donated: tuple[int, ...] = (), results: Any = replicated
    ) -> Any:
        with jax.set_mesh(mesh):
            jitted = jax.jit(
                function,
                donate_argnums=donated,
                out_shardings=results,
                compiler_options=networks.compiler_options,
            )
            return jitted.trace(*arguments)

    def compile_traced(traced: Any) -> Any:
        with jax.set_mesh(mesh):  # of this thread
            return traced.lower().compile()

    norms = shape_of(jax.eval_shape(measure_norms, state), replicated)
    step, rate = shape_of((state.step, state.rate), replicated)
    # The layout of the residuals is the compiler's choice.
    render = trace(
        functions.render,
        state.generator.params,
        norms.generator,
        step,
        *batch_args,
        results=(divided, Format(Layout.AUTO)),
    )
    rendered, residuals = render.out_info
    rendered = shape_of(rendered, divided)
    update_discriminator = trace(
        functions.update_discriminator,
        state.discriminator,
        norms.discriminator,
        step,
        rate,
        rendered,
        donated=(0, 1),
    )
    metrics = shape_of(update_discriminator.out_info[-1], replicated)
    loss_and_grad = trace(
        functions.generator_loss_and_grad,
        shape_of(state.discriminator.params, replicated),
        norms.discriminator,
        rendered,
        results=(replicated, divided),
    )
    terms, cotangents = loss_and_grad.out_info

    def compile_update_generator(render: Future) -> Any:
        # It has to wait for the layout of the residuals.
        shapes = jax.tree.map(
            lambda leaf, format: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=format),
            residuals,
            render.result().output_formats[1],
        )
        traced = trace(
            functions.update_generator,
            state.generator,
            state.average,
            step,
            rate,
            shapes,
            shape_of(terms, replicated),
            shape_of(cotangents, divided),
            metrics,
            donated=(0, 1),
        )
        return compile_traced(traced)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        # In this order: the last program waits for the first, so neither may wait for a thread
        # behind the other two.
        first = pool.submit(compile_traced, render)
        second = pool.submit(compile_traced, update_discriminator)
        last = pool.submit(compile_update_generator, first)
        third = pool.submit(compile_traced, loss_and_grad)
        return CompiledStep(
            render=first.result(),
            update_discriminator=second.result(),
            generator_loss_and_grad=third.result(),
            update_generator=last.result(),
        )


def _stack_rows(rows: list[Metrics], count: jax.Array) -> Metrics:
    """Stack the first `count` rows, and zeros for the others."""
    is_there = jnp.arange(len(rows)) < count
    return jax.tree.map(lambda *values: jnp.where(is_there, jnp.stack(values), 0), *rows)


class SplitStep:
    """The dispatch of `dispatch.make_dispatch`, jitted, made of the four programs.

    (state, resident windows, batch arguments, count) -> (state, metrics). It compiles when it is
    first called.
    """

    def __init__(self, networks: Networks, loader: Loader, steps: int, mesh: Mesh):
        """steps: most steps of a call."""
        self._networks = networks
        self._loader = loader
        self._steps = steps
        self._mesh = mesh
        self._numbers = [place_on_mesh(np.array(i, np.int32), mesh) for i in range(steps)]
        self._stack = jax.jit(_stack_rows)
        self._programs: tuple[Any, Any, CompiledStep] | None = None

    def __call__(
        self, state: TrainState, resident: Any, batch_args: Any, count: np.int32
    ) -> tuple[TrainState, Metrics]:
        """Take `count` steps; returns metrics [steps], zeros beyond `count`."""
        if self._programs is None:
            self._programs = self._compile(state, resident, batch_args)
        pack, unpack, step = self._programs
        state, norms = pack(state)
        rows: list[Metrics] = []
        for i in self._numbers[: int(count)]:
            state, norms, metrics = step(state, norms, resident, batch_args, i)
            rows.append(metrics)
        # Padded to a fixed number, so that one program stacks any count.
        padding = [rows[-1]] * (self._steps - len(rows))
        return unpack(state), self._stack(rows + padding, count)

    def _compile(
        self, state: TrainState, resident: Any, batch_args: Any
    ) -> tuple[Any, Any, CompiledStep]:
        networks = self._networks
        replicated = NamedSharding(self._mesh, PartitionSpec())

        def compile_packing(function: Any, state: Any) -> Any:
            with jax.set_mesh(self._mesh), warnings.catch_warnings():
                # Buffers whose shape changes can't be reused.
                warnings.filterwarnings("ignore", "Some donated buffers")
                jitted = jax.jit(function, donate_argnums=0, out_shardings=replicated)
                return jitted.lower(state).compile()

        def pack(state: TrainState) -> tuple[TrainState, WeightNorms]:
            state = networks.pack(state)
            return state, measure_norms(state)

        compiled_pack = compile_packing(pack, state)
        packed = shape_of(jax.eval_shape(networks.pack, state), replicated)
        step = compile_split_step(
            networks,
            self._loader.take,
            self._mesh,
            packed,
            resident,
            batch_args,
            self._numbers[0],
        )
        return compiled_pack, compile_packing(networks.unpack, packed), step
