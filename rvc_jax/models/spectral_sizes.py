"""Limits of the sizes of the small preset's networks, for files that strangers made."""

from __future__ import annotations

from rvc_jax.config import AudioConfig, DiscriminatorConfig, SpectralGeneratorConfig

PITCH_FEATURES = 10
"""Numbers that describe the pitch of a frame to the decoder."""

_MAX_BLOCKS = 64
_MAX_KERNEL = 63
_MAX_MARGIN = 1024
"""Most frames on one side that a block's filter may take in."""
_MAX_WINDOW = 4096
"""Longest window of a transform in samples: its matrices have the square of this many numbers."""
_MAX_WIDTH = 1 << 16
"""Most values per frame in any layer."""
_MAX_PARAMETERS = 100_000_000
_MAX_RATE = 192_000


def check_spectral_sizes(generator: SpectralGeneratorConfig, audio: AudioConfig) -> None:
    """Raise ValueError, with the reason, unless a synthesizer can have these sizes.

    They are positive integers already. What passes is built and run in a few gigabytes.
    """
    if generator.has_pitch is not True:
        raise ValueError("its networks need a pitch, and its config says that it has none")
    dilations = generator.content_dilations
    blocks = (len(dilations), generator.frame_blocks, generator.step_blocks)
    if max(blocks) > _MAX_BLOCKS:
        raise ValueError("its config has more layers than any voice")
    kernel = generator.kernel
    if kernel % 2 == 0 or kernel > _MAX_KERNEL:
        raise ValueError(
            f"its blocks have kernels of {kernel}: an odd number up to {_MAX_KERNEL} is possible"
        )
    if kernel // 2 * max(dilations, default=1) > _MAX_MARGIN:
        raise ValueError(f"its blocks have dilations up to {max(dilations)}, which is too many")
    _check_window(generator, audio)
    count = count_parameters(generator, audio)
    if count > _MAX_PARAMETERS:
        raise ValueError(f"its networks have {count:,} parameters, more than any voice")


def _check_window(generator: SpectralGeneratorConfig, audio: AudioConfig) -> None:
    steps = generator.steps_per_frame
    if audio.sample_rate > _MAX_RATE or audio.sample_rate % 100 or audio.hop % (2 * steps):
        raise ValueError(f"{steps} spectra a frame do not fit {audio.sample_rate} Hz")
    if 4 * audio.hop // steps > _MAX_WINDOW:
        raise ValueError(
            f"its windows have {4 * audio.hop // steps} samples, which is too many"
        )
    widths = (
        generator.expansion * generator.channels,
        steps * generator.expansion * generator.step_channels,
        steps * 3 * _count_bins(generator, audio),
    )
    if max(widths) > _MAX_WIDTH:
        raise ValueError(f"a layer of its networks has {max(widths):,} values for every frame")


def count_parameters(generator: SpectralGeneratorConfig, audio: AudioConfig) -> int:
    """Return the number of parameters of a synthesizer, without building it."""
    frame_blocks = len(generator.content_dilations) + generator.frame_blocks
    step_width = generator.step_channels
    return (
        _linear(generator.content_channels, generator.channels)
        + generator.speakers * generator.speaker_channels
        + frame_blocks * _block(generator.channels, generator)
        + _linear(PITCH_FEATURES, generator.channels)
        + _linear(generator.channels, step_width)
        + generator.steps_per_frame * step_width
        + generator.step_blocks * _block(step_width, generator)
        + _linear(step_width, 3 * _count_bins(generator, audio))
    )


def _block(channels: int, generator: SpectralGeneratorConfig) -> int:
    hidden = generator.expansion * channels
    return (
        (generator.kernel + 1) * channels
        + _linear(generator.speaker_channels, 2 * channels)
        + _linear(channels, hidden)
        + _linear(hidden, channels)
    )


def _linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def _count_bins(generator: SpectralGeneratorConfig, audio: AudioConfig) -> int:
    return 2 * audio.hop // generator.steps_per_frame + 1


def check_spectra(discriminator: DiscriminatorConfig, audio: AudioConfig) -> None:
    """Raise ValueError, with the reason, unless spectrograms of these sizes can be had.

    They are those of the discriminators and of the mel loss; they are positive integers already.
    """
    if len(discriminator.spectrum_channels) > _MAX_BLOCKS:
        raise ValueError("its discriminators have more layers than any")
    if discriminator.spectra and discriminator.spectrum_kernel % 2 == 0:
        raise ValueError(
            f"spectrum_kernel is {discriminator.spectrum_kernel}, which is not odd"
        )
    for scale in audio.mel_scales:
        if len(scale) != 2 or scale[1] > scale[0] // 2:
            raise ValueError(f"{scale} is not a window and a number of mel bands")
    windows = [*discriminator.spectra, *(window for window, _ in audio.mel_scales)]
    for window in windows:
        if window % 4 or window > _MAX_WINDOW:
            raise ValueError(f"a window of {window} samples is not possible")
        # A segment is reflected at its ends, by less than its own length.
        if window > 2 * audio.segment_samples:
            raise ValueError(f"a segment is too short for a window of {window} samples")
