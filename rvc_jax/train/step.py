"""One training step: the discriminator is updated first, then the generator against it.

`make_step` reads from top to bottom as HiFi-GAN's loop does. The step comes in several forms with
equal results up to rounding; tests hold them to each other. `build_networks` chooses by the chip's
`KernelConfig` and the recipe:

| form                         | defined in                     | taken by                        |
|------------------------------|--------------------------------|---------------------------------|
| one program                  | `make_step`                    | CPUs, GPUs; TPUs if below 10 M  |
|                              |                                | parameters (nano)               |
| four programs                | `split_step`                   | larger presets on TPUs          |
| parts of the batch in a loop | `accumulate`                   | `--accumulate` above 1; in one  |
|                              |                                | program on every chip           |
| packed parameters            | `kernels.packing`              | GPUs and TPUs, unless a part of |
|                              |                                | the network is frozen           |
| known weight norms           | `kernels.weight_norm`          | the four programs               |
| sub-discriminators in turn   | `update_discriminator_in_turn` | the four programs on one chip,  |
|                              |                                | packed, without `--clip-norm`,  |
|                              |                                | with `--discriminator-every 1`  |
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp

from rvc_jax.features.f0.coarse import coarse_pitch
from rvc_jax.models.discriminator import DiscriminatorOutput
from rvc_jax.models.kernels.weight_norm import Weights, list_probed, norm_name, squared_norms
from rvc_jax.models.parameters import Parameters
from rvc_jax.models.synthesizer import Latents
from rvc_jax.train import losses
from rvc_jax.train.loader import Batch
from rvc_jax.train.networks import Networks
from rvc_jax.train.optimizer import (
    apply_gradients,
    clip_and_apply,
    ema_update,
    gradient_norm,
    merge,
    select,
)
from rvc_jax.train.segments import Segments, StepInputs, draw_segments, prepare_inputs
from rvc_jax.train.state import NetworkState, TrainState

Metrics = dict[str, jax.Array]
"""Scalars by the names in `history.jsonl`."""

Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]

Outputs = tuple[jax.Array, Latents | None]
"""What the generator returns: waves [batch, segment samples], and the latents for the KL loss, if
it has any."""

Pullback = Callable[[Outputs], tuple[Parameters]]
"""From the gradient w.r.t. the generator's outputs to that w.r.t. its parameters."""

DiscriminatorLoss = Callable[[Parameters], jax.Array]
"""The discriminator's loss as a function of its parameters."""


# MARK: The step


def make_step(networks: Networks) -> Step:
    """Build the pure step function (packed state, batch) -> (packed state, metrics).

    Jit it with the state donated. A network whose loss or gradient is not finite keeps its
    parameters; the metric `skipped` is 1 then.

    All randomness derives from the seed and the step's number, so a resumed run draws the same
    numbers as an uninterrupted one.
    """
    preset = networks.preset

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        segments, rng = draw_segments(preset, state.step, batch)
        if preset.train.accumulate > 1:
            discriminator_loss, loss_and_grad = accumulate(
                networks, state.generator.params, segments, rng
            )
            discriminator, metrics = update_discriminator(
                networks, state.discriminator, state.step, state.rate, discriminator_loss
            )
            terms, grads = loss_and_grad(discriminator.params)
        else:
            rendered, pullback = forward(networks, state.generator.params, segments, rng)
            discriminator, metrics = update_discriminator(
                networks,
                state.discriminator,
                state.step,
                state.rate,
                make_discriminator_loss(networks, rendered),
            )
            # Against the discriminator that has just been updated, as HiFi-GAN does.
            terms, cotangents = generator_loss_and_grad(
                networks, discriminator.params, rendered
            )
            (grads,) = pullback(cotangents)
        generator, average, generator_metrics = update_generator(
            networks, state.generator, state.average, state.step, state.rate, terms, grads
        )
        new = TrainState(state.step + 1, state.rate, generator, discriminator, average)
        return new, merge_metrics(metrics, generator_metrics)

    return step


def merge_metrics(discriminator: Metrics, generator: Metrics) -> Metrics:
    """Join the metrics of both updates; a step is skipped if either update was."""
    skipped = jnp.maximum(discriminator["skipped"], generator["skipped"])
    return discriminator | generator | {"skipped": skipped}


# MARK: Generator, forward


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rendered:
    """The segments of a batch, real and rendered: all that the losses need."""

    real: jax.Array
    """Waves [batch, segment samples]."""
    target: tuple[jax.Array, ...]
    """Log-mels of the real waves [batch, frames, mels], one array per scale of the loss."""
    outputs: Outputs


