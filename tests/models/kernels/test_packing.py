"""Packed parameters: there, back, and to compute with."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rvc_jax.config import PRESETS
from rvc_jax.models.discriminator import Discriminator
from rvc_jax.models.kernels.packing import PackedNetwork, Packing
from rvc_jax.models.kernels.weight_norm import AppliedNorm
from rvc_jax.models.parameters import Network


def test_packed_parameters_come_back_as_they_were() -> None:
    network = Network(Discriminator(PRESETS["40k"].discriminator))
    packing = Packing(network.shapes)
    parameters = network.init(0)
    state = {"moments": (parameters, {"other": parameters}), "step": jnp.int32(3)}
    packed = packing.pack(state)
    assert len(packed["moments"][0]) < len(parameters) / 2
    assert packed["moments"][0].keys() == packing.groups.keys() != parameters.keys()
    same = jax.tree.map(lambda a, b: bool((a == b).all()), packing.unpack(packed), state)
    assert all(jax.tree.leaves(same))


def test_kernels_of_a_stack_are_made_together() -> None:
    network = Network(Discriminator(PRESETS["nano"].discriminator))
    packed_network = PackedNetwork(network, jnp.dtype("bfloat16"))
    parameters = network.init(0)
    packed = packed_network.packing.pack(parameters)
    weights = packed_network.make_weights(packed)
    assert weights.keys() == parameters.keys()
    stack = next(
        names
        for key, names in packed_network.packing.groups.items()
        if key.endswith(".weight_v") and len(names) > 1
    )
    base = stack[0].removesuffix(".weight_v")
    assert weights[f"{base}.weight_g"] == AppliedNorm()
    kernel = weights[f"{base}.weight_v"]
    assert kernel.dtype == jnp.bfloat16
    # A fresh norm is that of its direction.
    expected = np.asarray(jnp.asarray(parameters[f"{base}.weight_v"], jnp.bfloat16), np.float32)
    np.testing.assert_allclose(np.asarray(kernel, np.float32), expected, rtol=0.01)
