"""RVC's training step in eager PyTorch: a yardstick for speed, a reference for gradients.

    python tests/benchmarks/torch_yardstick.py --preset 40k --batch 4 --frames 300 --steps 2

prints seconds per step. The recipe is the classic one: one forward pass of the generator on a
random segment, the discriminator's update, then the generator's against the updated discriminator.

PyTorch runs at its best, so that the comparison is fair: the data is on the device, the step never
synchronizes with the host, segments are cut in one gather, and no gradient is computed that no
update uses.
"""

from __future__ import annotations

import argparse
import functools
import time
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import librosa
import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)
from torch import Tensor, nn
from torch_models import Discriminator, Latents, Synthesizer, segments

from rvc_jax.config import (
    FRAMES_PER_SECOND,
    PITCH_BINS,
    PITCH_MAX_HZ,
    PITCH_MIN_HZ,
    PRESETS,
    AudioConfig,
    Preset,
)


class Models(NamedTuple):
    preset: Preset
    generator: nn.Module
    discriminator: nn.Module


class Optimizers(NamedTuple):
    generator: torch.optim.Optimizer
    discriminator: torch.optim.Optimizer


class Inputs(NamedTuple):
    """Inputs of the networks: features at the frame rate, see `Synthesizer.forward`."""

    content: Tensor
    pitch: Tensor
    f0: Tensor
    spectrogram: Tensor
    lengths: Tensor
    speaker: Tensor


def build(
    preset: str | Preset, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Models, Optimizers]:
    """Builds freshly initialized networks of a preset and their AdamW optimizers."""
    preset = PRESETS[preset] if isinstance(preset, str) else preset
    with torch.device(device):
        generator = Synthesizer(preset.generator, preset.audio).to(dtype)
        discriminator = Discriminator(preset.discriminator).to(dtype)
    recipe = preset.train
    options = {
        "lr": recipe.learning_rate,
        "betas": (recipe.beta1, recipe.beta2),
        "eps": recipe.epsilon,
        "weight_decay": recipe.weight_decay,
    }
    optimizers = Optimizers(
        *(torch.optim.AdamW(m.parameters(), **options) for m in (generator, discriminator))
    )
    return Models(preset, generator, discriminator), optimizers


# --- signals ---


def spectrogram(wave: Tensor, audio: AudioConfig) -> Tensor:
    """Waveforms [B, T] -> magnitudes [B, bins, T / hop], the edges mirrored by (n_fft - hop) /
    2."""
    padding = (audio.n_fft - audio.hop) // 2
    wave = F.pad(wave.unsqueeze(1), (padding, padding), mode="reflect").squeeze(1)
    window = torch.hann_window(audio.n_fft, dtype=wave.dtype, device=wave.device)
    spectrum = torch.stft(
        wave, audio.n_fft, audio.hop, window=window, center=False, return_complex=True
    )
    return torch.sqrt(spectrum.real.square() + spectrum.imag.square() + 1e-6)


def log_mel(magnitudes: Tensor, audio: AudioConfig) -> Tensor:
    """[B, bins, frames] -> [B, mels, frames]."""
    return torch.log(
        torch.clamp(
            _mel_filters(audio, magnitudes.device, magnitudes.dtype) @ magnitudes, min=1e-5
        )
    )


@functools.cache
def _mel_filters(audio: AudioConfig, device: torch.device, dtype: torch.dtype) -> Tensor:
    filters = librosa.filters.mel(
        sr=audio.sample_rate,
        n_fft=audio.n_fft,
        n_mels=audio.n_mels,
        fmin=audio.f_min,
        fmax=audio.f_max,
    )
    return torch.from_numpy(filters).to(device, dtype)


def coarse_pitch(f0: Tensor) -> Tensor:
    """Hz -> 1..255 on a mel scale; 1 is also unvoiced."""
    low, high = (
        1127 * torch.log1p(torch.tensor(hz / 700)) for hz in (PITCH_MIN_HZ, PITCH_MAX_HZ)
    )
    mel = 1127 * torch.log1p(f0 / 700)
    return (
        ((mel - low.item()) * (PITCH_BINS - 2) / (high - low).item() + 1)
        .clamp(1, PITCH_BINS - 1)
        .round()
        .long()
    )


