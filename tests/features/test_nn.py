"""The layers beside PyTorch's on the same parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rvc_jax.errors import UserError
from rvc_jax.features import nn

torch = pytest.importorskip("torch")
RANDOM = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def assert_near(ours: jax.Array, theirs: torch.Tensor) -> None:
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("stride", "groups", "padding"), [(1, 1, (2, 2)), (3, 1, (0, 0)), (1, 4, (3, 1))]
)
def test_convolution_over_time(stride: int, groups: int, padding: tuple[int, int]) -> None:
    x = noise(2, 30, 8)
    kernel = noise(5, 8 // groups, 12)
    bias = noise(12)
    ours = nn.convolution(
        {"a.kernel": kernel, "a.bias": bias}, "a", x, stride, [padding], groups
    )
    padded = torch.nn.functional.pad(torch.tensor(x.transpose(0, 2, 1)), padding)
    theirs = torch.nn.functional.conv1d(
        padded,
        torch.tensor(kernel.transpose(2, 1, 0)),
        torch.tensor(bias),
        stride,
        groups=groups,
    )
    assert_near(ours, theirs.transpose(1, 2))
    without_bias = nn.convolution({"a.kernel": kernel}, "a", x, stride, [padding], groups)
    np.testing.assert_allclose(without_bias + bias, ours, atol=1e-5)


def test_convolution_over_time_and_frequency() -> None:
    x = noise(2, 12, 9, 3)
    kernel = noise(3, 5, 3, 4)
    ours = nn.convolve(x, kernel)
    theirs = torch.nn.functional.conv2d(
        torch.tensor(x.transpose(0, 3, 1, 2)),
        torch.tensor(kernel.transpose(3, 2, 0, 1)),
        padding="same",
    )
    assert_near(ours, theirs.permute(0, 2, 3, 1))
    over_time = nn.convolution({"a.kernel": kernel[:, 2]}, "a", x)
    np.testing.assert_allclose(over_time, nn.convolve(x, kernel[:, 2:3]), atol=1e-6)


def test_weights_of_a_wrong_shape_are_not_taken_for_groups() -> None:
    with pytest.raises(ValueError, match="feature_group_count"):
        nn.convolution({"a.kernel": noise(5, 4, 12)}, "a", noise(2, 30, 8))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_short_convolution_is_a_convolution(stride: int) -> None:
    x = noise(7, 4, 6)
    kernel = noise(3, 6, 5)
    bias = noise(5)
    ours = nn.short_convolution(
        {"a.kernel": kernel.reshape(18, 5), "a.bias": bias}, "a", x, stride
    )
    whole = nn.convolution({"a.kernel": kernel, "a.bias": bias}, "a", x, stride, [(1, 1)])
    np.testing.assert_allclose(ours, whole, atol=1e-5)


def test_lstm() -> None:
    layer = torch.nn.LSTM(6, 5)
    state = {name: value.detach().numpy() for name, value in layer.state_dict().items()}
    parameters = {
        "a.input.kernel": state["weight_ih_l0"].T,
        "a.recurrent.kernel": state["weight_hh_l0"].T,
        "a.bias": state["bias_ih_l0"] + state["bias_hh_l0"],
    }
    x = noise(9, 3, 6)
    start = (noise(3, 5), noise(3, 5))
    ours, (hidden, cell) = nn.lstm(parameters, "a", x, start)
    given = tuple(torch.tensor(part[None]) for part in start)
    theirs, (their_hidden, their_cell) = layer(torch.tensor(x), given)
    assert_near(ours, theirs)
    assert_near(hidden, their_hidden[0])
    assert_near(cell, their_cell[0])
    alone, _ = nn.lstm(parameters, "a", x[:, 0], (start[0][0], start[1][0]))
    np.testing.assert_allclose(alone, ours[:, 0], atol=1e-6)


def test_bidirectional_gru_and_rows_that_end_early() -> None:
    layer = torch.nn.GRU(6, 5, batch_first=True, bidirectional=True)
    state = {name: value.detach().numpy() for name, value in layer.state_dict().items()}
    directions = ("_l0", "_l0_reverse")
    parameters = {
        "a.input.kernel": np.hstack([state[f"weight_ih{way}"].T for way in directions]),
        "a.input.bias": np.hstack([state[f"bias_ih{way}"] for way in directions]),
        "a.state.kernel": np.stack([state[f"weight_hh{way}"].T for way in directions]),
        "a.state.bias": np.stack([state[f"bias_hh{way}"] for way in directions]),
    }
    x = noise(2, 8, 6)
    lengths = (8, 5)
    inside = (np.arange(8) < np.array(lengths)[:, None])[..., None].astype(np.float32)
    ours = nn.bidirectional_gru(parameters, "a", jnp.asarray(x), jnp.asarray(inside))
    for row, length in enumerate(lengths):
        theirs, _ = layer(torch.tensor(x[row : row + 1, :length]))
        assert_near(ours[row, :length], theirs[0])


def test_layer_norm_and_gelu() -> None:
    x = noise(2, 5, 8)
    scale = noise(8)
    bias = noise(8)
    ours = nn.layer_norm({"a.scale": scale, "a.bias": bias}, "a", x)
    theirs = torch.nn.functional.layer_norm(
        torch.tensor(x), (8,), torch.tensor(scale), torch.tensor(bias)
    )
    assert_near(ours, theirs)
    assert_near(nn.gelu(x), torch.nn.functional.gelu(torch.tensor(x)))


def test_a_state_dict_that_does_not_fit_is_refused() -> None:
    def convert(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"a.kernel": state["weight"].T}

    def network(parameters: nn.Parameters, x: jax.Array) -> jax.Array:
        return nn.linear(parameters, "a", x)

    trial = (noise(2, 6),)
    state = {"weight": noise(4, 6)}
    parameters = nn.convert_state_dict(convert, state, network, trial, "a dense layer")
    assert parameters["a.kernel"].shape == (6, 4)
    for other in ({"weight": noise(4, 7)}, {"bias": noise(4)}):
        with pytest.raises(UserError, match="^these are not a dense layer: "):
            nn.convert_state_dict(convert, other, network, trial, "a dense layer")
