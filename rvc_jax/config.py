"""Every preset, default and table, in one place.

The command line, a run's `config.json` and the code all read these frozen dataclasses; a default
stated elsewhere is a mistake. The text under a field is its help on the command line. Figures of
the recipe are those of RVC v2 (`VITS`: arXiv 2106.06103, `HiFi-GAN`: arXiv 2010.05646, and the
public RVC implementation).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

FRAMES_PER_SECOND = 100
"""Frames of pitch, spectrogram and latents per second, at every sample rate."""

FEATURE_RATE = 16000
"""Sample rate in Hz of the copy that pitch and content features are computed from."""

FEATURE_HOP = FEATURE_RATE // FRAMES_PER_SECOND
"""Samples of the 16 kHz copy per frame of pitch."""

CONTENT_HOP = 2 * FEATURE_HOP
"""Samples of the 16 kHz copy per frame of content: content runs at half the frame rate."""

WINDOW_FRAMES = 336
"""Frames that every slice is padded to in memory: the longest slice (3.3 s), rounded up to a
multiple of 16. With one shape for all, the step compiles once."""

STEP_FRAMES = 304
"""Frames of a window that one training step uses: 3 s and a little. Nearly all slices fit; of a
longer one each step draws a part, which costs less than padding all others to its length."""

BitDepth = Literal["16", "24", "float"]
"""Bits of a sample in lossless sound files; "float" is 32-bit floating point."""

Key = Literal[
    "C",
    "C#",
    "Db",
    "D",
    "D#",
    "Eb",
    "E",
    "F",
    "F#",
    "Gb",
    "G",
    "G#",
    "Ab",
    "A",
    "A#",
    "Bb",
    "B",
]
"""First note of a scale."""


@dataclasses.dataclass(frozen=True)
class MelScale:
    """A mel spectrogram of the loss; windows are four hops long."""

    sample_rate: int
    n_fft: int
    n_mels: int
    f_min: float = 0.0
    f_max: float | None = None

    @property
    def hop(self) -> int:
        """Samples from one window to the next."""
        return self.n_fft // 4


@dataclasses.dataclass(frozen=True)
class AudioConfig:
    """Sample rate and spectrogram of one preset."""

    sample_rate: int
    n_fft: int
    """Length of the Fourier transform and of its Hann window, in samples."""
    n_mels: int
    segment_frames: int
    """Frames that the decoder renders in one training step."""
    f_min: float = 0.0
    f_max: float | None = None
    """Upper edge of the mel filters in Hz; None is half the sample rate."""
    mel_scales: tuple[tuple[int, int], ...] = ()
    """Window in samples and number of mel bands of each scale of the mel loss; empty: one scale,
    that of the spectrogram above."""

    @property
    def loss_scales(self) -> tuple[AudioConfig | MelScale, ...]:
        """Spectrograms of the mel loss."""
        if not self.mel_scales:
            return (self,)
        return tuple(MelScale(self.sample_rate, *scale) for scale in self.mel_scales)

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return self.sample_rate // FRAMES_PER_SECOND

    @property
    def spectrogram_bins(self) -> int:
        """Frequencies of the spectrogram, from 0 to half the sample rate."""
        return self.n_fft // 2 + 1

    @property
    def segment_samples(self) -> int:
        """Samples that the decoder renders in one training step."""
        return self.segment_frames * self.hop


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """Sizes of the synthesizer: encoders, coupling flow and NSF-HiFi-GAN decoder (VITS, RVC v2)."""

    upsample_rates: tuple[int, ...]
    upsample_kernels: tuple[int, ...]
    content_channels: int = 768
    inter_channels: int = 192
    hidden_channels: int = 192
    filter_channels: int = 768
    attention_heads: int = 2
    attention_layers: int = 6
    attention_kernel: int = 3
    attention_window: int = 10
    posterior_layers: int = 16
    posterior_kernel: int = 5
    flow_steps: int = 4
    flow_layers: int = 3
    flow_kernel: int = 5
    speaker_channels: int = 256
    speakers: int = 109
    upsample_initial_channels: int = 512
    resblock_kernels: tuple[int, ...] = (3, 7, 11)
    resblock_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    has_pitch: bool = True
    """Some public voices were trained without pitch (f0 = 0): they have no harmonic source and
    ignore f0."""

    index_rate: ClassVar[float] = 0.3
    """Index rate of conversions that ask for no other."""


@dataclasses.dataclass(frozen=True)
class SpectralGeneratorConfig:
    """Sizes of the small preset's synthesizer (`models.spectral_synthesizer`)."""

    channels: int = 192
    """Width of the blocks at the frame rate."""
    content_dilations: tuple[int, ...] = (1, 2, 1, 2)
    """Dilation of each block that sees the content alone."""
    frame_blocks: int = 4
    """Blocks that see content and pitch."""
    steps_per_frame: int = 2
    """Spectra per frame."""
    step_channels: int = 192
    """Width of the blocks that follow, one time step per spectrum."""
    step_blocks: int = 2
    kernel: int = 7
    """Taps of the blocks' filters."""
    expansion: int = 3
    """Width of a block's pointwise network, relative to the block."""
    content_channels: int = 384
    speaker_channels: int = 64
    speakers: int = 8
    has_pitch: Literal[True] = True

    index_rate: ClassVar[float] = 0.0
    """Index rate of conversions that ask for no other. At 0.75 the quick start's voice
    has a word error rate of 0.221 instead of 0.129, for a speaker similarity of 0.816 instead of
    0.810 (`tests/benchmarks/first_voice.py`)."""

    @property
    def inter_channels(self) -> int:
        """Channels that the first half of the conversion hands to the second."""
        return self.channels


