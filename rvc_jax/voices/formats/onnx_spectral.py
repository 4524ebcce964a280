"""The networks of the preset small as an ONNX graph.

As for the other presets (`onnx_model`), the graph is written layer by layer, and every file is
compared with the networks in JAX.
"""

from __future__ import annotations

import math

import numpy as np

from rvc_jax.config import SpectralGeneratorConfig
from rvc_jax.models.convnext import EPSILON
from rvc_jax.models.spectral_generator import (
    HARMONIC_OFFSET,
    LOWEST_HZ,
    MAX_LOG_GAIN,
    NOISE_OFFSET,
    REFERENCE_HZ,
    TINY_SINE,
    Spectrum,
    make_analysis_matrices,
    make_synthesis_matrices,
)
from rvc_jax.voices.formats.onnx_graph import Graph
from rvc_jax.voices.model import VoiceModel

_GELU_SLOPE = math.sqrt(2 / math.pi)
_GELU_CUBE = 0.044715


class SpectralVoice:
    """Builds the graph of `SpectralSynthesizer.infer`; the methods are named after its modules.

    Frames are [1, frames, channels], as in JAX.
    """

    def __init__(self, model: VoiceModel, sizes: SpectralGeneratorConfig):
        """model: the voice; sizes: those of its networks."""
        self.sizes = sizes
        self.rate = model.audio.sample_rate
        self.hop = model.hop
        self.graph = Graph(model.weights)
        self.spectrum = Spectrum(self.hop // sizes.steps_per_frame)

    def audio(self, content: str, lengths: str, speaker: str, noise_scale: str) -> str:
        """Append everything; the result is [1, 1, samples].

        noise_scale: name of the factor on the noise that is drawn inside.
        """
        graph = self.graph
        self.frames = graph("Shape", content, start=1, end=2)
        number = graph("Range", np.int64(0), graph("Squeeze", self.frames, [0]), np.int64(1))
        present = graph("Cast", graph("Less", number, lengths), to=1)
        self.mask = graph("Unsqueeze", present, [0, 2])
        self.speaker = graph("Gather", graph.weights["emb_g.weight"], speaker)
        hidden = graph("Mul", self.linear("enc_p", content), self.mask)
        return self.decoder(hidden, noise_scale)

    def linear(self, layer: str, x: str) -> str:
        """Append `models.layers.Linear`."""
        weights = self.graph.weights
        kernel = np.ascontiguousarray(weights[f"{layer}.weight"].T)
        return self.graph("Add", self.graph("MatMul", x, kernel), weights[f"{layer}.bias"])

    def decoder(self, x: str, noise_scale: str) -> str:
        """Append `models.spectral_generator.SpectralGenerator`."""
        graph = self.graph
        for number, dilation in enumerate(self.sizes.content_dilations):
            x = self.block(f"dec.content_blocks.{number}", x, dilation)
            x = graph("Mul", x, self.mask)
        x = graph("Add", x, self.linear("dec.pitch", self.describe_pitch()))
        for number in range(self.sizes.frame_blocks):
            x = graph("Mul", self.block(f"dec.frame_blocks.{number}", x), self.mask)
        x = graph("Unsqueeze", self.linear("dec.to_steps", x), [2])
        x = graph("Add", x, graph.weights["dec.step_offsets"])
        x = graph("Reshape", x, [1, -1, self.sizes.step_channels])
        for number in range(self.sizes.step_blocks):
            x = self.block(f"dec.step_blocks.{number}", x)
        gains = self.linear("dec.gains", self.normalize(x, self.sizes.step_channels))
        gains = graph("Transpose", gains, perm=[0, 2, 1])
        harmonic, angle, noisy = graph.split(gains, 3)
        return self.filter_sources(harmonic, angle, noisy, noise_scale)

    def block(self, layer: str, x: str, dilation: int = 1) -> str:
        """Append `models.convnext.ConvNextBlock`."""
        graph = self.graph
        taps = np.ascontiguousarray(graph.weights[f"{layer}.depthwise.weight"].T[:, None])
        channels = len(taps)
        margin = self.sizes.kernel // 2 * dilation
        y = graph(
            "Conv",
            graph("Transpose", x, perm=[0, 2, 1]),
            taps,
            graph.weights[f"{layer}.depthwise.bias"],
            group=channels,
            dilations=[dilation],
            pads=[margin, margin],
        )
        y = self.normalize(graph("Transpose", y, perm=[0, 2, 1]), channels)
        # [1, channels, 1] has channels to split; then they come last again.
        condition = graph("Unsqueeze", self.linear(f"{layer}.condition", self.speaker), [2])
        scale, offset = (
            graph("Transpose", part, perm=[0, 2, 1]) for part in graph.split(condition, 2)
        )
        y = graph("Add", graph("Mul", y, graph("Add", scale, 1.0)), offset)
        y = self.gelu(self.linear(f"{layer}.expand", y))
        return graph("Add", x, self.linear(f"{layer}.contract", y))

    def normalize(self, x: str, channels: int) -> str:
        """Append `models.convnext.normalize`."""
        ones = np.ones(channels, np.float32)
        return self.graph("LayerNormalization", x, ones, 0 * ones, epsilon=EPSILON)

    def gelu(self, x: str) -> str:
        """Append the approximation of GELU by a hyperbolic tangent, which JAX has by default."""
        graph = self.graph
        square = graph("Mul", graph("Mul", x, x), _GELU_CUBE)
        slope = graph("Mul", graph("Mul", x, _GELU_SLOPE), graph("Add", square, 1.0))
        return graph("Mul", graph("Mul", x, 0.5), graph("Add", graph("Tanh", slope), 1.0))

    def describe_pitch(self) -> str:
        """Append the features of the pitch [1, frames, features]."""
        graph = self.graph
        f0 = graph("Unsqueeze", "pitchf", [2])
        ratio = graph("Div", graph("Max", f0, LOWEST_HZ), REFERENCE_HZ)
        octaves = graph("Mul", graph("Log", ratio), 1 / math.log(2))
        factors = np.float32(math.pi / 2 * 2.0 ** np.arange(4))
        angles = graph("Mul", octaves, factors)
        features = graph("Concat", octaves, graph("Sin", angles), graph("Cos", angles), axis=2)
        voiced = graph("Cast", graph("Greater", f0, 0.0), to=1)
        return graph("Concat", voiced, graph("Mul", features, voiced), axis=2)

    def pulse_train(self) -> str:
        """Append the harmonic source [1, frames, hop]."""
        graph = self.graph
        f0 = graph("Unsqueeze", "pitchf", [2])
        voiced = graph("Greater", f0, 0.0)
        hertz = graph("Where", voiced, f0, REFERENCE_HZ)
        harmonics = graph("Floor", graph("Div", self.rate / 2, hertz))
        angle = graph("Mul", graph.sine_cycles(f0, self.rate, self.hop), math.pi)
        sine = graph("Sin", angle)
        is_peak = graph("Less", graph("Abs", sine), TINY_SINE)
        order = graph("Add", graph("Mul", harmonics, 2.0), 1.0)
        divisor = graph("Where", is_peak, 1.0, sine)
        ratio = graph("Div", graph("Sin", graph("Mul", order, angle)), divisor)
        kernel = graph("Where", is_peak, order, ratio)
        loudness = graph("Mul", graph("Sqrt", graph("Max", harmonics, 1.0)), 2.0)
        wave = graph("Div", graph("Sub", kernel, 1.0), loudness)
        return graph("Where", voiced, wave, 0.0)

    def filter_sources(self, harmonic: str, angle: str, noisy: str, noise_scale: str) -> str:
        """Append sources, transforms and gains; the logarithmic gains are [1, bins, steps]."""
        graph = self.graph
        pulses = self.pulse_train()
        noise = graph("Mul", graph("RandomNormalLike", pulses), noise_scale)
        pulse_real, pulse_imag = self.analyze(pulses)
        noise_real, noise_imag = self.analyze(noise)
        gain = self.exponentiate(harmonic, HARMONIC_OFFSET)
        real = graph("Mul", gain, graph("Cos", angle))
        imag = graph("Mul", gain, graph("Sin", angle))
        noise_gain = self.exponentiate(noisy, NOISE_OFFSET)

        def product(one: str, other: str) -> str:
            return graph("Mul", one, other)

        out_real = graph("Sub", product(real, pulse_real), product(imag, pulse_imag))
        out_imag = graph("Add", product(real, pulse_imag), product(imag, pulse_real))
        out_real = graph("Add", out_real, product(noise_gain, noise_real))
        out_imag = graph("Add", out_imag, product(noise_gain, noise_imag))
        return self.synthesize(out_real, out_imag)

    def exponentiate(self, log_gain: str, offset: float) -> str:
        """Append the gain of a logarithm, limited as in JAX."""
        graph = self.graph
        return graph("Exp", graph("Min", graph("Add", log_gain, offset), MAX_LOG_GAIN))

    def analyze(self, wave: str) -> list[str]:
        """Append `Spectrum.analyze` of [1, frames, hop]: both parts [1, bins, steps]."""
        cosines, sines = make_analysis_matrices(self.spectrum.size)
        kernel = np.concatenate([cosines, sines], axis=1).T[:, None]
        margin = (self.spectrum.size - self.spectrum.hop) // 2
        spectra = self.graph(
            "Conv",
            self.graph("Reshape", wave, [1, 1, -1]),
            np.ascontiguousarray(kernel),
            strides=[self.spectrum.hop],
            pads=[margin, margin],
        )
        return self.graph.split(spectra, 2)

    def synthesize(self, real: str, imag: str) -> str:
        """Append `Spectrum.synthesize` of [1, bins, steps]: [1, 1, samples]."""
        kernel = np.concatenate(make_synthesis_matrices(self.spectrum.size))[:, None]
        margin = (self.spectrum.size - self.spectrum.hop) // 2
        return self.graph(
            "ConvTranspose",
            self.graph("Concat", real, imag, axis=1),
            np.ascontiguousarray(kernel),
            strides=[self.spectrum.hop],
            pads=[margin, margin],
        )
