"""Parameters under public names: round trips, initial values, messages."""

from __future__ import annotations

import numpy as np
import pytest

from rvc_jax.config import PRESETS
from rvc_jax.models.parameters import Network, to_classic_name
from rvc_jax.models.synthesizer import build_synthesizer

NANO = PRESETS["nano"]


@pytest.fixture(scope="module")
def nano() -> tuple[Network, dict]:
    network = build_synthesizer(NANO.generator, NANO.audio)
    return network, network.init(0)


def test_public_state_dict_is_a_round_trip(nano: tuple[Network, dict]) -> None:
    network, parameters = nano
    public = network.to_public(parameters)
    assert {name: array.shape for name, array in public.items()} == network.public_shapes
    back = network.from_public(public)
    assert all(np.array_equal(back[name], parameters[name]) for name in parameters)


def test_wrong_state_dicts_are_named(nano: tuple[Network, dict]) -> None:
    network, parameters = nano
    public = network.to_public(parameters)
    missing = {name: array for name, array in public.items() if name != "dec.conv_pre.bias"}
    with pytest.raises(ValueError, match=r"dec.conv_pre.bias is missing"):
        network.from_public(missing)
    with pytest.raises(ValueError, match=r"emb_g.weight has shape \(3, 16\), not \(8, 16\)"):
        network.from_public(public | {"emb_g.weight": np.zeros((3, 16), np.float32)})
    with pytest.raises(ValueError, match=r"surplus is not part"):
        network.from_public(public | {"surplus": np.zeros(1, np.float32)})


def test_parameters_depend_on_seed_and_name_alone(nano: tuple[Network, dict]) -> None:
    network, parameters = nano
    again = network.init(0)
    other = network.init(1)
    assert all(np.array_equal(again[name], parameters[name]) for name in parameters)
    assert not np.array_equal(other["dec.conv_pre.weight"], parameters["dec.conv_pre.weight"])
    direction = parameters["dec.ups.0.weight_v"]
    norm = parameters["dec.ups.0.weight_g"][0, 0]
    np.testing.assert_allclose(norm, np.linalg.norm(direction, axis=(0, 1)), 1e-6)


@pytest.mark.parametrize(
    ("name", "classic"),
    [
        ("dec.ups.0.parametrizations.weight.original0", "dec.ups.0.weight_g"),
        ("dec.ups.0.parametrizations.weight.original1", "dec.ups.0.weight_v"),
        ("dec.ups.0.weight_v", "dec.ups.0.weight_v"),
    ],
)
def test_either_spelling_of_weight_norms(name: str, classic: str) -> None:
    assert to_classic_name(name) == classic
