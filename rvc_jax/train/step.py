"""One training step: the discriminator is updated first, then the generator against the updated
discriminator."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rvc_jax.audio.spectrogram import log_mel, spectrogram
from rvc_jax.config import STEP_FRAMES, KernelConfig, Preset, kernel_config_for
from rvc_jax.features.f0.coarse import coarse_pitch
from rvc_jax.models.discriminator import Discriminator, DiscriminatorOutput
from rvc_jax.models.kernels.weight_norm import has_probe, norm_name
from rvc_jax.models.parameters import Network, Parameters
from rvc_jax.models.precision import compute_dtype
from rvc_jax.models.synthesizer import Latents, slice_segments, synthesizer
from rvc_jax.train import losses
from rvc_jax.train.optimizer import gradient_norm, joined, only, stepped, updated
from rvc_jax.train.state import TrainState, averaged, optimizer

Batch = dict[str, jax.Array]
"""wave [batch, frames * hop], content [batch, frames / 2, channels], f0 [batch, frames], lengths,
speaker [batch]."""

Metrics = dict[str, jax.Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


@dataclasses.dataclass(frozen=True)
class Networks:
    """The two networks of a preset, and the optimiser of both."""

    preset: Preset
    synthesizer: Network
    discriminator: Network
    optimizer: optax.GradientTransformation
    discriminator_optimizer: optax.GradientTransformation
    """The same, updating as often as the discriminator is."""
    dtype: jnp.dtype
    is_split: bool
    """Whether the step is to be four programs (`train.pieces`) instead of one."""
    compiler_options: dict[str, str] | None
    """Of the chip that the step is for (`KernelConfig`), for `jax.jit`."""

    @property
    def is_packed(self) -> bool:
        """Whether the networks' parameters are packed for training."""
        return self.discriminator.packing is not None

    def packed(self, state: TrainState) -> TrainState:
        """The state as the step takes it, in networks with packed parameters."""
        for packing in filter(None, (self.synthesizer.packing, self.discriminator.packing)):
            state = packing.pack(state)
        return state

    def unpacked(self, state: TrainState) -> TrainState:
        """The inverse of `packed`."""
        for packing in filter(None, (self.synthesizer.packing, self.discriminator.packing)):
            state = packing.unpack(state)
        return state


def build_networks(
    preset: Preset, steps_per_epoch: int, forms: KernelConfig | None = None
) -> Networks:
    """Networks and optimiser that a preset asks for, by default in the forms that are fast on this
    machine's chip."""
    if forms is None:
        chip = jax.devices()[0]
        forms = kernel_config_for(chip.platform, chip.device_kind)
    packed = (
        forms.packed and not preset.train.frozen_parts
    )  # arrays of several parts can't be frozen for one
    forms = dataclasses.replace(forms, rematerialize=preset.train.rematerialize, packed=packed)
    dtype = compute_dtype(preset.train.precision)
    packed = dtype if forms.packed else None
    generator = synthesizer(preset.generator, preset.audio, forms, packed)
    discriminator = Network(Discriminator(preset.discriminator, forms), packed)
    size = sum(
        math.prod(shape)
        for network in (generator, discriminator)
        for shape in network.shapes.values()
    )
    return Networks(
        preset,
        generator,
        discriminator,
        optimizer(preset.train, steps_per_epoch),
        optimizer(preset.train, steps_per_epoch, preset.train.discriminator_every),
        dtype,
        is_split=0 < forms.split_step_from <= size and preset.train.accumulate == 1,
        compiler_options=forms.compiler_options,
    )


