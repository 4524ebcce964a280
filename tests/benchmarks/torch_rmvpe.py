"""RMVPE in plain PyTorch, with the names of the public checkpoint, which loads strictly."""

from __future__ import annotations

import itertools

import librosa
import torch
from torch import nn
from torch.nn import functional

CHANNELS = (1, 16, 32, 64, 128, 256)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        layers = []
        for given in (inputs, outputs):
            layers += [
                nn.Conv2d(given, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
        self.conv = nn.Sequential(*layers)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + self.shortcut(x)


def blocks(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(Block(inputs, outputs), *(Block(outputs, outputs) for _ in range(3)))


class Layer(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = blocks(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class UpLayer(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        up = nn.ConvTranspose2d(
            inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=False
        )
        self.conv1 = nn.Sequential(up, nn.BatchNorm2d(outputs), nn.ReLU())
        self.conv2 = blocks(2 * outputs, outputs)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.conv2(torch.cat([self.conv1(x), skip], dim=1))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(CHANNELS))
        self.encoder = nn.Module()
        self.intermediate = nn.Module()
        self.decoder = nn.Module()
        self.encoder.bn = nn.BatchNorm2d(1)
        self.encoder.layers = nn.ModuleList(Layer(*pair) for pair in pairs)
        self.intermediate.layers = nn.ModuleList(
            [Layer(256, 512), *(Layer(512, 512) for _ in range(3))]
        )
        self.decoder.layers = nn.ModuleList(
            UpLayer(2 * outputs, outputs) for _, outputs in reversed(pairs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.encoder.bn(x)
        skips = []
        for layer in self.encoder.layers:
            x = layer(x)
            skips.append(x)
            x = functional.avg_pool2d(x, 2)
        for layer in self.intermediate.layers:
            x = layer(x)
        for layer in self.decoder.layers:
            x = layer(x, skips.pop())
        return x


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(384, 256, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gru(x)[0]


class Rmvpe(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.unet = UNet()
        self.cnn = nn.Conv2d(16, 3, 3, padding=1)
        self.fc = nn.Sequential(
            Recurrent(), nn.Linear(512, 360), nn.Dropout(0.25), nn.Sigmoid()
        )
        filters = librosa.filters.mel(
            sr=16000, n_fft=1024, n_mels=128, fmin=30, fmax=8000, htk=True
        )
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)
        self.register_buffer("window", torch.hann_window(1024), persistent=False)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Log-mel [batch, 128, frames], frames a multiple of 32 -> salience [batch, frames,
        360]."""
        x = self.cnn(self.unet(mel.transpose(1, 2)[:, None]))
        return self.fc(x.transpose(1, 2).flatten(-2))

    def pitch(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio [batch, samples] at 16 kHz -> Hz [batch, samples // 160 + 1]."""
        spectrum = torch.stft(
            audio, 1024, 160, window=self.window, center=True, return_complex=True
        ).abs()
        mel = torch.log(torch.clamp(self.filters @ spectrum, min=1e-5))
        frames = mel.shape[-1]
        salience = self(functional.pad(mel, (0, -frames % 32)))[:, :frames]
        best = salience.argmax(dim=-1, keepdim=True) + torch.arange(9)
        weights = torch.gather(functional.pad(salience, (4, 4)), -1, best)
        cents = 1997.3794084376191 + 20.0 * (best - 4)
        mean = (weights * cents).sum(-1) / weights.sum(-1)
        return torch.where(salience.amax(-1) > 0.03, 10 * 2 ** (mean / 1200), 0.0)