AnyGeneratorConfig = GeneratorConfig | SpectralGeneratorConfig
"""Sizes of a synthesizer of either kind."""


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes of the sub-discriminators: on the waveform and its periods (HiFi-GAN, RVC v2), and on
    spectra."""

    periods: tuple[int, ...] = (2, 3, 5, 7, 11, 17, 23, 37)
    scale_channels: tuple[int, ...] = (16, 64, 256, 1024, 1024, 1024)
    scale_kernels: tuple[int, ...] = (15, 41, 41, 41, 41, 5)
    scale_strides: tuple[int, ...] = (1, 4, 4, 4, 4, 1)
    scale_groups: tuple[int, ...] = (1, 4, 16, 64, 256, 1)
    period_channels: tuple[int, ...] = (32, 128, 512, 1024, 1024)
    period_kernel: int = 5
    period_stride: int = 3
    spectra: tuple[int, ...] = ()
    """Window of each discriminator on a spectrogram, in samples."""
    spectrum_channels: tuple[int, ...] = (64, 64, 64, 64)
    spectrum_kernel: int = 3

    @property
    def count(self) -> int:
        """Number of sub-discriminators."""
        return bool(self.scale_channels) + len(self.periods) + len(self.spectra)


class Rate(NamedTuple):
    """What an hour of one accelerator costs."""

    units_per_hour: float
    """Colab compute units; one was 0.10 dollars in 2026."""
    dollars_per_hour: float
    """On-demand price of a cloud machine."""


RATES: dict[str, Rate] = {
    "v5e": Rate(4.11, 1.20),
    "v6e": Rate(4.21, 2.70),
    "T4": Rate(1.07, 0.35),
    "L4": Rate(1.70, 0.70),
    "A100": Rate(6.00, 3.70),
}
"""Rates by accelerator. Colab's are those that users reported in 2025 and 2026, the cloud's are
about the list prices in the United States. Both change."""


GENERATOR_PARTS = ("enc_p", "enc_q", "flow", "dec", "emb_g")
"""Parts of the generator, by their names in public checkpoints."""

SMALL_CONTENT_PARTS = ("enc_p", "dec.content_blocks")
"""Parts of the small preset's generator that see the content alone."""
SMALL_PARTS = (*SMALL_CONTENT_PARTS, "dec", "emb_g")
"""Parts of the small preset's generator."""

LIMITS = ("epochs", "steps", "minutes")
"""Fields of `TrainConfig` that end a run; 0: without this limit."""