# --- losses ---


def discriminator_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Tensor:
    """Least-squares GAN (arXiv 1611.04076): real scores towards 1, rendered ones towards 0."""
    pairs = ((r[-1].float(), f[-1].float()) for r, f in zip(real, fake, strict=True))
    return sum((1 - r).square().mean() + f.square().mean() for r, f in pairs)


def generator_loss(fake: list[list[Tensor]]) -> Tensor:
    return sum((1 - maps[-1].float()).square().mean() for maps in fake)


def feature_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Tensor:
    """Mean absolute difference of every feature map, summed."""
    pairs = (
        (r, f) for maps in zip(real, fake, strict=True) for r, f in zip(*maps, strict=True)
    )
    return sum((r.detach().float() - f.float()).abs().mean() for r, f in pairs)


def kl_loss(latents: Latents) -> Tensor:
    """Divergence of the posterior, through the flow, from the prior: summed over channels, averaged
    over frames."""
    mean, logs, _, logs_q, _, z_p, mask = (x.float() for x in latents)
    kl = logs - logs_q - 0.5 + 0.5 * (z_p - mean).square() * torch.exp(-2 * logs)
    return (kl * mask).sum() / mask.sum()


# --- the step ---


def train_step(
    models: Models,
    optimizers: Optimizers,
    batch: dict[str, Tensor],
    autocast: AbstractContextManager | None = None,
) -> dict[str, Tensor]:
    """One update of both networks; returns the losses and gradient norms, still on the device.

    Batch: wave [B, frames * hop], content [B, frames / 2, C], f0 [B, frames] Hz, lengths [B]
    frames, speaker [B].
    """
    audio = models.preset.audio
    inputs = Inputs(
        content=batch["content"].repeat_interleave(2, 1),
        pitch=coarse_pitch(batch["f0"]),
        f0=batch["f0"],
        spectrogram=spectrogram(batch["wave"], audio),
        lengths=batch["lengths"],
        speaker=batch["speaker"],
    )
    choices = (inputs.lengths - audio.segment_frames + 1).clamp(min=1)
    start = (torch.rand(len(choices), device=choices.device) * choices).long()
    return update(
        models, optimizers, inputs, batch["wave"].unsqueeze(1), start, autocast=autocast
    )


def update(
    models: Models,
    optimizers: Optimizers,
    inputs: Inputs,
    wave: Tensor,
    start: Tensor,
    noise_scale: float = 1.0,
    autocast: AbstractContextManager | None = None,
) -> dict[str, Tensor]:
    """The step on given features, waveforms [B, 1, T] and segment starts [B] in frames."""
    audio = models.preset.audio
    autocast = autocast or nullcontext()
    real_wave = segments(wave, start * audio.hop, audio.segment_samples)
    with autocast:
        fake_wave, latents = models.generator(*inputs, start, noise_scale)
    losses = _update_discriminator(models, optimizers, real_wave, fake_wave.detach(), autocast)
    mel = log_mel(segments(inputs.spectrogram, start, audio.segment_frames), audio)
    return losses | _update_generator(
        models, optimizers, real_wave, fake_wave, mel, latents, autocast
    )


def _update_discriminator(
    models: Models,
    optimizers: Optimizers,
    real_wave: Tensor,
    fake_wave: Tensor,
    autocast: AbstractContextManager,
) -> dict[str, Tensor]:
    with autocast:
        real = models.discriminator(real_wave)
        fake = models.discriminator(fake_wave)
    loss = discriminator_loss(real, fake)
    norm = _descend(loss, optimizers.discriminator)
    return {"discriminator": loss.detach(), "discriminator_norm": norm}


