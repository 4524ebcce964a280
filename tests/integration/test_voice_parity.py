"""A public file renders here as in PyTorch: the same weights, through the file, in both definitions
of the networks."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from public_files import SMALL, applio, checkpoint, classic, new_names

from rvc_jax.config import PRESETS, AudioConfig, GeneratorConfig
from rvc_jax.features.f0.coarse import coarse_pitch
from rvc_jax.voices.formats import pth_reader
from rvc_jax.voices.model import VoiceModel

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402, N812
import torch_models  # noqa: E402

FRAMES = 40
PARITY = Path(__file__).parents[1] / "parity"


class PriorWithoutPitch(torch_models.PriorEncoder):
    def __init__(self, config: GeneratorConfig):
        super().__init__(config)
        del self.emb_pitch

    def forward(self, content, pitch, mask):
        x = self.emb_phone(content)
        x = F.leaky_relu(x * x.shape[-1] ** 0.5, torch_models.SLOPE).mT
        return (self.proj(self.encoder(x, mask)) * mask).chunk(2, 1)


class DecoderWithoutPitch(torch_models.Decoder):
    """HiFi-GAN as it was before the harmonic source."""

    def __init__(self, config: GeneratorConfig, audio: AudioConfig):
        super().__init__(config, audio)
        del self.m_source, self.noise_convs

    def forward(self, z, f0, speaker, noise_scale):
        x = self.conv_pre(z) + self.cond(speaker)
        for stage, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, torch_models.SLOPE))
            blocks = self.resblocks[stage * self.blocks : (stage + 1) * self.blocks]
            x = sum(block(x) for block in blocks) / self.blocks
        return torch.tanh(self.conv_post(F.leaky_relu(x)))


def network(sizes: GeneratorConfig, audio: AudioConfig) -> torch.nn.Module:
    """With random weights that leave no part of the network idle, as float16 has them."""
    torch.manual_seed(0)
    made = torch_models.Synthesizer(sizes, audio)
    if not sizes.has_pitch:
        made.enc_p = PriorWithoutPitch(sizes)
        made.dec = DecoderWithoutPitch(sizes, audio)
    for name, value in made.named_parameters():
        spread = 0.1 if "bias" in name or "beta" in name else 1.0 if value.ndim < 3 else 0.4
        value.data = (spread * torch.randn_like(value)).half().float()
        if name.endswith(("weight_g", "gamma")):
            value.data = (value.data.abs() + 0.5).half().float()
    return made.eval()


def torch_file(
    path: Path, made: torch.nn.Module, sizes: GeneratorConfig, audio: AudioConfig, form: str
) -> Path:
    """What the tool of that name saves of the network, by PyTorch itself."""
    state = {name: value.numpy() for name, value in made.state_dict().items()}
    version = "v1" if sizes.content_channels == 256 else "v2"
    whole = VoiceModel(sizes, audio, version, state)
    content = {
        "classic": classic,
        "applio": applio,
        "parametrized": applio,
        "checkpoint": checkpoint,
    }[form](whole if form == "checkpoint" else whole.without_posterior())
    key = "model" if form == "checkpoint" else "weight"
    names = new_names if form == "parametrized" else dict
    content[key] = {
        name: torch.from_numpy(np.array(array)) for name, array in names(content[key]).items()
    }
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("preset", "has_pitch", "form"),
    [("40k", True, "classic"), ("48k-v1", True, "checkpoint"), ("32k", False, "parametrized")],
)
def test_speech_is_that_of_pytorch(
    tmp_path: Path, preset: str, has_pitch: bool, form: str
) -> None:
    audio = PRESETS[preset].audio
    sizes = dataclasses.replace(PRESETS[preset].generator, **SMALL, has_pitch=has_pitch)
    made = network(sizes, audio)
    model = pth_reader.read(torch_file(tmp_path / f"{form}.pth", made, sizes, audio, form))
    assert (model.generator.has_pitch, model.audio) == (has_pitch, audio)

    random = np.random.default_rng(1)
    content = random.standard_normal((1, FRAMES, sizes.content_channels)).astype(np.float32)
    f0 = (200 + 100 * np.sin(np.arange(FRAMES, dtype=np.float32) / 5))[None]
    f0[:, 10:16] = 0
    pitch = np.array(coarse_pitch(jnp.asarray(f0)))
    lengths = np.array([FRAMES])
    speaker = np.array([2])
    with torch.no_grad():
        arguments = (content, pitch.astype(np.int64), f0, lengths, speaker)
        expected = made.infer(*map(torch.from_numpy, arguments), noise_scale=0.0)[0, 0].numpy()

    ours = model.network()
    speak = jax.jit(
        lambda parameters: ours(parameters, "infer", content, lengths, pitch, f0, speaker)
    )
    spoken = np.asarray(speak(ours.from_public(model.weights)))[0]
    assert spoken.shape == expected.shape == (FRAMES * audio.hop,)
    assert np.std(expected) > 1e-3
    error = np.linalg.norm(spoken - expected) / np.linalg.norm(expected)
    assert error < 1e-4, error


@pytest.mark.heavy
def test_full_size_file_renders_the_golden_output(tmp_path: Path) -> None:
    """The output of the reference implementation, at 40 kHz with 768 content channels."""
    sys.path.insert(0, str(PARITY))
    from reference import value

    preset = PRESETS["40k"]
    shapes = VoiceModel(preset.generator, preset.audio, "v2", {}).network().public_shapes
    weights = {name: value(f"G.{name}", shape, salt=0) for name, shape in shapes.items()}
    content = applio(VoiceModel(preset.generator, preset.audio, "v2", weights))
    content["weight"] = {
        name: torch.from_numpy(array) for name, array in new_names(weights).items()
    }
    torch.save(content, tmp_path / "golden.pth")
    model = pth_reader.read(tmp_path / "golden.pth")
    with np.load(PARITY / "parity_40000.npz") as golden:
        inputs = {
            name: golden[f"in.{name}"][:1]
            for name in ("phone", "lengths", "f0_coarse", "f0_hz", "speaker")
        }
        expected = golden["infer"].reshape(-1)
    ours = model.network()
    speak = jax.jit(lambda parameters: ours(parameters, "infer", *inputs.values()))
    spoken = np.asarray(speak(ours.from_public(model.weights))).reshape(-1)
    assert np.linalg.norm(spoken - expected) < 1e-4 * np.linalg.norm(expected)


def test_these_are_pytorch_s_new_names() -> None:
    normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.ConvTranspose1d(3, 2, 4))
    found = {name: value.detach().numpy() for name, value in normed.state_dict().items()}
    old = pth_reader.to_public_names(
        {f"dec.ups.0.{name}": array for name, array in found.items()}
    )
    shapes = {name.removeprefix("dec.ups.0."): array.shape for name, array in old.items()}
    assert shapes == {"weight_g": (3, 1, 1), "weight_v": (3, 2, 4), "bias": (2,)}
