"""The training step as four programs instead of one: together they take two thirds of the processor
time to compile, and compile at the same time.

1. `render`: the generator's forward pass. What it keeps for its gradient passes to the fourth program as the compiler
   laid it out: in the default layout, it would be written anew on the way out and on the way in.
2. `update_discriminator`.
3. `judge`: the losses, and their gradient by what the generator made.
4. `update_generator`.

Between the programs nothing waits for the host: it has asked for the next steps long before the
device comes to them.
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

from rvc_jax.models.parameters import Network, Parameters
from rvc_jax.train import step as whole
from rvc_jax.train.distributed import place_on_mesh
from rvc_jax.train.loader import widened
from rvc_jax.train.state import TrainState, shape_of
from rvc_jax.train.step import Batch, Metrics, Networks, Rendered

BatchOf = Callable[..., Batch]
"""The batch, from the last arguments of a call."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Norms:
    """Squared norms of both networks' kernels (`Network.squared_norms`). An update finds those of
    the next step on its way: nothing has to pass over the kernels for them."""

    generator: Parameters
    discriminator: Parameters


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Kept:
    """What the generator's forward pass keeps for its gradient. Parameters that are kept as they
    are (kernels without what is multiplied onto them) do not come from one program to the other as
    copies: both are given them."""

    arrays: list[jax.Array]
    """All others."""
    parameters: tuple[int | None, ...] = dataclasses.field(metadata={"static": True})
    """For each array in the order of `tree`: which parameter it is, None where it is the next of
    `arrays`."""
    tree: Any = dataclasses.field(metadata={"static": True})

    @classmethod
    def of(cls, pull: Any, parameters: Parameters) -> Kept:
        """pull: as `jax.vjp` returns it, in the same trace as it was given the parameters."""
        arrays, tree = jax.tree.flatten(pull)
        numbers = {
            id(parameter): number
            for number, parameter in enumerate(jax.tree.leaves(parameters))
        }
        found = tuple(numbers.get(id(array)) for array in arrays)
        return cls(
            [array for array, number in zip(arrays, found, strict=True) if number is None],
            found,
            tree,
        )

    def pull(self, parameters: Parameters) -> Any:
        """As it was given to `of`."""
        given = jax.tree.leaves(parameters)
        others = iter(self.arrays)
        return self.tree.unflatten(
            next(others) if number is None else given[number] for number in self.parameters
        )


def measure_norms(state: TrainState) -> Norms:
    return Norms(
        Network.squared_norms(state.generator), Network.squared_norms(state.discriminator)
    )


class Functions:
    """The pure functions of the four programs."""

    def __init__(self, networks: Networks, batch_of: BatchOf, chips: int = 1):
        self._networks = networks
        self._batch_of = batch_of
        recipe = networks.preset.train
        # On several chips gradients are added up before they are used: what can be done meanwhile
        # must not wait for it.
        self._in_turn = (
            chips == 1
            and recipe.discriminator_every == 1
            and not recipe.clip_norm
            and networks.is_packed
        )

    def render(
        self, generator: Parameters, norms: Parameters, step: jax.Array, *given: Any
    ) -> tuple[Rendered, Kept]:
        rendered, pull = whole.render(
            self._networks, generator, step, self._batch_of(*given), norms
        )
        return rendered, Kept.of(pull, generator)

    def update_discriminator(
        self,
        discriminator: Parameters,
        norms: Parameters,
        optimizer: Any,
        step: jax.Array,
        rate: jax.Array,
        rendered: Rendered,
    ) -> tuple[Parameters, Parameters, Any, Metrics]:
        """Parameters, their norms, the optimiser's state, and metrics."""
        state = TrainState(step, rate, {}, discriminator, (), optimizer)
        if self._in_turn:
            state, metrics = whole.update_discriminator_in_turn(
                self._networks, state, rendered, norms
            )
        else:
            loss = whole.make_discriminator_loss(self._networks, rendered, norms)
            state, metrics = whole.update_discriminator(self._networks, state, loss)
        norms = Network.squared_norms(state.discriminator)
        return state.discriminator, norms, state.discriminator_optimizer, metrics

    def judge(
        self, discriminator: Parameters, norms: Parameters, rendered: Rendered
    ) -> tuple[Metrics, Any]:
        return whole.judge(self._networks, discriminator, rendered, norms)

    def update_generator(
        self,
        generator: Parameters,
        optimizer: Any,
        average: Any,
        step: jax.Array,
        rate: jax.Array,
        kept: Kept,
        terms: Metrics,
        cotangents: Any,
        metrics: Metrics,
    ) -> tuple[Parameters, Parameters, Any, Any, jax.Array, Metrics]:
        """Parameters, their norms, the optimiser's state, the average, the number of the next step,
        and metrics."""
        state = TrainState(step, rate, generator, {}, optimizer, (), average)
        (gradient,) = kept.pull(generator)(cotangents)
        state, metrics = whole.update_generator(self._networks, state, terms, gradient, metrics)
        norms = Network.squared_norms(state.generator)
        return (
            state.generator,
            norms,
            state.generator_optimizer,
            state.average,
            state.step,
            metrics,
        )