BestBy = Literal["mel", "stft", "similarity", "score"]


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Options of training: the recipe, and what a run keeps. The defaults are RVC's own recipe."""

    epochs: int = 200
    """Passes over the training windows. --steps or --minutes replaces the preset's number; given
    together, the first limit ends the run."""
    steps: int = 0
    """End the run after this many steps; 0: no limit."""
    minutes: float = 0.0
    """End the run after this many minutes, over all commands that continue it, with the time for
    the last evaluation and save included; 0: no limit. Such a run is evaluated at least every tenth
    of its time, and spends about a tenth of it on evaluations at most."""
    pretrained: Literal["default", "none"] = "default"
    """Networks that a new run starts from. default: the public pretrained networks for the preset
    (`rvc-jax download` fetches them), for small the base voice that comes with the package; nano
    has none; none: from scratch."""
    pretrained_generator: str = ""
    """Generator to start from instead of the default one: a .pth or .safetensors file."""
    pretrained_discriminator: str = ""
    """Discriminator to start from instead of the default one: a .pth or .safetensors file."""
    freeze: str = ""
    """Parts of the generator that are not trained, separated by commas: enc_p, enc_q, flow, dec,
    emb_g (prior encoder, posterior encoder, coupling flow, decoder, speaker embeddings); in the
    preset small enc_p, dec.content_blocks, dec, emb_g."""
    batch_per_chip: int = 8
    """Windows per accelerator in a step, or in a part of one (see accumulate); a multiple of 8 on
    TPU."""
    accumulate: int = 1
    """Parts that a step is computed in, one after the other: the batch grows by this factor, in the
    memory of one part."""
    learning_rate: float = 1e-4
    """Learning rate of both networks in the first epoch."""
    scale_learning_rate: Literal["none", "sqrt", "linear"] = "none"
    """Scale the learning rate with the global batch size relative to 8: by its square root, or
    linearly. Smaller batches keep the rate."""
    schedule: Literal["classic", "constant", "cosine"] = "classic"
    """Learning rate schedule. classic: decays by a factor per epoch; cosine: falls to a hundredth
    over all epochs."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises to its full value."""
    optimizer: Literal["adamw", "adam", "nadamw", "radam", "adabelief", "lion"] = "adamw"
    """Optimizer."""
    beta1: float = 0.8
    """Decay rate of the optimizer's running mean of the gradient."""
    beta2: float = 0.99
    """Decay rate of the optimizer's running mean of the squared gradient."""
    epsilon: float = 1e-9
    """Added to Adam's denominator for stability."""
    weight_decay: float = 0.01
    """Decoupled weight decay (adamw, nadamw, lion)."""
    learning_rate_decay: float = 0.999875
    """Factor on the learning rate after every epoch in the classic schedule."""
    clip_norm: float = 0.0
    """Clip each network's gradient to this norm; 0: off."""
    ema: float = 0.0
    """Decay per step of an exponential moving average of the generator's weights, such as 0.999; 0:
    off. The hold-out then measures both, and the better voice is kept."""
    discriminator_every: int = 1
    """Steps per update of the discriminator."""
    mel_weight: float = 45.0
    """Weight of the log-mel L1 loss."""
    kl_weight: float = 1.0
    """Weight of the KL divergence between posterior and prior."""
    feature_matching_weight: float = 2.0
    """Weight of the feature matching loss."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Arithmetic of the networks; parameters and losses are always float32. auto: bfloat16 on TPU
    and GPU."""
    seed: int = 1234
    """Seed of the initial parameters, the order of the windows, the segments and the noise."""
    budget: str = ""
    """Limit on what the run spends, over all commands that continue it: 2h, 90min, 5units (of
    Colab) or $3. The run ends early enough to save."""
    data_on_device: Literal["auto", "yes", "no"] = "auto"
    """Keep all training windows in the accelerator's memory, or stream them. auto: keep them if
    they take at most a quarter of it; never on a CPU."""
    memory_gigabytes: float = 0.0
    """Host memory that the training windows may take, in GB. Those of a larger dataset stay on disk
    and are read when a step needs them, in the same order; 0: an eighth of the memory that is
    available at the start."""
    steps_per_dispatch: int = 0
    """Steps that the accelerator runs per call from the host; 0: 1 on a CPU, 32 elsewhere."""
    rematerialize: bool = False
    """Recompute the generator's activations in the backward pass instead of storing them: less
    memory, slower."""
    max_consecutive_skips: int = 5
    """Consecutive steps without a finite loss and gradient after which the run goes back to its
    last checkpoint with half the learning rate. Single ones are skipped and counted."""
    evaluate_every: int = 10
    """Epochs between evaluations on the hold-out."""
    best_by: BestBy = "mel"
    """What the best voice is chosen by on the hold-out. mel: lowest log-mel error; stft: lowest
    multi-resolution STFT distance; similarity: most similar speaker; score: lowest sum of log-mel
    error, STFT distance, median pitch error in semitones, and shares of gross pitch errors and of
    voicing errors."""
    patience: int = 0
    """End the run after this many evaluations without a better voice; 0: never. The best voice is
    kept either way."""
    least_improvement: float = 0.002
    """Relative improvement of the score from which a voice counts as better for the patience."""
    save_every: int = 10
    """Epochs between checkpoints; an interrupted run saves as well."""
    keep_checkpoints: int = 2
    """Number of newest checkpoints to keep, besides the best voice."""
    keep_every: int = 0
    """Epochs between checkpoints that are never removed, a multiple of --save-every; 0: none."""
    max_gigabytes: float = 0.0
    """Limit on the size of the run's folder, including a checkpoint that is being written: first
    checkpoints of --keep-every, then older ones of --keep-checkpoints are removed. It holds at a
    URL as well; 0: no limit."""
    log_every: int = 50
    """Steps between TensorBoard scalars."""

    @property
    def frozen_parts(self) -> tuple[str, ...]:
        """Names of the parts that `freeze` lists."""
        return tuple(part for part in self.freeze.split(",") if part)

    def total_steps(self, steps_per_epoch: int) -> int | None:
        """Return the step at which a run ends at the latest; None if only the clock ends it."""
        limits = [limit for limit in (self.epochs * steps_per_epoch, self.steps) if limit]
        return min(limits, default=None)

    @property
    def length(self) -> str:
        """How long a run is at most, such as "200 epochs" or "500 steps, 3 minutes"."""
        limits = {"epochs": self.epochs, "steps": self.steps, "minutes": self.minutes}
        return ", ".join(f"{limit:g} {unit}" for unit, limit in limits.items() if limit)

    def with_options(self, overrides: Mapping[str, Any], own: TrainConfig) -> TrainConfig:
        """Return the recipe with the options that a user named.

        A limit that the user names replaces those that still are the preset's own.

        overrides: values by field; own: the preset's recipe.
        """
        values = dict(overrides)
        if any(values.get(name) for name in LIMITS):
            for name in LIMITS:
                if getattr(self, name) == getattr(own, name):
                    values.setdefault(name, 0)
        return dataclasses.replace(self, **values)


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """Processes that train together, one per machine.

    The hosts of a TPU slice, and processes started by Slurm or Open MPI, find each other.
    Elsewhere, start the same command on every machine with these options.
    """

    coordinator: str = ""
    """Address of the first process as HOST:PORT, with a free port."""
    processes: int = 0
    """Number of processes that train together; 1: this one alone; 0: ask the environment."""
    process: int = -1
    """Number of this process, from 0. Process 0 writes the run."""
    join_seconds: int = 300
    """Seconds to wait for the other processes at the start."""


