"""Times each kind of layer of a preset, forward and backward, in each of its forms.

    python tests/benchmarks/layer_kernels.py --preset 40k --batch 8 --precision bfloat16

prints one line per layer: milliseconds in each form on this machine's chip, and the fastest form.
Sizes are those of a training step, whose discriminator takes real and rendered segments as one
batch. `rvc_jax/models/kernels/README.md` describes the forms.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

from rvc_jax.config import PRESETS, Preset
from rvc_jax.models.kernels.convolution import (
    conv,
    conv_transpose,
    fold,
    folded_conv,
    folded_conv_transpose,
)
from rvc_jax.models.kernels.options import KernelConfig

Layer = Callable[[jax.Array, jax.Array], jax.Array]
Case = tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Layer]]
"""Name, shape of the input, shape of the kernel, and the layer by form."""
WINOGRAD = KernelConfig(winograd_from=1)
"""For float32; in bfloat16 it is the plain form."""


def convolve_folded(factor: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> Layer:
    """Returns a convolution that folds its input; the output stays folded."""

    def layer(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return folded_conv(
            fold(x, x.shape[-1], factor * stride), kernel, factor, stride, padding, dilation, 1
        )

    return layer


def list_factors(time: int, channels: int, *widths: int) -> dict[str, int]:
    """Returns factors by name that fold to about `widths` channels and divide the time."""
    wanted = {f"folded {width}": width // channels for width in widths}
    return {
        name: factor for name, factor in wanted.items() if factor > 1 and time % factor == 0
    }


def upsample_folded(factor: int, stride: int) -> Layer:
    """Returns a transposed convolution that folds its input; the output stays folded."""
    return lambda x, kernel: folded_conv_transpose(
        fold(x, x.shape[-1], factor), kernel, stride, factor
    )


def generator_cases(preset: Preset, batch: int) -> Iterator[Case]:
    """Yields the layers of the generator, stage by stage."""
    config = preset.generator
    frames = preset.audio.segment_frames
    rates = config.upsample_rates
    samples = preset.audio.segment_samples
    for stage, (rate, kernel) in enumerate(zip(rates, config.upsample_kernels, strict=True)):
        inputs = config.upsample_initial_channels >> stage
        outputs = inputs // 2
        time_in = frames * math.prod(rates[:stage])
        forms = {
            form: functools.partial(conv_transpose, stride=rate, form=form)
            for form in ("subpixel", "dilated")
        }
        forms |= {
            name: upsample_folded(n, rate)
            for name, n in list_factors(time_in, inputs, 64, 128).items()
        }
        yield f"ups.{stage}", (batch, time_in, inputs), (kernel, outputs, inputs), forms
        rest = math.prod(rates[stage + 1 :])
        if rest > 1:
            edges = {"stride": rest, "padding": rest // 2}
            forms = {"plain": functools.partial(conv, dilation=1, groups=1, **edges)}
            forms |= {f"folded x{n}": convolve_folded(n, **edges) for n in (1, 4)}
            yield f"noise_convs.{stage}", (batch, samples, 1), (2 * rest, 1, outputs), forms
        for width, dilation in ((3, 1), (7, 3), (11, 5)):
            edges = {"padding": (width - 1) * dilation // 2, "dilation": dilation}
            forms = {"plain": functools.partial(conv, stride=1, groups=1, **edges)}
            forms |= {
                name: convolve_folded(n, **edges)
                for name, n in list_factors(time_in * rate, outputs, 64, 128, 256).items()
            }
            if dilation == 1:
                forms["winograd"] = functools.partial(
                    conv, stride=1, groups=1, config=WINOGRAD, **edges
                )
            name = f"resblocks.{stage}, {width} wide, dilated by {dilation}"
            yield name, (batch, time_in * rate, outputs), (width, outputs, outputs), forms
    channels = config.upsample_initial_channels >> len(rates)
    forms = {"plain": functools.partial(conv, stride=1, padding=3, dilation=1, groups=1)}
    forms |= {
        name: convolve_folded(n, padding=3)
        for name, n in list_factors(samples, channels, 64, 128).items()
    }
    yield "conv_post", (batch, samples, channels), (7, channels, 1), forms


def discriminator_cases(preset: Preset, batch: int) -> Iterator[Case]:
    """Yields the layers of the scale discriminator and of the first period discriminator."""
    config = preset.discriminator
    time_in = preset.audio.segment_samples
    inputs = 1
    layers = zip(
        config.scale_channels,
        config.scale_kernels,
        config.scale_strides,
        config.scale_groups,
        strict=True,
    )
    for number, (outputs, width, stride, groups) in enumerate(layers):
        shared = {"stride": stride, "padding": width // 2, "dilation": 1, "groups": groups}
        forms = {"plain": functools.partial(conv, **shared)}
        if groups > 1:
            forms |= {
                f"merged {n}": functools.partial(
                    conv, config=KernelConfig(merge_to=n), **shared
                )
                for n in (32, 128, 256)
            }
        if inputs == 1:
            forms |= {
                f"folded x{n}": convolve_folded(n, stride, width // 2)
                for n in (4, 8)
                if time_in % n == 0
            }
        yield (
            f"scale.{number}",
            (batch, time_in, inputs),
            (width, inputs // groups, outputs),
            forms,
        )
        time_in = time_in // stride
        inputs = outputs
    period = config.periods[0]
    width = config.period_kernel
    time_in = preset.audio.segment_samples // period
    inputs = 1
    strides = [config.period_stride] * (len(config.period_channels) - 1) + [1]
    for number, (outputs, stride) in enumerate(
        zip(config.period_channels, strides, strict=True)
    ):
        shared = {"stride": stride, "padding": width // 2}
        forms = {"plain": functools.partial(conv, dilation=1, groups=1, **shared)}
        time_in -= time_in % (4 * stride)
        if inputs < 64:
            forms |= {f"folded x{n}": convolve_folded(n, **shared) for n in (1, 2, 4)}
        else:
            forms["winograd"] = functools.partial(
                conv, dilation=1, groups=1, config=WINOGRAD, **shared
            )
        yield (
            f"period.{number}",
            (batch * period, time_in, inputs),
            (width, inputs, outputs),
            forms,
        )
        time_in = time_in // stride
        inputs = outputs
    forms = {"plain": functools.partial(conv, stride=1, padding=1, dilation=1, groups=1)}
    yield "period.post", (batch * period, time_in, inputs), (3, inputs, 1), forms


def measure(
    layer: Layer, shape: tuple[int, ...], kernel_shape: tuple[int, ...], dtype: jnp.dtype
) -> float:
    """Times the layer with both its gradients in ms: the least of three means of 20 calls."""
    keys = jax.random.split(jax.random.key(0), 2)
    x, kernel = (
        jax.random.normal(key, size, dtype)
        for key, size in zip(keys, (shape, kernel_shape), strict=True)
    )

    @jax.jit
    def both(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        y, backward = jax.vjp(layer, x, kernel)
        return y, backward(y)

    jax.block_until_ready(both(x, kernel))
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        for _ in range(20):
            result = both(x, kernel)
        jax.block_until_ready(result)
        times.append((time.perf_counter() - begin) / 20)
    return 1000 * min(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="40k", choices=PRESETS)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "bfloat16"))
    options = parser.parse_args()
    preset = PRESETS[options.preset]
    dtype = jnp.dtype(options.precision)
    kind = jax.devices()[0].device_kind
    print(f"{options.preset}, batch {options.batch}, {dtype}, {kind}; ms forward and backward")
    cases = [
        *generator_cases(preset, options.batch),
        *discriminator_cases(preset, 2 * options.batch),
    ]
    for name, shape, kernel, forms in cases:
        if dtype != jnp.float32:
            forms.pop("winograd", None)
        times = {form: measure(layer, shape, kernel, dtype) for form, layer in forms.items()}
        figures = ", ".join(f"{form} {figure:.3f}" for form, figure in times.items())
        print(f"{name} {shape} {kernel}: {figures}; {min(times, key=times.get)}", flush=True)


if __name__ == "__main__":
    main()