def render(
    networks: Networks,
    params: Parameters,
    inputs: StepInputs,
    rng: jax.Array,
    norms: Parameters | None = None,
) -> Outputs:
    """Render the segments.

    Args:
      networks: of the preset.
      params: of the synthesizer.
      inputs: of the step.
      rng: key of the noise.
      norms: squared norms of the kernels (`weight_norm.squared_norms`), if they are known.
    """
    batch = inputs.segments.batch
    return networks.step_synthesizer(
        params,
        "train_segment",
        batch.content.astype(networks.dtype),
        batch.lengths,
        coarse_pitch(batch.f0),
        batch.f0,
        inputs.magnitudes,
        batch.speaker,
        inputs.segments.start,
        rng,
        squared_norms=norms,
    )


def forward(
    networks: Networks,
    params: Parameters,
    segments: Segments,
    rng: jax.Array,
    norms: Parameters | None = None,
) -> tuple[Rendered, Pullback]:
    """Render the segments, and keep what the gradient needs.

    Arguments as those of `render`. Returns the segments, and the function from the gradient
    w.r.t. `Rendered.outputs` to the gradient w.r.t. `params`.
    """
    inputs = prepare_inputs(networks.preset, segments)
    outputs, pullback = jax.vjp(
        lambda params: render(networks, params, inputs, rng, norms), params
    )
    return Rendered(inputs.real, inputs.target, outputs), pullback


# MARK: Losses


def discriminate(
    networks: Networks,
    params: Parameters,
    wave: jax.Array,
    norms: Parameters | None = None,
) -> list[DiscriminatorOutput]:
    """Run all sub-discriminators on waves [batch, samples]; norms: see `render`."""
    wave = wave.astype(networks.dtype)
    return networks.step_discriminator(params, "__call__", wave, squared_norms=norms)


def discriminator_loss(
    networks: Networks,
    params: Parameters,
    real: jax.Array,
    fake: jax.Array,
    norms: Parameters | None = None,
) -> jax.Array:
    """Compute the loss of real and rendered waves [batch, samples]; norms: see `render`."""
    outputs = discriminate(networks, params, _interleave(real, fake), norms)
    return losses.interleaved_discriminator_loss(outputs)


def make_discriminator_loss(
    networks: Networks, rendered: Rendered, norms: Parameters | None = None
) -> DiscriminatorLoss:
    """Bind the discriminator's loss to rendered segments; norms: see `render`."""
    fake = jax.lax.stop_gradient(rendered.outputs[0])

    def loss(params: Parameters) -> jax.Array:
        return discriminator_loss(networks, params, rendered.real, fake, norms)

    return loss