PresetName = Literal["40k", "48k", "32k", "40k-v1", "48k-v1", "32k-v1", "nano", "small"]
PitchMethod = Literal["swift", "rmvpe", "fcpe", "crepe", "crepe-tiny", "harvest", "dio", "pm"]
"""swift is bundled; harvest, dio and pm run on the CPU and need the extra `pitch`; the others are
downloaded."""

CONTENT_ENCODERS = (
    "contentvec",
    "spin",
    "spin-v2",
    "chinese-hubert-base",
    "japanese-hubert-base",
    "korean-hubert-base",
    "whisper-tiny",
    "whisper-base",
    "whisper-small",
)
"""Content encoders by name; whisper-tiny comes with the package, the others are downloaded."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """A voice format: what is trained, at which rate, with which recipe."""

    name: PresetName
    version: Literal["v1", "v2"]
    audio: AudioConfig
    generator: AnyGeneratorConfig
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    train: TrainConfig = TrainConfig()
    f0_method: PitchMethod = "rmvpe"
    """Pitch method of datasets that ask for no other."""
    content_encoder: str = "contentvec"
    """Content encoder of datasets that ask for no other."""


_AUDIO_32K = AudioConfig(32000, n_fft=1024, n_mels=80, segment_frames=40)
_AUDIO_40K = AudioConfig(40000, n_fft=2048, n_mels=125, segment_frames=32)
_AUDIO_48K = AudioConfig(48000, n_fft=2048, n_mels=128, segment_frames=36)
_V1_PERIODS = DiscriminatorConfig(periods=(2, 3, 5, 7, 11, 17))


def _v1(
    name: PresetName, audio: AudioConfig, rates: tuple[int, ...], kernels: tuple[int, ...]
) -> Preset:
    return Preset(
        name, "v1", audio, GeneratorConfig(rates, kernels, content_channels=256), _V1_PERIODS
    )


_NANO = Preset(
    "nano",
    "v2",
    AudioConfig(16000, n_fft=1024, n_mels=80, segment_frames=32),
    GeneratorConfig(
        upsample_rates=(10, 8, 2),
        upsample_kernels=(20, 16, 4),
        content_channels=384,
        inter_channels=64,
        hidden_channels=64,
        filter_channels=128,
        attention_layers=2,
        posterior_layers=3,
        flow_steps=2,
        flow_layers=2,
        speaker_channels=16,
        speakers=8,
        upsample_initial_channels=96,
        resblock_kernels=(3, 7),
        resblock_dilations=((1, 3), (1, 3)),
    ),
    DiscriminatorConfig(
        periods=(2, 3, 5),
        scale_channels=(8, 16, 32, 32),
        scale_kernels=(15, 41, 41, 5),
        scale_strides=(1, 4, 4, 1),
        scale_groups=(1, 1, 1, 1),
        period_channels=(8, 16, 32, 32),
    ),
    TrainConfig(epochs=50, learning_rate=2e-3),
    f0_method="swift",
    content_encoder="whisper-tiny",
)

_SMALL = Preset(
    "small",
    "v2",
    AudioConfig(
        16000,
        n_fft=1024,
        n_mels=80,
        segment_frames=96,
        mel_scales=((1024, 80), (512, 64), (256, 40), (128, 24)),
    ),
    SpectralGeneratorConfig(),
    DiscriminatorConfig(
        periods=(2, 3, 5, 7),
        scale_channels=(),
        scale_kernels=(),
        scale_strides=(),
        scale_groups=(),
        period_channels=(8, 16, 32, 32),
        spectra=(1024, 512, 256),
    ),
    # For a voice that starts from the base; data/base/recipe.toml has the options of the base.
    TrainConfig(
        epochs=100,
        learning_rate=1e-3,
        ema=0.99,
        mel_weight=15.0,
        # The base has learned sounds from many speakers. A few minutes of one speaker, in one
        # language, would make it forget some of them.
        freeze=",".join(SMALL_CONTENT_PARTS),
    ),
    f0_method="swift",
    content_encoder="whisper-tiny",
)

QUICKSTART = {"steps": 300}
"""How long the quick start trains: fields of `TrainConfig`. A step of the preset small takes 0.75
processor seconds on a CPU."""

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("40k", "v2", _AUDIO_40K, GeneratorConfig((10, 10, 2, 2), (16, 16, 4, 4))),
        Preset("48k", "v2", _AUDIO_48K, GeneratorConfig((12, 10, 2, 2), (24, 20, 4, 4))),
        Preset("32k", "v2", _AUDIO_32K, GeneratorConfig((10, 8, 2, 2), (20, 16, 4, 4))),
        _v1("40k-v1", _AUDIO_40K, (10, 10, 2, 2), (16, 16, 4, 4)),
        _v1(
            "48k-v1",
            dataclasses.replace(_AUDIO_48K, segment_frames=24),
            (10, 6, 2, 2, 2),
            (16, 16, 4, 4, 4),
        ),
        _v1("32k-v1", _AUDIO_32K, (10, 4, 2, 2, 2), (16, 16, 4, 4, 4)),
        _NANO,
        _SMALL,
    )
}
"""All presets by name. `small` is for CPUs: on two cores a voice that starts from its base can be
understood after minutes. `nano`, the smallest in the form of RVC's networks, is for tests."""

