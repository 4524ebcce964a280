"""The steps of a conversion under given options: pitch, content, index mix, curve, render.

The converter of whole recordings and the streaming converter drive the same engine; they differ in
what they know of the recording when they call it.
"""

from __future__ import annotations

import jax
import numpy as np

from rvc_jax.config import ConvertConfig
from rvc_jax.features.content import ContentEncoder
from rvc_jax.features.f0 import PitchExtractor, load_pitch_extractor
from rvc_jax.infer.compiled_voice import CompiledVoice
from rvc_jax.infer.f0_curve import F0Curve
from rvc_jax.infer.options import check_options, parse_speaker_mix
from rvc_jax.infer.retrieval import mix
from rvc_jax.voices.encoders import load_voice_encoder
from rvc_jax.voices.model import VoiceModel


class Engine:
    """A compiled voice, its feature extractors, and the options of a conversion."""

    def __init__(
        self,
        voice: CompiledVoice,
        config: ConvertConfig,
        content: ContentEncoder | None = None,
        pitch: PitchExtractor | None = None,
    ):
        """Check the options and load what they need.

        Args:
          voice: The voice to render.
          config: The options.
          content: Content encoder; by default the one that the voice was trained with.
          pitch: Pitch extractor; by default the one that the options or the voice name.

        Raises:
          UserError: An option is out of its range, its file can't be read, or weights are missing.
        """
        check_options(config, len(voice.model.speakers))
        self.voice = voice
        self.config = config
        self.content = content or load_voice_encoder(voice.model)
        self.curve = F0Curve(config)
        shares = parse_speaker_mix(config, len(voice.model.speakers))
        self._main_speaker = max(shares, key=shares.__getitem__)
        self.pitch = pitch or load_pitch_extractor(config.f0_method or voice.prepare.f0_method)
        rate = config.index_rate
        self._index_rate = voice.model.generator.index_rate if rate is None else rate
        self._index = voice.index if self._index_rate > 0 else None
        self.speaker = voice.embed_speakers(shares)
        """Embedding of the speaker, or of the mixture: [1, channels]."""
        self._key = jax.random.key(config.seed)
        self._noise_scale = np.float32(config.noise_scale)

    @classmethod
    def from_model(cls, model: VoiceModel, config: ConvertConfig) -> Engine:
        """Compile a voice for conversion. Raises UserError as the constructor."""
        # Options are checked first: a wrong one is reported before the weights are moved.
        check_options(config, len(model.speakers))
        return cls(CompiledVoice(model), config)

    def with_config(self, config: ConvertConfig) -> Engine:
        """An engine with other options that shares all that is loaded and compiled.

        Raises:
          UserError: as the constructor.
        """
        same_pitch = config.f0_method == self.config.f0_method
        return Engine(self.voice, config, self.content, self.pitch if same_pitch else None)

    def choose_transpose(self, f0: np.ndarray) -> float:
        """The shift of a recording's pitch in semitones.

        f0: pitch [frames] in Hz of the whole recording, 0 is unvoiced.
        """
        voiced = f0[f0 > 0]
        median = float(np.median(voiced)) if len(voiced) else 0.0
        return self.curve.choose_transpose(median, self.voice.median_f0(self._main_speaker))

    def mix_index(self, content: np.ndarray, f0: np.ndarray) -> np.ndarray:
        """Bring content to the frame rate and mix it with what the index has nearest to it.

        Args:
          content: [frames / 2, channels].
          f0: [frames] in Hz, or fewer: unvoiced behind that. Unvoiced frames are mixed less.

        Returns: [frames, channels].
        """
        repeated = np.repeat(content, 2, axis=0)
        if self._index is None:
            return repeated
        found = np.repeat(self._index.retrieve(content), 2, axis=0)
        voiced = np.pad(f0 > 0, (0, len(repeated) - len(f0)))
        return mix(repeated, found, voiced, self._index_rate, self.config.protect)

    def render(
        self, prior: np.ndarray, f0: np.ndarray, phase: float, start: int, length: int
    ) -> np.ndarray:
        """Render one chunk in the chosen speaker's voice; see `CompiledVoice.render`."""
        return self.voice.render(
            prior,
            f0,
            phase,
            start,
            length,
            speaker=self.speaker,
            key=self._key,
            noise_scale=self._noise_scale,
        )
