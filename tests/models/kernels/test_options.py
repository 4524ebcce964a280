"""Every kernel config renders what the reference does, with the same gradients."""

from __future__ import annotations

import pytest
from kernel_checks import assert_close, render_and_grad

from rvc_jax.models.kernels.options import (
    KERNEL_CONFIGS,
    REFERENCE,
    KernelConfig,
    kernel_config_for,
)

CONFIGS = {
    "fold": KernelConfig(fold_to=128),
    "scan": KernelConfig(scan=True),
    "dilated": KernelConfig(upsampling="dilated"),
    "products": KernelConfig(offsets="products"),
    "packed": KernelConfig(pack_parameters=True),
    "winograd, scan": KernelConfig(winograd_from=32, scan=True),
    "gpu": KERNEL_CONFIGS["gpu"],
    "rematerialize": KernelConfig(rematerialize=True),
    "all": KernelConfig(
        fold_to=64,
        scan=True,
        rematerialize=True,
        merge_to=128,
        offsets="products",
        pack_parameters=True,
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_synthesizer_equals_reference(name: str) -> None:
    plain, plain_grads = render_and_grad(REFERENCE)
    wave, grads = render_and_grad(CONFIGS[name])
    assert_close(wave, plain)
    for parameter, expected in plain_grads.items():
        assert_close(grads[parameter], expected, 1e-3)


@pytest.mark.usefixtures("every_kernel_is_large")
@pytest.mark.parametrize("packed", [True, False])
def test_synthesizer_with_known_norms(packed: bool) -> None:
    """Probes of activations, gates, sums and transposed convolutions give the norms' gradients."""
    plain, plain_grads = render_and_grad(REFERENCE)
    config = KernelConfig(pack_parameters=packed, upsampling="by stride")
    wave, grads = render_and_grad(config, with_known_norms=True)
    assert_close(wave, plain)
    for parameter, expected in plain_grads.items():
        assert_close(grads[parameter], expected, 1e-3)


def test_every_platform_has_a_config() -> None:
    assert kernel_config_for("cpu", "cpu") == KERNEL_CONFIGS["cpu"]
    assert kernel_config_for("gpu", "NVIDIA H100 80GB HBM3") == KERNEL_CONFIGS["gpu"]
    assert kernel_config_for("tpu", "TPU v5 lite") == KERNEL_CONFIGS["tpu v5 lite"]
    assert kernel_config_for("tpu", "TPU v9") == KERNEL_CONFIGS["tpu v6 lite"]
    assert kernel_config_for("metal", "M1") == KERNEL_CONFIGS["cpu"]