def _update_generator(
    models: Models,
    optimizers: Optimizers,
    real_wave: Tensor,
    fake_wave: Tensor,
    mel: Tensor,
    latents: Latents,
    autocast: AbstractContextManager,
) -> dict[str, Tensor]:
    recipe = models.preset.train
    audio = models.preset.audio
    models.discriminator.requires_grad_(False)
    with autocast:
        real = models.discriminator(real_wave)
        fake = models.discriminator(fake_wave)
    fake_mel = log_mel(spectrogram(fake_wave.squeeze(1).float(), audio), audio)
    losses = {
        "adversarial": generator_loss(fake),
        "feature_matching": recipe.feature_matching_weight * feature_loss(real, fake),
        "mel": recipe.mel_weight * F.l1_loss(fake_mel, mel),
        "kl": recipe.kl_weight * kl_loss(latents),
    }
    norm = _descend(sum(losses.values()), optimizers.generator)
    models.discriminator.requires_grad_(True)
    return {name: loss.detach() for name, loss in losses.items()} | {"generator_norm": norm}


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    """Backward pass and update; returns the global norm of the gradient."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [
        parameter for group in optimizer.param_groups for parameter in group["params"]
    ]
    norm = torch.nn.utils.get_total_norm(
        [parameter.grad for parameter in parameters if parameter.grad is not None]
    )
    optimizer.step()
    return norm


# --- command ---


def random_batch(preset: Preset, batch: int, frames: int, device: str) -> dict[str, Tensor]:
    """A batch of full windows with the shapes of real data, and noise for sound."""
    hop = preset.audio.hop
    channels = preset.generator.content_channels
    return {
        "wave": 0.1 * torch.randn(batch, frames * hop, device=device),
        "content": torch.randn(batch, frames // 2, channels, device=device),
        "f0": 200 + 20 * torch.randn(batch, frames, device=device),
        "lengths": torch.full((batch,), frames, device=device),
        "speaker": torch.zeros(batch, dtype=torch.long, device=device),
    }


def seconds_per_step(arguments: argparse.Namespace) -> float:
    """Mean wall time of a step, after warm-up steps that are not counted."""
    torch.manual_seed(0)
    exact = arguments.precision == "float32"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = not exact
    torch.backends.cudnn.benchmark = True
    models, optimizers = build(arguments.preset, arguments.device)
    if arguments.compile:
        models.generator.compile()
        models.discriminator.compile()
    bfloat16 = arguments.precision == "bf16"
    autocast = torch.autocast(arguments.device, torch.bfloat16) if bfloat16 else nullcontext()
    batch = random_batch(models.preset, arguments.batch, arguments.frames, arguments.device)

    def run(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            losses = train_step(models, optimizers, batch, autocast)
        float(losses["mel"])  # waits for the device
        return time.perf_counter() - began

    run(arguments.warm_up)
    return run(arguments.steps) / arguments.steps


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds per training step of RVC in PyTorch")
    parser.add_argument("--preset", choices=PRESETS, default="40k")
    parser.add_argument("--batch", type=int, default=8, help="windows per step")
    parser.add_argument(
        "--frames",
        type=int,
        default=300,
        help=f"length of a window, {FRAMES_PER_SECOND} per second",
    )
    parser.add_argument("--steps", type=int, default=10, help="steps that are timed")
    parser.add_argument("--warm-up", type=int, default=1, help="steps before the clock starts")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "tf32", "bf16"), default="float32")
    parser.add_argument("--compile", action="store_true", help="torch.compile both networks")
    arguments = parser.parse_args()
    seconds = seconds_per_step(arguments)
    mode = "compiled" if arguments.compile else "eager"
    print(
        f"{seconds:.3f} s per step: torch {torch.__version__} {mode}, "
        f"{arguments.device}, {arguments.precision}, "
        f"preset {arguments.preset}, batch {arguments.batch}, {arguments.frames} frames, "
        f"{torch.get_num_threads()} CPU threads"
    )


if __name__ == "__main__":
    main()