CPU_PRESETS: tuple[PresetName, ...] = ("small", "nano")
"""Presets that a machine without an accelerator trains, the one to recommend first. The others take
seconds a step there, and tens of thousands of steps."""

MAX_TRACK = 64
MAX_CHANNEL = 64
"""The most tracks and channels of a recording that can be named."""

PITCH_MIN_HZ = 50.0
PITCH_MAX_HZ = 1100.0
PITCH_BINS = 256
"""Coarse pitch is 1..255 on a mel scale between the two limits; 1 is also unvoiced, 0 is unused."""


@dataclasses.dataclass(frozen=True)
class FetchConfig:
    """How recordings are fetched."""

    start: str | None = None
    """Start of the wanted part, in seconds or h:mm:ss; files are kept whole, preparation cuts."""
    end: str | None = None
    """End of the wanted part, in seconds or h:mm:ss."""
    chapters: str | None = None
    """Regular expression: use only chapters whose title matches it, ignoring case."""
    cookies: Path | None = None
    """Cookies of a browser that is signed in to the site: cookies.txt in Netscape format."""
    cookies_from_browser: str | None = None
    """Browser on this machine to take the cookies from, as NAME or NAME:PROFILE: firefox, chrome,
    safari..."""
    retries: int = 10
    """How often an interrupted transfer is continued."""
    timeout: float = 30.0
    """Seconds without an answer, or with less than 1 kB of a file, after which a transfer counts as
    interrupted."""
    max_gigabytes: float = 4.0
    """Skip files larger than this."""
    max_hours: float = 3.0
    """Give up transfers that take longer: some streams have no end."""
    max_files: int = 1000
    """Limit of recordings per playlist."""
    allow_private_addresses: bool = False
    """Also follow links to this machine and to private networks."""


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """How speech becomes a dataset."""

    preset: PresetName = "40k"
    """Voice format to prepare for; it sets the sample rate."""
    f0_method: PitchMethod | None = None
    """Pitch method; by default swift for nano and small, rmvpe for the others."""
    content_encoder: str | None = None
    """Content encoder: it extracts what is said, without who says it. A voice stays with the
    encoder it was trained with. A name (contentvec, spin, spin-v2, chinese-, japanese- or
    korean-hubert-base, whisper-tiny, -base or -small), a folder with a HuBERT model (config.json
    beside model.safetensors or pytorch_model.bin), a fairseq .pt file, or OWNER/NAME on the Hugging
    Face hub; by default whisper-tiny for nano and small, contentvec for the others."""
    speakers: Literal["folders", "one"] = "folders"
    """folders: every sub-folder is a speaker; one: all speech is of one speaker."""
    track: int = 0
    """Track of sound to take from a file of several, 1 for the first; 0 takes the first one with a
    voice."""
    channel: int = 0
    """Channel to take from a recording of several, 1 for the first; 0 takes the mean of all, but
    leaves out channels without a voice where others have one."""
    slicing: Literal["auto", "simple", "skip"] = "auto"
    """auto: split at silences, then into slices of equal length; simple: only slices of equal
    length; skip: every file is one slice (files too long for that are sliced)."""
    chunk_len: float = 3.0
    """Length of a slice, in seconds."""
    overlap_len: float = 0.3
    """Overlap of neighboring slices, in seconds; a rest of up to both lengths is kept whole."""
    silence_db: float = -42.0
    """Level below which sound is silence, in dB of full scale. For a recording whose speech peaks
    below -20 dB it is lowered by as much."""
    silence_min_length: float = 1.5
    """Shortest sound between two silences, in seconds."""
    silence_min_interval: float = 0.4
    """Shortest silence that splits, in seconds."""
    silence_hop: float = 0.015
    """Step of the level meter, in seconds."""
    silence_max_kept: float = 0.5
    """Silence left before and after a sound, in seconds."""
    high_pass_hz: float = 48.0
    """Corner of the fifth-order Butterworth high-pass filter, in Hz; 0: off."""
    separate_vocals: bool = False
    """Separate the vocals from music first; needs the extra `separate`."""
    clean_audio: bool = False
    """Reduce steady noise by spectral gating; needs the extra `clean`."""
    clean_strength: float = 0.7
    """Share of the noise to remove, 0..1."""
    vad: bool = False
    """Drop slices without speech, by voice activity detection."""
    vad_threshold: float = 0.5
    """Probability above which sound counts as speech, 0..1."""
    vad_min_speech: float = 0.2
    """Share of a slice that must be speech, 0..1."""
    normalization: Literal["none", "pre", "post", "loudness"] = "post"
    """none; pre: raise the peak of every file to full scale; post: move the peak of every slice
    towards `normalize_peak`; loudness: bring every file to `loudness_lufs` (EBU R128; peaks stay
    below 0.99)."""
    normalize_peak: float = 0.9
    """Peak of the slices after normalization "post"; full scale is 1."""
    normalize_mix: float = 0.75
    """Share of the normalized signal in the result, 0..1; the rest keeps its original level."""
    loudness_lufs: float = -23.0
    """Target of normalization "loudness", in LUFS."""
    min_slice: float = 0.4
    """Drop slices shorter than this, in seconds."""
    max_peak: float = 2.5
    """Drop slices with a higher peak than this: the file is broken."""
    max_clipped: float = 0.2
    """Drop slices with more than this share of samples at full scale, 0..1."""
    holdout: float = 0.05
    """Share of the speech kept out of training, to measure the voice on, 0..1."""
    holdout_min: float = 10.0
    """Minimum length of the hold-out, in seconds (but at most a fifth of the speech)."""
    holdout_max: float = 60.0
    """Maximum length of the hold-out, in seconds."""
    feature_batch: int = 16
    """Slices per call of the feature extractors."""

    def resolved(self) -> PrepareConfig:
        """Return the settings with the preset's pitch method and content encoder as defaults."""
        preset = PRESETS[self.preset]
        return dataclasses.replace(
            self,
            f0_method=self.f0_method or preset.f0_method,
            content_encoder=self.content_encoder or preset.content_encoder,
        )