@dataclasses.dataclass(frozen=True)
class Programs:
    """The four, compiled."""

    render: Any
    update_discriminator: Any
    judge: Any
    update_generator: Any

    def __call__(
        self, state: TrainState, norms: Norms, *given: Any
    ) -> tuple[TrainState, Norms, Metrics]:
        """The step, as that of `make_step`, but with what `BatchOf` takes. The state is used up."""
        rendered, kept = self.render(state.generator, norms.generator, state.step, *given)
        discriminator, of_discriminator, discriminator_optimizer, metrics = (
            self.update_discriminator(
                state.discriminator,
                norms.discriminator,
                state.discriminator_optimizer,
                state.step,
                state.rate,
                rendered,
            )
        )
        terms, cotangents = self.judge(discriminator, of_discriminator, rendered)
        generator, of_generator, generator_optimizer, average, step, metrics = (
            self.update_generator(
                state.generator,
                state.generator_optimizer,
                state.average,
                state.step,
                state.rate,
                kept,
                terms,
                cotangents,
                metrics,
            )
        )
        state = TrainState(
            step,
            state.rate,
            generator,
            discriminator,
            generator_optimizer,
            discriminator_optimizer,
            average,
        )
        return state, Norms(of_generator, of_discriminator), metrics


def compile_split_step(
    networks: Networks, batch_of: BatchOf, mesh: Mesh, state: TrainState, *given: Any
) -> Programs:
    """Compile the step for a state and what `batch_of` takes, arrays or their shapes: as many
    programs at a time as there are processors."""
    functions = Functions(networks, batch_of, mesh.size)
    everywhere = NamedSharding(mesh, PartitionSpec())
    divided = NamedSharding(mesh, PartitionSpec("data"))

    def traced(
        function: Any, *arguments: Any, donated: tuple[int, ...] = (), results: Any = everywhere
    ) -> Any:
        with jax.set_mesh(mesh):
            return jax.jit(
                function,
                donate_argnums=donated,
                out_shardings=results,
                compiler_options=networks.compiler_options,
            ).trace(*arguments)

    def compiled(traced: Any) -> Any:
        with jax.set_mesh(mesh):  # of this thread
            return traced.lower().compile()

    norms = shape_of(jax.eval_shape(measure_norms, state), everywhere)
    step, rate = shape_of((state.step, state.rate), everywhere)
    render = traced(
        functions.render,
        state.generator,
        norms.generator,
        step,
        *given,
        results=(divided, Format(Layout.AUTO)),
    )
    rendered, kept = render.out_info
    rendered = shape_of(rendered, divided)
    update_discriminator = traced(
        functions.update_discriminator,
        state.discriminator,
        norms.discriminator,
        state.discriminator_optimizer,
        step,
        rate,
        rendered,
        donated=(0, 1, 2),
    )
    metrics = shape_of(update_discriminator.out_info[-1], everywhere)
    judge = traced(
        functions.judge,
        shape_of(state.discriminator, everywhere),
        norms.discriminator,
        rendered,
        results=(everywhere, divided),
    )
    terms, cotangents = judge.out_info

    def updates_generator(render: Future) -> Any:
        """It has to wait for the layout of what it is given."""
        given = jax.tree.map(
            lambda leaf, format: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=format),
            kept,
            render.result().output_formats[1],
        )
        return compiled(
            traced(
                functions.update_generator,
                state.generator,
                state.generator_optimizer,
                state.average,
                step,
                rate,
                given,
                shape_of(terms, everywhere),
                shape_of(cotangents, divided),
                metrics,
                donated=(0, 1, 2),
            )
        )

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        first = pool.submit(compiled, render)
        second = pool.submit(compiled, update_discriminator)
        last = pool.submit(updates_generator, first)
        third = pool.submit(compiled, judge)
        return Programs(*(program.result() for program in (first, second, third, last)))


def _stacked(rows: list[Metrics], count: jax.Array) -> Metrics:
    """The first `count` rows, and zeros."""
    is_there = jnp.arange(len(rows)) < count
    return jax.tree.map(lambda *values: jnp.where(is_there, jnp.stack(values), 0), *rows)


class SplitStep:
    """As what `make_dispatch` makes, jitted: (state, held by the feed, given by it, count) ->
    (state, metrics)."""

    def __init__(self, networks: Networks, feed: Any, scale: float, steps: int, mesh: Mesh):
        self._networks = networks
        self._feed = feed
        self._scale = scale
        self._steps = steps
        self._mesh = mesh
        self._numbers = [place_on_mesh(np.array(i, np.int32), mesh) for i in range(steps)]
        self._stack = jax.jit(_stacked)
        self._programs: tuple[Any, Any, Programs] | None = None

    def __call__(
        self, state: TrainState, held: Batch, given: Any, count: np.int32
    ) -> tuple[TrainState, Metrics]:
        if self._programs is None:
            self._programs = self._compiled(state, held, given)
        pack, unpack, step = self._programs
        (state, norms) = pack(state)
        rows = []
        for i in self._numbers[: int(count)]:
            state, norms, metrics = step(state, norms, held, given, i)
            rows.append(metrics)
        return unpack(state), self._stack(rows + [rows[-1]] * (self._steps - len(rows)), count)

    def _compiled(
        self, state: TrainState, held: Batch, given: Any
    ) -> tuple[Any, Any, Programs]:
        networks = self._networks
        sharding = NamedSharding(self._mesh, PartitionSpec())

        def repacked(function: Any, state: Any) -> Any:
            with jax.set_mesh(self._mesh), warnings.catch_warnings():
                warnings.filterwarnings(
                    "ignore", "Some donated buffers"
                )  # those whose shape changes
                return (
                    jax.jit(function, donate_argnums=0, out_shardings=sharding)
                    .lower(state)
                    .compile()
                )

        def packed(state: TrainState) -> tuple[TrainState, Norms]:
            state = networks.packed(state)
            return state, measure_norms(state)

        pack = repacked(packed, state)
        state = shape_of(jax.eval_shape(networks.packed, state), sharding)
        batch_of = lambda held, given, i: widened(self._feed.batch(held, given, i), self._scale)  # noqa: E731
        programs = compile_split_step(
            networks, batch_of, self._mesh, state, held, given, self._numbers[0]
        )
        return pack, repacked(networks.unpacked, state), programs