def _interleave(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Join real and fake waves to one batch: half the passes over the weights.

    They alternate, so that both waves of a window stay on its device.
    """
    return jnp.stack([real, fake], axis=1).reshape(-1, real.shape[1])


def generator_loss(
    networks: Networks,
    params: Parameters,
    real: list[DiscriminatorOutput],
    target: tuple[jax.Array, ...],
    outputs: Outputs,
    feature_loss: Callable[..., jax.Array] = losses.feature_loss,
    norms: Parameters | None = None,
) -> tuple[jax.Array, Metrics]:
    """Compute the generator's loss and its terms.

    Args:
      networks: of the preset.
      params: of the discriminator.
      real: what the discriminator returns for the real waves.
      target: their log-mels, one array per scale.
      outputs: of the generator.
      feature_loss: of (real, fake) outputs of the discriminator.
      norms: see `render`.
    """
    recipe = networks.preset.train
    audio = networks.preset.audio
    wave, latents = outputs
    fake = discriminate(networks, params, wave, norms)
    mel = losses.mel_loss(wave, target, audio)
    feature = feature_loss(real, fake)
    terms = {
        "loss/adversarial": losses.generator_loss(fake),
        "loss/feature_matching": recipe.feature_matching_weight * feature,
        "loss/mel": recipe.mel_weight * mel,
    }
    if latents is not None:
        terms["loss/kl"] = recipe.kl_weight * losses.kl_loss(latents)
    total = cast("jax.Array", sum(terms.values()))
    return total, terms | {"loss/generator": total}


def generator_loss_and_grad(
    networks: Networks,
    params: Parameters,
    rendered: Rendered,
    norms: Parameters | None = None,
) -> tuple[Metrics, Outputs]:
    """Compute the terms of the generator's loss, and its gradient w.r.t. the generator's outputs.

    Args:
      networks: of the preset.
      params: of the discriminator.
      rendered: segments.
      norms: see `render`.
    """
    real_params = params
    if norms is not None:
        # With known norms a kernel is cheap to make, so it may be made for each of both passes.
        # Otherwise it takes a pass over the whole kernel: too much to do twice.
        real_params = _hide_large_parameters(params)
    real = discriminate(networks, real_params, rendered.real, norms)

    def loss(outputs: Outputs, probe: jax.Array) -> tuple[jax.Array, Metrics]:
        feature_loss = functools.partial(losses.probed_feature_loss, probe=probe)
        return generator_loss(
            networks, params, real, rendered.target, outputs, feature_loss, norms
        )

    # The feature loss is 0 in `terms`; its value is the gradient w.r.t. the probe.
    grad = jax.grad(loss, argnums=(0, 1), has_aux=True)
    (cotangents, feature), terms = grad(rendered.outputs, jnp.ones(()))
    total = terms["loss/generator"] + feature
    return terms | {"loss/feature_matching": feature, "loss/generator": total}, cotangents


def _hide_large_parameters(params: Parameters) -> Parameters:
    """Return the same parameters, without the compiler knowing that the large ones are the same.

    A convolution then makes its kernel as it goes, instead of reading one that was written before.
    Small kernels are worth making once.
    """
    large = {name: value for name, value in params.items() if value.size > 1 << 20}
    return params | jax.lax.optimization_barrier(large)


# MARK: Updates


def update_discriminator(
    networks: Networks,
    state: NetworkState,
    step: jax.Array,
    rate: jax.Array,
    loss: DiscriminatorLoss,
) -> tuple[NetworkState, Metrics]:
    """Update the discriminator, if this step does so, and return its metrics.

    Args:
      networks: of the preset.
      state: before the update.
      step: number of the step, scalar.
      rate: factor on the learning rate, scalar.
      loss: to minimize.
    """
    recipe = networks.preset.train
    every = recipe.discriminator_every

    def update() -> tuple[NetworkState, Metrics]:
        value, grads = jax.value_and_grad(loss)(state.params)
        new, norm, is_good = clip_and_apply(
            recipe, networks.discriminator_optimizer, rate, value, grads, state
        )
        return new, {
            "loss/discriminator": value,
            "gradient_norm/discriminator": norm,
            "skipped": 1.0 - is_good,
        }

    def leave() -> tuple[NetworkState, Metrics]:
        zero = jnp.float32(0)
        return state, {
            "loss/discriminator": loss(state.params),
            "gradient_norm/discriminator": zero,
            "skipped": zero,
        }

    if every == 1:
        return update()
    return jax.lax.cond(step % every == 0, update, leave)


def update_discriminator_in_turn(
    networks: Networks,
    state: NetworkState,
    rate: jax.Array,
    rendered: Rendered,
    norms: Parameters,
) -> tuple[NetworkState, Metrics]:
    """Update the discriminator as `update_discriminator` does, one sub-discriminator at a time.

    The large kernels of a sub-discriminator are updated before the next one is begun. So updates,
    which are bound by memory, overlap with passes, which are not.

    For packed parameters and no clipping. Large kernels stay as they are where the loss or
    gradient of their own sub-discriminator is not finite; all others where any is.
    """
    network = networks.step_discriminator
    old = state.params
    weights, pullback = jax.vjp(lambda params: network.make_weights(params, norms), old)
    step = functools.partial(
        apply_gradients, networks.preset.train, networks.discriminator_optimizer, rate
    )
    wave = _interleave(rendered.real, rendered.outputs[0])
    parts: list[NetworkState] = []
    loss = jnp.zeros(())
    cotangents: Parameters = {}
    for number in range(networks.preset.discriminator.count):
        prefix = f"discriminators.{number}."
        own = {name: value for name, value in weights.items() if name.startswith(prefix)}

        def own_loss(own: Weights, number: int = number, wave: jax.Array = wave) -> jax.Array:
            wave = wave.astype(networks.dtype)
            output = network.run(weights | own, "run_one", number, wave)
            return losses.interleaved_discriminator_loss([output])

        value, grads = jax.value_and_grad(own_loss)(own)
        large = [name for name in list_probed(own) if name in old]
        # Not finite if the loss is not, or any gradient of a large kernel (`gradient_norm`).
        norm_sum = sum((jnp.sum(grads[norm_name(name)].norm) for name in large), value)
        own_grads = {name: grads.get(name) for name in old}
        large_grads, large_state = select((own_grads, state), old, large)
        parts.append(step(large_grads, large_state, jnp.isfinite(norm_sum)))
        # The next sub-discriminator waits for this update.
        wave, _ = jax.lax.optimization_barrier((wave, squared_norms(parts[-1].params)))
        cotangents |= grads | {name: jnp.zeros_like(grads[name]) for name in large}
        loss += value
    (grads,) = pullback(cotangents)
    norm = gradient_norm(grads)
    is_good = jnp.isfinite(norm) & jnp.isfinite(loss)
    others = old.keys() - {name for part in parts for name in part.params}
    other_grads, other_state = select((grads, state), old, sorted(others))
    parts.append(step(other_grads, other_state, is_good))
    return merge(parts), {
        "loss/discriminator": loss,
        "gradient_norm/discriminator": norm,
        "skipped": 1.0 - is_good.astype(jnp.float32),
    }


def update_generator(
    networks: Networks,
    state: NetworkState,
    average: Parameters | None,
    step: jax.Array,
    rate: jax.Array,
    terms: Metrics,
    grads: Parameters,
) -> tuple[NetworkState, Parameters | None, Metrics]:
    """Update the generator and its average, and return its metrics.

    Args:
      networks: of the preset.
      state: before the update.
      average: of the parameters, None if there is none.
      step: number of the step, scalar.
      rate: factor on the learning rate, scalar.
      terms: of the loss.
      grads: of the loss w.r.t. the parameters.
    """
    recipe = networks.preset.train
    state, norm, is_good = clip_and_apply(
        recipe, networks.optimizer, rate, terms["loss/generator"], grads, state
    )
    if average is not None:
        average = ema_update(average, state.params, step, recipe.ema, is_good)
    metrics = terms | {"gradient_norm/generator": norm, "skipped": 1.0 - is_good}
    return state, average, metrics


# MARK: Accumulation


def accumulate(
    networks: Networks, params: Parameters, segments: Segments, rng: jax.Array
) -> tuple[DiscriminatorLoss, Callable[[Parameters], tuple[Metrics, Parameters]]]:
    """Take the batch in `accumulate` parts, one after the other in the memory of one.

    Part i has every accumulate-th window from the i-th on, so that no window leaves its device.

    Args:
      networks: of the preset.
      params: of the synthesizer.
      segments: of the whole batch.
      rng: key of the noise.

    Returns:
      The discriminator's loss as a function of its parameters, and a function from the parameters
      of the updated discriminator to the terms of the generator's loss and its gradient w.r.t.
      `params`. Losses and gradients are means over the parts.
    """
    count = networks.preset.train.accumulate
    parts = jax.tree.map(
        lambda array: array.reshape(-1, count, *array.shape[1:]).swapaxes(0, 1), segments
    )
    given = (parts, jax.random.split(rng, count))

    def render_part(
        params: Parameters, part: Segments, rng: jax.Array
    ) -> tuple[StepInputs, Outputs]:
        inputs = prepare_inputs(networks.preset, part)
        return inputs, render(networks, params, inputs, rng)

    def real_and_fake(part: tuple[Segments, jax.Array]) -> tuple[jax.Array, jax.Array]:
        inputs, outputs = render_part(params, *part)
        return inputs.real, outputs[0]

    waves = jax.lax.map(real_and_fake, given)

    def mean_discriminator_loss(params: Parameters) -> jax.Array:
        return _mean_over(
            lambda real, fake: discriminator_loss(networks, params, real, fake), waves
        )

    def mean_loss_and_grad(discriminator: Parameters) -> tuple[Metrics, Parameters]:
        def part_loss(
            params: Parameters, part: Segments, rng: jax.Array
        ) -> tuple[jax.Array, Metrics]:
            inputs, outputs = render_part(params, part, rng)
            real = discriminate(networks, discriminator, inputs.real)
            return generator_loss(networks, discriminator, real, inputs.target, outputs)

        def loss(params: Parameters) -> tuple[jax.Array, Metrics]:
            return _mean_over(functools.partial(part_loss, params), given)

        grads, terms = jax.grad(loss, has_aux=True)(params)
        return terms, grads

    return mean_discriminator_loss, mean_loss_and_grad


def _mean_over(function: Callable[..., Any], parts: tuple[Any, ...]) -> Any:
    """Average a function over parts.

    Its activations are computed again for the gradient, part by part.
    """
    function = jax.checkpoint(function)
    shapes = jax.eval_shape(function, *jax.tree.map(lambda array: array[0], parts))
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def add(total: Any, part: tuple[Any, ...]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(*part)), None

    count = len(jax.tree.leaves(parts)[0])
    total, _ = jax.lax.scan(add, zeros, parts)
    return jax.tree.map(lambda leaf: leaf / count, total)