@dataclasses.dataclass(frozen=True)
class ConvertConfig:
    """Options of a conversion."""

    transpose: float = 0.0
    """Shift the pitch by this many semitones, -60..60."""
    auto_transpose: bool = False
    """Add the whole semitones that bring the recording's median pitch to the voice's."""
    proposed_pitch: bool = False
    """Add the whole semitones that bring the recording's median pitch to
    `proposed_pitch_threshold`."""
    proposed_pitch_threshold: float = 155.0
    """Median pitch in Hz for `proposed_pitch`, 50..1200: about 155 for male voices, 255 for female
    voices."""
    autotune: bool = False
    """Move the shifted pitch to the nearest notes of a scale."""
    autotune_strength: float = 1.0
    """Share of the way to the note that autotune moves the pitch, 0..1."""
    autotune_scale: Literal["chromatic", "major", "minor"] = "chromatic"
    """Scale for autotune: all twelve notes, or a major or natural minor scale."""
    autotune_key: Key | None = None
    """First note of the major or minor scale for autotune."""
    f0_file: Path | None = None
    """File with the pitch of the output, one line `seconds,Hz` per point, 0 Hz for unvoiced. It
    replaces the recording's pitch from its first to its last time and is not shifted. Between two
    points the pitch moves linearly in cents."""
    formant_shift: float = 0.0
    """Shift the recording's formants by this many semitones, -12..12, and keep its pitch. Up makes
    a large speaker sound smaller to the content encoder, down the reverse; 0 is off."""
    f0_method: PitchMethod | None = None
    """Pitch extraction method; by default that of the voice's dataset."""
    index_rate: float | None = None
    """Share of content features retrieved from the training speech, 0..1; 0 is off. By default 0.3,
    and 0 for voices of the preset small, whose words suffer from it."""
    protect: float = 0.33
    """Protect unvoiced sounds from retrieval, 0..0.5; lower values protect more, 0.5 is off."""
    volume_envelope: float = 1.0
    """1 keeps the voice's own loudness, 0 follows the recording's, values between mix both."""
    noise_scale: float = 0.66666
    """Standard deviation of the latent noise; 0 is deterministic and sounds flatter."""
    silence_db: float = -60.0
    """Level in dB below which the recording counts as silence; the result is silent there. The
    recording is first brought to the level of the training speech, so that the threshold follows
    the level of the recording. One that peaks below -80 dB of full scale is silent as a whole."""
    speaker: int = 0
    """Number of the speaker, for a voice of several."""
    speaker_mix: str = ""
    """Mixture of speakers by number and share, instead of one speaker: "0:0.7,1:0.3"."""
    stereo: Literal["mono", "keep-side"] = "mono"
    """What to make of a stereo recording. The mean of its channels is converted. mono: the result
    is mono; keep-side: the result is stereo and keeps the recording's side (half of left minus
    right) unchanged, for a voice amid music."""
    track: int = 0
    """Track of sound to take from a file of several, 1 for the first; 0 takes the first one with a
    voice."""
    channel: int = 0
    """Channel to take from a recording of several, 1 for the first; 0 takes the mean of all, but
    leaves out channels without a voice where others have one."""
    seed: int = 0
    """Seed of the noise: the same seed gives the same output."""
    clean_audio: bool = False
    """Reduce steady noise in the result, by spectral gating; needs the extra `clean`."""
    clean_strength: float = 0.7
    """Share of the noise that is removed, 0..1."""
    resample_rate: int = 0
    """Sample rate of the result in Hz, 8000..192000; 0 keeps the voice's."""
    bit_rate: int = 0
    """Bit rate of mp3, m4a, aac and opus files in kbit/s; 0 is the format's default (160, 128, 128,
    96)."""
    bit_depth: BitDepth = "16"
    """Bit depth of wav and flac files; float (32 bit) is for wav only."""