def make_step(networks: Networks) -> Step:
    """The pure step function (packed state, batch) -> (packed state, metrics); jit it with the
    state donated.

    A network whose loss or gradient is not finite stays as it is; the metric `skipped` is 1 then.

    All randomness comes from the seed and the step's number: a resumed run draws what the
    uninterrupted one would.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        if networks.preset.train.accumulate > 1:
            discriminator_loss, generator_gradients = _accumulate(
                networks, state, *_drawn(networks, state.step, batch)
            )
            state, metrics = update_discriminator(networks, state, discriminator_loss)
            return update_generator(
                networks, state, *generator_gradients(state.discriminator), metrics
            )
        rendered, pull = render(networks, state.generator, state.step, batch)
        state, metrics = update_discriminator(
            networks, state, make_discriminator_loss(networks, rendered)
        )
        terms, cotangents = judge(networks, state.discriminator, rendered)
        return update_generator(networks, state, terms, pull(cotangents)[0], metrics)

    return step


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rendered:
    """The segments of a batch, real and rendered: all that the losses need of it."""

    real: jax.Array
    """Waves [batch, samples]."""
    target: jax.Array
    """Log-mels of them [batch, frames, mels]."""
    outputs: tuple[jax.Array, Latents]


def render(
    networks: Networks,
    parameters: Parameters,
    step: jax.Array,
    batch: Batch,
    norms: Parameters | None = None,
) -> tuple[Rendered, Callable[[tuple[jax.Array, Latents]], tuple[Parameters]]]:
    """What the generator makes of a batch, and the function from a gradient by its outputs to one
    by its parameters.

    norms: of its kernels (`Network.squared_norms`), if they are known; so in
    `make_discriminator_loss` and `judge`.
    """
    return _rendered(networks, parameters, *_drawn(networks, step, batch), norms)


def _rendered(
    networks: Networks,
    parameters: Parameters,
    batch: Batch,
    rng: jax.Array,
    norms: Parameters | None = None,
) -> tuple[Rendered, Callable[[tuple[jax.Array, Latents]], tuple[Parameters]]]:
    speech = _speech(networks.preset, batch)
    known = functools.partial(Network.with_known_norms, squares=norms or {})
    outputs, pull = jax.vjp(
        lambda parameters: _render(networks, known(parameters), speech, rng), parameters
    )
    return Rendered(speech["real"], speech["target"], outputs), pull


def make_discriminator_loss(
    networks: Networks, rendered: Rendered, norms: Parameters | None = None
) -> Callable[[Parameters], jax.Array]:
    """The discriminator's loss as a function of its parameters."""
    fake = jax.lax.stop_gradient(rendered.outputs[0])
    known = functools.partial(Network.with_known_norms, squares=norms or {})
    return lambda parameters: _discriminator_loss(
        networks, known(parameters), rendered.real, fake
    )


def judge(
    networks: Networks,
    discriminator: Parameters,
    rendered: Rendered,
    norms: Parameters | None = None,
) -> tuple[Metrics, tuple[jax.Array, Latents]]:
    """The terms of the generator's loss, and its gradient by the generator's outputs."""
    speech = {"real": rendered.real, "target": rendered.target}
    discriminator = Network.with_known_norms(discriminator, norms or {})
    loss = _generator_loss(networks, discriminator, speech, norms is not None)
    (cotangents, matching), terms = jax.grad(loss, argnums=(0, 1), has_aux=True)(
        rendered.outputs, jnp.ones(())
    )
    total = terms["loss/generator"] + matching
    return terms | {"loss/feature_matching": matching, "loss/generator": total}, cotangents


def update_generator(
    networks: Networks, state: TrainState, terms: Metrics, grads: Parameters, metrics: Metrics
) -> tuple[TrainState, Metrics]:
    """The state after the step, and its metrics with the discriminator's."""
    recipe = networks.preset.train
    generator, optimizer_state, norm, is_good = updated(
        recipe,
        networks.optimizer,
        state.rate,
        terms["loss/generator"],
        grads,
        state.generator,
        state.generator_optimizer,
    )
    average = state.average and averaged(
        state.average, generator, state.step, recipe.ema, is_good
    )
    state = dataclasses.replace(
        state,
        step=state.step + 1,
        generator=generator,
        generator_optimizer=optimizer_state,
        average=average,
    )
    skipped = jnp.maximum(metrics["skipped"], 1.0 - is_good)
    return state, metrics | terms | {"gradient_norm/generator": norm, "skipped": skipped}


def _drawn(networks: Networks, step: jax.Array, batch: Batch) -> tuple[Batch, jax.Array]:
    """The batch with the starts of its segments, and what to draw the noise from."""
    rng = jax.random.fold_in(jax.random.key(networks.preset.train.seed), step)
    batch = crop_windows(jax.random.fold_in(rng, 0), batch, networks.preset.audio.hop)
    start_rng, noise_rng = jax.random.split(rng)
    start = draw_segment_starts(
        start_rng, batch["lengths"], networks.preset.audio.segment_frames
    )
    return dict(batch, start=start), noise_rng


