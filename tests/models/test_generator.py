"""The harmonic source of the generator, and upsampling by odd rates."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

from rvc_jax.config import AudioConfig, GeneratorConfig
from rvc_jax.models.generator import Generator, sine_cycles
from rvc_jax.models.parameters import Network


def test_source_phase_is_continuous_between_calls() -> None:
    f0 = np.random.default_rng(0).uniform(80, 300, (1, 200)).astype(np.float32)
    f0[:, 50:80] = 0
    whole = np.asarray(sine_cycles(jnp.asarray(f0), 16000, 160))
    cycles = f0[0, :120].astype(np.float64).sum() / 100
    phase = jnp.asarray([np.mod(cycles, 1.0)], jnp.float32)
    tail = np.asarray(sine_cycles(jnp.asarray(f0[:, 120:]), 16000, 160, phase))
    difference = np.mod(tail - whole[:, 120 * 160 :] + 0.5, 1.0) - 0.5
    assert np.abs(difference).max() < 1e-3


@pytest.mark.parametrize(
    ("rates", "kernels"),
    [((7, 7, 3, 3), (14, 14, 6, 6)), ((8, 5, 3), (16, 9, 6)), ((3, 4), (7, 8))],
)
def test_odd_rates_equal_the_tools_that_have_them(
    rates: tuple[int, ...], kernels: tuple[int, ...]
) -> None:
    """Applio's NSF-HiFi-GAN in PyTorch: its paddings, output paddings and source convolutions."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    sizes = GeneratorConfig(
        rates,
        kernels,
        inter_channels=4,
        speaker_channels=3,
        upsample_initial_channels=16,
        resblock_kernels=(3,),
        resblock_dilations=((1,),),
    )
    network = Network(Generator(sizes, AudioConfig(100 * math.prod(rates), 1024, 80, 8)))
    parameters = network.init(0)
    public = {
        name: torch.from_numpy(np.array(a)) for name, a in network.to_public(parameters).items()
    }
    random = np.random.default_rng(0)
    latent = random.standard_normal((1, 12, 4)).astype(np.float32)
    f0 = random.uniform(90, 300, (1, 12)).astype(np.float32)
    speaker = random.standard_normal((1, 1, 3)).astype(np.float32)

    def kernel(name: str) -> torch.Tensor:
        if f"{name}.weight" in public:
            return public[f"{name}.weight"]
        direction = public[f"{name}.weight_v"]
        length = direction.norm(dim=(1, 2), keepdim=True)
        return public[f"{name}.weight_g"] * direction / length

    def conv(name: str, x: torch.Tensor, **options: int) -> torch.Tensor:
        return functional.conv1d(x, kernel(name), public.get(f"{name}.bias"), **options)

    hop = math.prod(rates)
    cycles = np.cumsum(np.repeat(f0.astype(np.float64), hop, axis=1) / (100 * hop), axis=1)
    sine = torch.from_numpy(0.1 * np.sin(2 * np.pi * cycles)).float()[:, None]
    gain = public["m_source.l_linear.weight"][0, 0]
    source = torch.tanh(sine * gain + public["m_source.l_linear.bias"])
    speaker_part = conv("cond", torch.from_numpy(speaker.swapaxes(1, 2)))
    x = conv("conv_pre", torch.from_numpy(latent.swapaxes(1, 2)), padding=3) + speaker_part
    for stage, (rate, taps) in enumerate(zip(rates, kernels, strict=True)):
        is_classic = (taps - rate) % 2 == 0
        x = functional.conv_transpose1d(
            functional.leaky_relu(x, 0.1),
            kernel(f"ups.{stage}"),
            public[f"ups.{stage}.bias"],
            stride=rate,
            padding=(taps - rate) // 2 if is_classic else rate // 2 + rate % 2,
            output_padding=0 if is_classic else rate % 2,
        )
        stride = math.prod(rates[stage + 1 :])
        width = 1 if stride == 1 else 2 * stride - stride % 2
        padding = 0 if stride == 1 else (width - stride) // 2
        x = x + conv(f"noise_convs.{stage}", source, stride=stride, padding=padding)
        y = conv(f"resblocks.{stage}.convs1.0", functional.leaky_relu(x, 0.1), padding=1)
        x = x + conv(f"resblocks.{stage}.convs2.0", functional.leaky_relu(y, 0.1), padding=1)
    wave = torch.tanh(conv("conv_post", functional.leaky_relu(x), padding=3))[0, 0].numpy()
    ours = network(parameters, "__call__", latent, f0, speaker)
    assert ours.shape == (1, 12 * hop) == (1, len(wave))
    np.testing.assert_allclose(ours[0], wave, atol=2e-5)