@dataclasses.dataclass(frozen=True)
class ServeConfig:
    """Address and limits of the HTTP server."""

    host: str = "127.0.0.1"
    """Address to listen at; the default accepts connections from this machine only."""
    port: int = 8765
    """Port to listen at; 0 takes any free port."""
    open_to_network: bool = False
    """Allow a host that other machines can reach. Everyone who reaches it can use the voice:
    there is no password and no encryption."""
    max_megabytes: float = 200.0
    """Largest request body in megabytes; larger ones are refused."""
    max_seconds: float = 600.0
    """Longest recording in seconds; longer ones are refused."""
    max_waiting: int = 64
    """Recordings that may wait while one is converted; further ones are refused."""
    timeout: float = 30.0
    """Seconds that a client may take for its request, and for the answer; one more for every 64 kB
    of them."""


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Which part of the recordings `evaluate` compares, and their language."""

    start: float = 0.0
    """Start of the measured part of every recording, in seconds."""
    seconds: float = 30.0
    """Length of the measured part in seconds, at most. It bounds time and memory for recordings of
    any length."""
    language: str | None = None
    """Language of the speech as a code (en, fr, ...); detected in the source if not given."""


ExportFormat = Literal["rvc", "zip", "onnx", "onnx-rvc", "safetensors", "checkpoints"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = (
    "rvc",
    "zip",
    "onnx",
    "onnx-rvc",
    "safetensors",
    "checkpoints",
)
"""rvc is the .pth with its .index; zip holds both and the model card; onnx is for w-okada's voice
changer; onnx-rvc has the inputs of RVC's own export; checkpoints let RVC and Applio continue the
training."""

DEFAULT_EXPORT_FORMATS: tuple[ExportFormat, ...] = ("rvc", "zip", "onnx", "safetensors")


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Which files of a voice are written, and what they say about it."""

    formats: tuple[ExportFormat | Literal["all"], ...] = ()
    """Formats to write. Empty: those of DEFAULT_EXPORT_FORMATS that the voice can be had in; all:
    those of EXPORT_FORMATS."""
    name: str = ""
    """Name of the voice and its files; the run's if empty."""
    voice: Literal["best", "latest"] = "best"
    """The best voice by the hold-out, or the latest."""
    author: str = ""
    """Who made the voice."""
    license_note: str = ""
    """The rights to the recordings, for the model card."""