def crop_windows(rng: jax.Array, batch: Batch, hop: int) -> Batch:
    """A part of STEP_FRAMES frames of every window, uniform among those that lie within what is not
    padding.

    It begins at an even frame: content has half as many.
    """
    if batch["f0"].shape[1] <= STEP_FRAMES:
        return batch
    room = jnp.maximum(batch["lengths"] - STEP_FRAMES, 0) // 2 + 1
    start = jnp.floor(jax.random.uniform(rng, room.shape) * room).astype(jnp.int32)

    def part(name: str, begin: jax.Array, length: int) -> jax.Array:
        cut = lambda row, begin: jax.lax.dynamic_slice_in_dim(row, begin, length)  # noqa: E731
        return jax.vmap(cut)(batch[name], begin)

    return batch | {
        "wave": part("wave", 2 * start * hop, STEP_FRAMES * hop),
        "content": part("content", start, STEP_FRAMES // 2),
        "f0": part("f0", 2 * start, STEP_FRAMES),
        "lengths": jnp.minimum(batch["lengths"], STEP_FRAMES),
    }


def draw_segment_starts(rng: jax.Array, lengths: jax.Array, segment_frames: int) -> jax.Array:
    """Uniform first frames [batch], such that the segment lies within each window where it is long
    enough."""
    room = jnp.maximum(lengths - segment_frames + 1, 1)
    return jnp.floor(jax.random.uniform(rng, lengths.shape) * room).astype(jnp.int32)


_DiscriminatorLoss = Callable[[Parameters], jax.Array]
_GeneratorGradients = Callable[[Parameters], tuple[Metrics, Parameters]]
"""Of the updated discriminator: the terms of the generator's loss, and its gradient."""


def _accumulate(
    networks: Networks, state: TrainState, batch: Batch, rng: jax.Array
) -> tuple[_DiscriminatorLoss, _GeneratorGradients]:
    """The batch in `accumulate` parts, one after the other in the memory of one: losses and
    gradients are their means.

    Part i has every accumulate-th window from the i-th on, so that no window leaves its device.
    """
    count = networks.preset.train.accumulate
    parts = jax.tree.map(
        lambda array: array.reshape(-1, count, *array.shape[1:]).swapaxes(0, 1), batch
    )
    given = (parts, jax.random.split(rng, count))

    def rendered(
        parameters: Parameters, part: Batch, rng: jax.Array
    ) -> tuple[Batch, tuple[jax.Array, Latents]]:
        speech = _speech(networks.preset, part)
        return speech, _render(networks, parameters, speech, rng)

    def real_and_fake(part: tuple[Batch, jax.Array]) -> tuple[jax.Array, jax.Array]:
        speech, outputs = rendered(state.generator, *part)
        return speech["real"], outputs[0]

    waves = jax.lax.map(real_and_fake, given)

    def discriminator_loss(parameters: Parameters) -> jax.Array:
        return _mean_over(
            lambda real, fake: _discriminator_loss(networks, parameters, real, fake), waves
        )

    def generator_gradients(discriminator: Parameters) -> tuple[Metrics, Parameters]:
        def loss(parameters: Parameters) -> tuple[jax.Array, Metrics]:
            def of_part(part: Batch, rng: jax.Array) -> tuple[jax.Array, Metrics]:
                speech, outputs = rendered(parameters, part, rng)
                return _generator_loss(networks, discriminator, speech)(outputs)

            return _mean_over(of_part, given)

        grads, terms = jax.grad(loss, has_aux=True)(state.generator)
        return terms, grads

    return discriminator_loss, generator_gradients


def _mean_over(function: Callable[..., Any], parts: tuple[Any, ...]) -> Any:
    """Mean of a function over parts, whose activations are computed again for the gradient, part by
    part."""
    function = jax.checkpoint(function)
    shapes = jax.eval_shape(function, *jax.tree.map(lambda array: array[0], parts))
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    add = lambda total, part: (jax.tree.map(jnp.add, total, function(*part)), None)  # noqa: E731
    count = len(jax.tree.leaves(parts)[0])
    return jax.tree.map(lambda total: total / count, jax.lax.scan(add, zeros, parts)[0])


def _speech(preset: Preset, batch: Batch) -> Batch:
    """The batch with what is computed of its waves: magnitudes, and the segments' waves and
    log-mels."""
    magnitudes = spectrogram(batch["wave"], preset.audio)
    return dict(
        batch,
        magnitudes=magnitudes,
        real=slice_segments(
            batch["wave"], batch["start"] * preset.audio.hop, preset.audio.segment_samples
        ),
        target=log_mel(
            slice_segments(magnitudes, batch["start"], preset.audio.segment_frames),
            preset.audio,
        ),
    )


def _render(
    networks: Networks, parameters: Parameters, batch: Batch, rng: jax.Array
) -> tuple[jax.Array, Latents]:
    content = batch["content"].astype(networks.dtype)
    return networks.synthesizer(
        parameters,
        "train_segment",
        content,
        batch["lengths"],
        coarse_pitch(batch["f0"]),
        batch["f0"],
        batch["magnitudes"],
        batch["speaker"],
        batch["start"],
        rng,
    )


def _judge(
    networks: Networks, parameters: Parameters, wave: jax.Array
) -> list[DiscriminatorOutput]:
    return networks.discriminator(parameters, "judge", wave.astype(networks.dtype))


def _discriminator_loss(
    networks: Networks, parameters: Parameters, real: jax.Array, fake: jax.Array
) -> jax.Array:
    return _loss_of(_judge(networks, parameters, _interleave(real, fake)))


def _interleave(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Real and fake go through as one batch: half the passes over the weights. They alternate in
    it, so that both of a window stay on its device."""
    return jnp.stack([real, fake], axis=1).reshape(-1, real.shape[1])


def _loss_of(judgements: list[DiscriminatorOutput]) -> jax.Array:
    """The discriminator's loss, from what is made of alternating waves."""
    scores = [score.reshape(score.shape[0] // 2, 2, -1) for score, _ in judgements]
    return losses.discriminator_loss(
        *([(score[:, half], []) for score in scores] for half in (0, 1))
    )


def update_discriminator(
    networks: Networks, state: TrainState, loss: _DiscriminatorLoss
) -> tuple[TrainState, Metrics]:
    """The state with the discriminator's update, if this step has one, and its metrics."""

    def update() -> tuple[Parameters, Any, Metrics]:
        value, grads = jax.value_and_grad(loss)(state.discriminator)
        parameters, optimizer_state, norm, is_good = updated(
            networks.preset.train,
            networks.discriminator_optimizer,
            state.rate,
            value,
            grads,
            state.discriminator,
            state.discriminator_optimizer,
        )
        metrics = {
            "loss/discriminator": value,
            "gradient_norm/discriminator": norm,
            "skipped": 1.0 - is_good,
        }
        return parameters, optimizer_state, metrics

    def leave() -> tuple[Parameters, Any, Metrics]:
        zero = jnp.float32(0)
        metrics = {
            "loss/discriminator": loss(state.discriminator),
            "gradient_norm/discriminator": zero,
            "skipped": zero,
        }
        return state.discriminator, state.discriminator_optimizer, metrics

    every = networks.preset.train.discriminator_every
    parameters, optimizer_state, metrics = (
        update() if every == 1 else jax.lax.cond(state.step % every == 0, update, leave)
    )
    return dataclasses.replace(
        state, discriminator=parameters, discriminator_optimizer=optimizer_state
    ), metrics


def update_discriminator_in_turn(
    networks: Networks, state: TrainState, rendered: Rendered, norms: Parameters
) -> tuple[TrainState, Metrics]:
    """As `update_discriminator`, but a sub-discriminator's large kernels are updated before the
    next one is begun: updates, which wait for the memory, lie beside passes that don't.

    So these kernels stay as they are where their own sub-discriminator's loss or gradient is not
    finite; all others where any is. For packed parameters, without a norm to clip by.
    """
    network = networks.discriminator
    old = state.discriminator
    optimizer_state = state.discriminator_optimizer
    parameters, pull = jax.vjp(
        lambda packed: network.packing.ready(Network.with_known_norms(packed, norms)), old
    )
    step = functools.partial(
        stepped, networks.preset.train, networks.discriminator_optimizer, state.rate
    )
    wave = _interleave(rendered.real, rendered.outputs[0])
    parts = []
    loss = jnp.zeros(())
    cotangents = {}
    for number in range(1 + len(networks.preset.discriminator.periods)):
        own = {
            name: value
            for name, value in parameters.items()
            if name.startswith(f"discriminators.{number}.")
        }
        value, grads = jax.value_and_grad(_loss_of_one)(own, networks, parameters, number, wave)
        large = [
            name
            for name in own
            if name in old and has_probe(own[name], own.get(norm_name(name)))
        ]
        of_norms = sum((jnp.sum(grads[norm_name(name)].norm) for name in large), value)
        given = ({name: grads.get(name) for name in old}, old, optimizer_state)
        parts.append(step(*only(given, old, large), jnp.isfinite(of_norms)))
        wave, _ = jax.lax.optimization_barrier((wave, Network.squared_norms(parts[-1][0])))
        cotangents |= grads | {name: jnp.zeros_like(grads[name]) for name in large}
        loss += value
    (grads,) = pull(cotangents)
    norm = gradient_norm(grads)
    is_good = jnp.isfinite(norm) & jnp.isfinite(loss)
    others = old.keys() - {name for part, _ in parts for name in part}
    parts.append(step(*only((grads, old, optimizer_state), old, sorted(others)), is_good))
    new, optimizer_state = joined(parts)
    metrics = {
        "loss/discriminator": loss,
        "gradient_norm/discriminator": norm,
        "skipped": 1.0 - is_good.astype(jnp.float32),
    }
    return dataclasses.replace(
        state, discriminator=new, discriminator_optimizer=optimizer_state
    ), metrics


def _loss_of_one(
    own: Parameters, networks: Networks, parameters: Parameters, number: int, wave: jax.Array
) -> jax.Array:
    """A sub-discriminator's term of the discriminator's loss; its own parameters are those it is
    differentiated by."""
    judgement = networks.discriminator(
        parameters | own, "judge_by", number, wave.astype(networks.dtype)
    )
    return _loss_of([judgement])


def _hide_large_parameters(parameters: Parameters) -> Parameters:
    """The same parameters, of which the compiler does not know that the large ones are: a
    convolution then makes its kernel on its way, which else is written and read again. Small ones
    are worth being made once."""
    large = {
        name: value
        for name, value in parameters.items()
        if sum(x.size for x in jax.tree.leaves(value)) > 1 << 20
    }
    return parameters | jax.lax.optimization_barrier(large)


def _generator_loss(
    networks: Networks, discriminator: Parameters, speech: Batch, norms_known: bool = False
) -> Callable[[tuple[jax.Array, Latents]], tuple[jax.Array, Metrics]]:
    recipe = networks.preset.train
    audio = networks.preset.audio
    # Without its norm known, a kernel takes a pass over all of it: too much to do twice.
    for_real = _hide_large_parameters(discriminator) if norms_known else discriminator
    real_judgements = _judge(networks, for_real, speech["real"])

    def loss(
        outputs: tuple[jax.Array, Latents], probe: jax.Array | None = None
    ) -> tuple[jax.Array, Metrics]:
        wave, latents = outputs
        fake_judgements = _judge(networks, discriminator, wave)
        mel = jnp.mean(jnp.abs(log_mel(spectrogram(wave, audio), audio) - speech["target"]))
        both = (real_judgements, fake_judgements)
        matching = (
            losses.feature_loss(*both)
            if probe is None
            else losses.probed_feature_loss(*both, probe)
        )
        terms = {
            "adversarial": losses.generator_loss(fake_judgements),
            "feature_matching": recipe.feature_matching_weight * matching,
            "mel": recipe.mel_weight * mel,
            "kl": recipe.kl_weight * losses.kl_loss(latents),
        }
        total = sum(terms.values())
        return total, {f"loss/{name}": value for name, value in terms.items()} | {
            "loss/generator": total
        }

    return loss
