"""Every form of a computation gives what the plain one gives, and the same gradients."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvc_jax.config import KERNEL_CONFIGS, PRESETS, KernelConfig, kernel_config_for
from rvc_jax.models.discriminator import Discriminator
from rvc_jax.models.kernels import convolution, weight_norm, winograd
from rvc_jax.models.kernels.weight_norm import KnownNorm
from rvc_jax.models.kernels.winograd import MAX_TAPS
from rvc_jax.models.parameters import Network
from rvc_jax.models.synthesizer import synthesizer
from rvc_jax.plan.flops import count_flops as operations

NANO = PRESETS["nano"]
SPEECH = {
    "fold": KernelConfig(fold_to=128),
    "scan": KernelConfig(scan=True),
    "dilated": KernelConfig(upsampling="dilated"),
    "products": KernelConfig(offsets="products"),
    "packed": KernelConfig(packed=True),
    "minimal, scan": KernelConfig(winograd_from=32, scan=True),
    "gpu": KERNEL_CONFIGS["gpu"],
    "rematerialize": KernelConfig(rematerialize=True),
    "all": KernelConfig(
        fold_to=64, scan=True, rematerialize=True, merge_to=128, offsets="products", packed=True
    ),
}


def close(ours: jax.Array, plain: jax.Array, bound: float = 1e-5) -> None:
    scale = float(jnp.abs(plain).max())
    assert float(jnp.abs(ours.reshape(plain.shape) - plain).max()) <= bound * max(scale, 1e-3)


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 11),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 5),
    factor=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_a_folded_convolution_is_the_plain_one(
    width: int, stride: int, dilation: int, factor: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    time = 3 * factor * stride
    padding = (width - 1) * dilation // 2
    if (time + 2 * padding - (width - 1) * dilation - 1) // stride + 1 != time // stride:
        padding += 1  # an even kernel that leaves a frame out
    x = jnp.asarray(random.standard_normal((2, time, 3)), jnp.float32)
    kernel = jnp.asarray(random.standard_normal((width, 3, 5)), jnp.float32)
    plain = convolution.conv(x, kernel, stride, padding, dilation, 1)[:, : time // stride]
    folded = convolution.folded_conv(
        convolution.fold(x, 3, factor * stride), kernel, factor, stride, padding, dilation, 1
    )
    close(folded, plain)


@settings(max_examples=8, deadline=None)
@given(
    time=st.integers(1, 40),
    width=st.integers(2, 8),
    stride=st.integers(1, 3),
    same=st.booleans(),
    seed=st.integers(0, 99),
)
def test_minimal_filtering_is_the_plain_convolution(
    time: int, width: int, stride: int, same: bool, seed: int
) -> None:
    """Its gradients, too, with tiles that are partly beyond the end."""
    random = np.random.default_rng(seed)
    padding = width // 2 if same or time < width else 0
    x = jnp.asarray(random.standard_normal((2, time, 4)), jnp.float32)
    kernel = jnp.asarray(random.standard_normal((width, 4, 3)), jnp.float32)
    plain, pull = jax.vjp(
        lambda x, kernel: convolution.conv(x, kernel, stride, padding, 1, 1), x, kernel
    )
    fast = lambda x, kernel: convolution.conv(
        x, kernel, stride, padding, 1, 1, KernelConfig(winograd_from=3)
    )
    ours, our_pull = jax.vjp(fast, x, kernel)
    assert ours.shape == plain.shape
    close(ours, plain)
    for of_ours, of_plain in zip(our_pull(jnp.cos(plain)), pull(jnp.cos(plain)), strict=True):
        close(of_ours, of_plain, 2e-5)


@pytest.mark.parametrize(
    ("size", "width"),
    [
        (size, width)
        for width in range(2, MAX_TAPS + 1)
        for size in range(2, 6)
        if size + width <= 10
    ],
)
def test_every_tile_of_minimal_filtering(size: int, width: int) -> None:
    random = np.random.default_rng(0)
    window = random.standard_normal(size + width - 1)
    taps = random.standard_normal(width)
    outputs, kernel, inputs = winograd._transforms(size, width)
    tile = outputs.T @ ((kernel @ taps) * (inputs @ window))
    np.testing.assert_allclose(tile, np.correlate(window, taps), atol=1e-12)


def test_minimal_filtering_takes_fewer_products() -> None:
    x = jax.ShapeDtypeStruct((2, 20, 256), jnp.float32)
    kernel = jax.ShapeDtypeStruct((5, 256, 512), jnp.float32)
    conv = lambda forms: jax.make_jaxpr(
        lambda x, kernel: convolution.conv(x, kernel, 1, 2, 1, 1, forms)
    )(x, kernel)
    plain, minimal = (
        operations(conv(forms).jaxpr)
        for forms in (KernelConfig(), KernelConfig(winograd_from=256))
    )
    assert plain == 2 * 2 * 20 * 5 * 256 * 512
    assert minimal == plain * 9 / 25
    assert operations(conv(KernelConfig(winograd_from=257)).jaxpr) == plain


def test_winograd_is_for_float32() -> None:
    x = jnp.ones((1, 8, 64), jnp.bfloat16)
    kernel = jnp.ones((5, 64, 64), jnp.bfloat16)
    jaxpr = jax.make_jaxpr(
        lambda x, kernel: convolution.conv(
            x, kernel, 1, 2, 1, 1, KernelConfig(winograd_from=64)
        )
    )(x, kernel)
    assert "dot_general" not in str(jaxpr)


@pytest.mark.parametrize(("groups", "channels"), [(4, 8), (16, 8), (6, 12), (2, 128)])
def test_merged_groups_are_the_same_convolution(groups: int, channels: int) -> None:
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((2, 40, 4 * groups)), jnp.float32)
    kernel = jnp.asarray(random.standard_normal((5, 4, 2 * groups)), jnp.float32)
    plain = convolution.conv(x, kernel, 2, 2, 1, groups)
    merged = convolution.count_merged_groups(2 * groups, groups, channels)
    assert merged == fewer_of(groups, channels)
    close(convolution.conv(x, kernel, 2, 2, 1, groups, KernelConfig(merge_to=channels)), plain)
    close(convolution._conv(x, convolution.merge_groups(kernel, groups), (2, 2), 2), plain)


def fewer_of(groups: int, channels: int) -> int:
    """Largest number of groups of 2 output channels that fit into `channels` and divide
    `groups`."""
    return max(n for n in range(1, groups + 1) if groups % n == 0 and 2 * n <= max(channels, 2))


@pytest.mark.parametrize(("width", "stride"), [(16, 10), (4, 2), (24, 12), (20, 10)])
def test_forms_of_upsampling(width: int, stride: int) -> None:
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((2, 12, 6)), jnp.float32)
    kernel = jnp.asarray(random.standard_normal((width, 4, 6)), jnp.float32)
    spread = convolution.conv_transpose(x, kernel, stride, "dilated")
    close(convolution.conv_transpose(x, kernel, stride, "subpixel"), spread)
    close(
        convolution.folded_conv_transpose(convolution.fold(x, 6, 3), kernel, stride, 3), spread
    )


def voice(
    forms: KernelConfig, norms_known: bool = False
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """A rendered segment, and the gradient of a loss of all that is made of it."""
    random = np.random.default_rng(0)
    frames = 40
    inputs = (
        jnp.asarray(
            random.standard_normal((2, frames, NANO.generator.content_channels)), jnp.float32
        ),
        jnp.array([frames, frames - 7]),
        jnp.asarray(random.integers(1, 256, (2, frames))),
        jnp.asarray(random.uniform(80, 300, (2, frames)), jnp.float32),
        jnp.asarray(
            random.uniform(0, 1, (2, frames, NANO.audio.spectrogram_bins)), jnp.float32
        ),
        jnp.zeros(2, jnp.int32),
        jnp.array([0, 1]),
        jax.random.key(0),
    )
    network = synthesizer(
        NANO.generator, NANO.audio, forms, jnp.dtype("float32") if forms.packed else None
    )

    def loss(parameters: dict) -> tuple[jax.Array, jax.Array]:
        wave, latents = network(parameters, "train_segment", *inputs)
        return jnp.mean(wave**2) + jnp.mean(latents.mapped**2) + jnp.mean(
            latents.prior_mean**2
        ), wave

    return differentiated(network, loss, norms_known)


def differentiated(
    network: Network, loss: Callable, norms_known: bool
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """What a loss gives besides, and its gradient by parameters, by name; norms other than those of
    the directions."""
    parameters = {
        name: 1.3 * x if name.endswith("weight_g") else x for name, x in network.init(0).items()
    }
    packing = network.packing
    parameters = packing.pack(parameters) if packing else parameters
    squares = Network.squared_norms(parameters) if norms_known else {}
    of_known = lambda parameters: loss(Network.with_known_norms(parameters, squares))  # noqa: E731
    (_, other), grads = jax.jit(jax.value_and_grad(of_known, has_aux=True))(parameters)
    return other, packing.unpack(grads) if packing else grads


@pytest.mark.parametrize("form", SPEECH)
def test_the_voice_and_its_gradients(form: str) -> None:
    plain, plain_grads = voice(KernelConfig())
    wave, grads = voice(SPEECH[form])
    close(wave, plain)
    for name, expected in plain_grads.items():
        close(grads[name], expected, 1e-3)


@pytest.mark.usefixtures("every_kernel_is_large")
@pytest.mark.parametrize("packed", [True, False])
def test_the_gradients_of_large_kernels_with_known_norms(packed: bool) -> None:
    """Of activations, gates, sums and transposed convolutions: a kernel's norm learns from signals
    alone."""
    plain, plain_grads = voice(KernelConfig())
    wave, grads = voice(KernelConfig(packed=packed, upsampling="by stride"), norms_known=True)
    close(wave, plain)
    for name, expected in plain_grads.items():
        close(grads[name], expected, 1e-3)


@pytest.mark.usefixtures("every_kernel_is_large")
def test_the_gradients_of_a_discriminator_with_known_norms() -> None:
    wave = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 3200)), jnp.float32)

    def gradients(packed: jnp.dtype | None, norms_known: bool) -> dict[str, jax.Array]:
        network = Network(Discriminator(NANO.discriminator), packed)

        def loss(parameters: dict) -> tuple[jax.Array, None]:
            judgements = network(parameters, "judge", wave)
            return sum(
                jnp.mean(score**2) + jnp.mean(maps[1][0] ** 2) for score, maps in judgements
            ), None

        return differentiated(network, loss, norms_known)[1]

    expected = gradients(None, False)
    for name, gradient in gradients(jnp.dtype("float32"), True).items():
        close(gradient, expected[name], 1e-4)


def test_a_kernel_of_no_norm_does_not_spoil_the_gradient() -> None:
    x = jnp.ones((1, 4, 2))
    direction = jnp.ones((3, 2, 2))
    scale = KnownNorm(jnp.array([0.0, 2.0])[None, None], weight_norm.squared_norm(direction))

    def loss(scale: KnownNorm) -> jax.Array:
        kernel, probe = weight_norm._probed_weight_norm(direction, scale)
        return jnp.sum(weight_norm.probed(convolution.conv(x, kernel, 1, 1, 1, 1), probe))

    gradient = jax.grad(loss)(scale).norm[0, 0]
    assert gradient[0] == 0 and gradient[1] > 0


@pytest.mark.parametrize(
    "forms",
    [
        KERNEL_CONFIGS["cpu"],
        KernelConfig(merge_to=128),
        KernelConfig("dilated", merge_to=128, fold_to=128),
        KernelConfig(merge_to=128, fold_to=256),
        KERNEL_CONFIGS["tpu v5 lite"],
    ],
)
@pytest.mark.parametrize(
    "preset", ["nano", "40k", pytest.param("48k", marks=pytest.mark.heavy)]
)
def test_judgements(forms: KernelConfig, preset: str) -> None:
    config = dataclasses.replace(PRESETS[preset].discriminator, periods=(2,))
    networks = [Network(Discriminator(config, each)) for each in (KernelConfig(), forms)]
    parameters = networks[0].init(0)
    samples = PRESETS[preset].audio.segment_samples
    wave = jnp.asarray(np.random.default_rng(0).standard_normal((1, samples)), jnp.float32)
    plain, ours = (network(parameters, "judge", wave) for network in networks)
    for (score, maps), (other_score, other_maps) in zip(plain, ours, strict=True):
        close(other_score, score)
        assert len(maps) == len(other_maps)
        for (one,), parts in zip(maps, other_maps, strict=True):
            close(joined(parts, one.shape), one)


@pytest.mark.parametrize("samples", [192, 200])
def test_sections_and_their_gradients(samples: int) -> None:
    """Of layers that widen the signal by groups, where whole blocks of samples are there."""
    config = dataclasses.replace(
        NANO.discriminator,
        periods=(),
        scale_channels=(4, 16, 64, 64),
        scale_kernels=(15, 11, 11, 5),
        scale_strides=(1, 4, 4, 1),
        scale_groups=(1, 2, 8, 1),
    )
    parameters = Network(Discriminator(config)).init(0)
    wave = jnp.asarray(np.random.default_rng(0).standard_normal((2, samples)), jnp.float32)

    def results(forms: KernelConfig) -> tuple[list, tuple]:
        network = Network(Discriminator(config, forms))

        def loss(parameters: dict, wave: jax.Array) -> tuple[jax.Array, list]:
            ((score, maps),) = network(parameters, "judge", wave)
            return jnp.mean(score**2) + sum(
                jnp.mean(part**2) / len(parts) for parts in maps for part in parts
            ), maps

        gradients, maps = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(parameters, wave)
        return maps, gradients

    plain_maps, plain = results(KernelConfig())
    maps, ours = results(KernelConfig(merge_to=16, sectioned=True))
    assert [len(parts) for parts in maps] == ([2, 4, 4, 1, 1] if samples == 192 else [1] * 5)
    for (one,), parts in zip(plain_maps, maps, strict=True):
        close(joined(parts, one.shape), one)
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(ours), strict=True):
        close(other, one, 1e-4)


def joined(parts: list[jax.Array], shape: tuple[int, ...]) -> jax.Array:
    """A map in sections as [batch, time, channels]."""
    sections = [part.reshape(*shape[:2], -1) for part in parts]
    return jnp.concatenate(sections, axis=-1)


def test_packed_parameters_come_back_as_they_were() -> None:
    network = Network(Discriminator(PRESETS["40k"].discriminator), jnp.dtype("float32"))
    parameters = network.init(0)
    state = {"moments": (parameters, {"other": parameters}), "step": jnp.int32(3)}
    packed = network.packing.pack(state)
    assert len(packed["moments"][0]) < len(parameters) / 2
    assert network.packing.is_packed(packed["moments"][0]) and not network.packing.is_packed(
        parameters
    )
    same = jax.tree.map(
        lambda a, b: bool((a == b).all()), network.packing.unpack(packed), state
    )
    assert all(jax.tree.leaves(same))


def with_known_norm(direction: jax.Array, scale: jax.Array) -> jax.Array:
    return weight_norm.weight_norm(
        direction, KnownNorm(scale, weight_norm.squared_norm(direction))
    )


def test_norms_that_are_known_give_the_same_kernels_and_gradients() -> None:
    random = np.random.default_rng(1)
    shapes = ((2, 3, 4, 5), (2, 1, 1, 5), (2, 3, 4, 5))
    direction, scale, gradient = (
        jnp.asarray(random.standard_normal(shape), jnp.float32) for shape in shapes
    )
    kernel, pull = jax.vjp(with_known_norm, direction, scale)
    plain_kernel, plain_pull = jax.vjp(weight_norm.weight_norm, direction, scale)
    np.testing.assert_allclose(kernel, plain_kernel, rtol=1e-6)
    for ours, plain in zip(pull(gradient), plain_pull(gradient), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-5)


def test_what_is_not_finite_in_a_normed_kernel_shows_in_its_scale() -> None:
    """The training step looks for it there alone."""
    random = np.random.default_rng(0)
    direction, scale, gradient = (
        jnp.asarray(random.standard_normal(shape), jnp.float32)
        for shape in ((3, 4, 5), (1, 1, 5), (3, 4, 5))
    )
    for function, bad in itertools.product(
        (weight_norm.weight_norm, with_known_norm), (np.nan, np.inf, -np.inf)
    ):
        _, pull = jax.vjp(function, direction, scale)
        of_direction, of_scale = pull(gradient.at[1, 2, 3].set(bad))
        assert not np.isfinite(of_direction).all() and not np.isfinite(of_scale[0, 0, 3])


def test_every_platform_has_forms() -> None:
    assert kernel_config_for("cpu", "cpu") == KERNEL_CONFIGS["cpu"]
    assert kernel_config_for("gpu", "NVIDIA H100 80GB HBM3") == KERNEL_CONFIGS["gpu"]
    assert kernel_config_for("tpu", "TPU v5 lite") == KERNEL_CONFIGS["tpu v5 lite"]
    assert kernel_config_for("tpu", "TPU v9") == KERNEL_CONFIGS["tpu v6 lite"]
    assert kernel_config_for("metal", "M1") == KERNEL_CONFIGS["cpu"]