STORED_NAMES = {
    "normalization": "normalisation",
    "normalize_peak": "normalise_peak",
    "normalize_mix": "normalise_mix",
    "rematerialize": "rematerialise",
    "max_consecutive_skips": "skips_before_return",
}
"""Fields that were renamed after 0.1, and their first names. Runs and datasets keep the first
names: hashes of datasets and of cached features are computed over them."""


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as plain containers, as JSON files and hashes have it."""
    return {
        STORED_NAMES.get(name) or name: _to_plain(value) for name, value in vars(config).items()
    }


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    # asdict's own treatment of containers: none of ours holds a dataclass.
    return copy.deepcopy(value)


def from_dict(kind: type, values: dict[str, Any]) -> Any:
    """Rebuild a dataclass from `to_dict`'s result, nested ones and tuples included.

    Raises:
      TypeError: a key is unknown.
    """
    nested = {
        "audio": AudioConfig,
        "discriminator": DiscriminatorConfig,
        "train": TrainConfig,
    }
    current_names = {stored: name for name, stored in STORED_NAMES.items()}

    def build(name: str, value: Any) -> Any:
        if isinstance(value, dict) and name == "generator":
            return generator_from_dict(value)
        if isinstance(value, dict) and name in nested:
            return from_dict(nested[name], value)
        return _tuples(value)

    return kind(
        **{current_names.get(name, name): build(name, value) for name, value in values.items()}
    )


def generator_from_dict(values: dict[str, Any]) -> AnyGeneratorConfig:
    """Rebuild the sizes of a synthesizer; their fields show of which kind it is.

    Raises:
      TypeError: a key is unknown.
    """
    is_spectral = "content_dilations" in values
    return from_dict(SpectralGeneratorConfig if is_spectral else GeneratorConfig, values)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value


def option(field: str) -> str:
    """The command-line option of a field: `sample_rate` -> `--sample-rate`."""
    return "--" + field.replace("_", "-")
