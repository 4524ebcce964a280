"""The PyTorch reference against golden outputs of the public implementations.

The quick tests check names, shapes, signals and the waveform; the heavy one checks every golden
value of a training step.
"""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch_yardstick as yardstick  # noqa: E402
from torch_models import Synthesizer, segments  # noqa: E402

from rvc_jax.config import PRESETS  # noqa: E402

PARITY = Path(__file__).parents[1] / "parity"


def load_reference():
    spec = importlib.util.spec_from_file_location("parity_reference", PARITY / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_golden():
    with np.load(PARITY / "parity_40000.npz") as file:
        return {key: torch.from_numpy(np.array(file[key])) for key in file.files}


def set_reference_weights(module, prefix):
    value = load_reference().value
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.from_numpy(value(prefix + name, parameter.shape)))


def error(result, expected):
    """Relative L2 error."""
    assert result.shape == expected.shape
    return float((result.double() - expected.double()).norm() / expected.double().norm())


def inputs_of(golden):
    names = ("phone", "f0_coarse", "f0_hz", "spec", "lengths", "speaker")
    return yardstick.Inputs(*(golden[f"in.{name}"] for name in names))


def test_names_shapes_and_order_are_the_public_ones():
    models, _ = yardstick.build("40k", "meta")
    for network, file in (
        (models.generator, "names_40000.json"),
        (models.discriminator, "names_D.json"),
    ):
        public = json.loads((PARITY / file).read_text())
        ours = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
        assert list(ours.items()) == list(public.items())


@pytest.mark.parametrize(("preset", "millions"), [("32k", 36.880706), ("48k", 37.638466)])
def test_sizes_of_the_other_rates(preset, millions):
    models, _ = yardstick.build(preset, "meta")
    assert sum(p.numel() for p in models.generator.parameters()) == round(millions * 1e6)


@pytest.mark.parametrize("preset", ["32k", "40k", "48k"])
def test_spectrogram_and_mel_match_the_golden_ones(preset):
    audio = PRESETS[preset].audio
    with np.load(PARITY / "features.npz") as golden:
        wave, spec, mel = (
            torch.from_numpy(golden[f"{key}.{audio.sample_rate}"])
            for key in ("wave", "spec", "logmel")
        )
    magnitudes = yardstick.spectrogram(wave[None], audio)
    assert error(magnitudes[0, :, ::7], spec) < 1e-5
    assert error(yardstick.log_mel(magnitudes, audio)[0], mel) < 1e-5


def test_generator_matches_the_golden_waveform():
    golden = load_golden()
    preset = PRESETS["40k"]
    generator = Synthesizer(preset.generator, preset.audio)
    set_reference_weights(generator, "G.")
    inputs = inputs_of(golden)
    assert torch.equal(yardstick.coarse_pitch(inputs.f0), inputs.pitch)
    with torch.no_grad():
        wave, latents = generator(*inputs, golden["in.segment_start"], noise_scale=0.0)
    assert error(latents.z_prior, golden["flow.forward"]) < 1e-5
    assert error(wave, golden["decoder"]) < 1e-5
    assert abs(yardstick.kl_loss(latents) / golden["loss.kl"] - 1) < 1e-5


def test_a_step_trains_both_networks_on_finite_losses():
    torch.manual_seed(0)
    models, optimizers = yardstick.build("nano")
    batch = yardstick.random_batch(models.preset, batch=2, frames=40, device="cpu")
    batch["lengths"][1] = 34
    before = [{k: v.clone() for k, v in network.state_dict().items()} for network in models[1:]]
    first = yardstick.train_step(models, optimizers, batch)
    assert all(torch.isfinite(loss) for loss in first.values())
    for network, old in zip(models[1:], before, strict=True):
        assert any(
            not torch.equal(value, old[name]) for name, value in network.state_dict().items()
        )
    mels = [float(yardstick.train_step(models, optimizers, batch)["mel"]) for _ in range(4)]
    assert min(mels) < float(first["mel"])


@pytest.mark.heavy
def test_every_golden_value_of_a_training_step():
    golden = load_golden()
    preset = PRESETS["40k"]
    preset = dataclasses.replace(
        preset, train=dataclasses.replace(preset.train, mel_weight=0.0)
    )
    models, optimizers = yardstick.build(preset)
    set_reference_weights(models.generator, "G.")
    set_reference_weights(models.discriminator, "D.")
    inputs = inputs_of(golden)
    start = golden["in.segment_start"]

    with torch.no_grad():
        _check_forward(models, golden, inputs, start)
    before = {name: value.clone() for name, value in models.generator.state_dict().items()}
    results = yardstick.update(
        models, optimizers, inputs, golden["in.wave"], start, noise_scale=0.0
    )

    keys = ("loss.disc", "grad_norm.disc", "loss.adv", "loss.fm", "loss.kl", "grad_norm.gen")
    names = (
        "discriminator",
        "discriminator_norm",
        "adversarial",
        "feature_matching",
        "kl",
        "generator_norm",
    )
    assert (
        max(error(results[name], golden[key]) for name, key in zip(names, keys, strict=True))
        < 1e-4
    )
    parameters = dict(models.generator.named_parameters())
    for key in (key for key in golden if key.startswith("grad.")):
        gradient = parameters[key.removeprefix("grad.")].grad
        summary = torch.stack([gradient.abs().mean(), gradient.mean(), gradient.abs().max()])
        assert error(summary, golden[key]) < 1e-3, key
    for name, expected in zip(sorted(parameters), golden["update.l1"], strict=True):
        # Softmax ignores a bias on the keys: its gradient is rounding noise, which AdamW scales up
        # to a full update.
        if not name.endswith("conv_k.bias"):
            change = (parameters[name].detach() - before[name]).abs().mean()
            assert error(change, expected) < 5e-3, name


def _check_forward(models, golden, inputs, start):
    generator = models.generator
    speaker = models.generator.emb_g(inputs.speaker).unsqueeze(2)
    wave, latents = generator(*inputs, start, noise_scale=0.0)
    content, pitch, f0, _, lengths, speakers = (x[:1] for x in inputs)
    results = {
        "enc_p.m": latents.mean_prior,
        "enc_p.logs": latents.logs_prior,
        "enc_q.m": latents.mean_posterior,
        "enc_q.logs": latents.logs_posterior,
        "flow.forward": latents.z_prior,
        "flow.reverse": generator.flow(latents.mean_prior, latents.mask, speaker, reverse=True),
        "source": generator.dec.m_source(inputs.f0[:, 4:36], 0.0).mT,
        "decoder": wave,
        "infer": generator.infer(content, pitch, f0, lengths, speakers, 0.0),
    }
    for kind, x in (("real", segments(golden["in.wave"], start * 400, 12800)), ("fake", wave)):
        for i, maps in enumerate(models.discriminator(x)):
            results[f"D.{kind}.{i}.score"] = maps[-1].flatten(1)
            results[f"D.{kind}.{i}.fmap"] = torch.stack(
                [torch.stack([m.abs().mean(), m.mean()]) for m in maps]
            )
    for key, result in results.items():
        assert error(result, golden[key]) < 1e-5, key
