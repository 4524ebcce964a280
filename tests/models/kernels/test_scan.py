"""Layers in a loop against layers one by one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from kernel_checks import assert_close, draw

from rvc_jax.models.kernels.options import KernelConfig
from rvc_jax.models.kernels.scan import scan_layers
from rvc_jax.models.layers import Linear, WaveNet
from rvc_jax.models.parameters import Network


@pytest.mark.parametrize("layers", [1, 3])
def test_wavenet(layers: int) -> None:
    x = draw(2, 12, 6)
    speaker = draw(2, 1, 4)
    mask = (jnp.arange(12) < 9).astype(jnp.float32)[None, :, None]
    plain = Network(WaveNet(6, 5, layers, 4))
    scanned = Network(WaveNet(6, 5, layers, 4, KernelConfig(scan=True)))
    parameters = plain.init(0)
    expected = plain(parameters, "__call__", x, mask, speaker)
    assert_close(scanned(parameters, "__call__", x, mask, speaker), expected)


def test_layers_run_in_their_order() -> None:
    def make(value: float) -> tuple:
        layer = Linear(2, 2)
        layer.weight = nnx.Param(value * jnp.eye(2))
        layer.bias = nnx.Param(jnp.full(2, value))
        return (layer,)

    def apply(layer: tuple, x: jax.Array) -> jax.Array:
        return layer[0](x)

    layers = [make(2.0), make(3.0)]
    assert scan_layers(apply, layers, jnp.ones((1, 2))).tolist() == [[15.0, 15.0]]
