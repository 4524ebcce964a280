"""What an audit says about a dataset in plain words: is it enough, how to train on it, what to
clean."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Literal

from rvc_jax.config import PRESETS
from rvc_jax.data.audit.audit import Audit, SpeakerAudit
from rvc_jax.data.audit.slice_metrics import DC_OFFSET, NOISY_DB

Verdict = Literal["good", "notice", "problem"]

STEPS = (10_000, 25_000)
"""Steps to aim at: the 200 to 500 epochs that are usual with RVC take so many on 20 minutes of
speech."""

_EPOCHS = (
    (20, 500),
    (50, 1000),
)  # least and most, for the lower and the upper end of the advice
_MANY_VOICES = 4
_MAX_REASONS = 6
_RATE_TOLERANCE = 1.03  # coders that cut at 16 kHz leave a little more
_ENOUGH = "RVC asks for at least 10 minutes of clean speech for a voice; 10 to 30 are usual"
_NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


@dataclasses.dataclass(frozen=True)
class Advice:
    topic: str
    verdict: Verdict
    text: str
    reason: str


def advise(audit: Audit) -> tuple[Advice, ...]:
    """Advice on a dataset: amount, preset, epochs, then what to clean, then what the voices cover,
    if they are few."""
    many = len(audit.voices) > _MANY_VOICES
    amounts = [_amounts(audit)] if many else [_amount(audit, voice) for voice in audit.voices]
    cleaning = list(_cleaning(audit))
    if not cleaning:
        reason = "no noise, clipping, music, repetition or long silence was found beyond a few slices"
        cleaning = [Advice("cleaning", "good", "Nothing needs cleaning.", reason)]
    spans = () if many else (_span(audit, voice) for voice in audit.voices)
    return (*amounts, _preset(audit), _epochs(audit), *cleaning, *_dropped(audit), *spans)


def note_name(hz: float) -> str:
    """The nearest note: 440 Hz is A4."""
    number = round(69 + 12 * math.log2(hz / 440))
    return f"{_NOTES[number % 12]}{number // 12 - 1}"


def recommend_preset(audit: Audit) -> str | None:
    """The preset of the least rate that holds the speech's band; None if no speech was heard, or
    for `nano`."""
    if not audit.bandwidth_hz or audit.preset == "nano":
        return None
    version = PRESETS[audit.preset].version
    fitting = sorted(
        (preset.audio.sample_rate, preset.name)
        for preset in PRESETS.values()
        if preset.version == version and preset.name != "nano"
    )
    for rate, name in fitting:
        if rate / 2 * _RATE_TOLERANCE >= audit.bandwidth_hz:
            return name
    return fitting[-1][1]


def _amount(audit: Audit, voice: SpeakerAudit) -> Advice:
    minutes = voice.minutes
    topic = "amount of speech" if len(audit.voices) == 1 else f"speech of {voice.name}"
    reason = _ENOUGH
    if minutes < 5:
        text = f"{minutes:.1f} minutes are too little for a good voice: add recordings, 10 minutes or more in all."
        return Advice(
            topic, "problem", text, f"{reason}; with less, sounds and pitches are missing"
        )
    if minutes < 10:
        return Advice(
            topic,
            "notice",
            f"{minutes:.0f} minutes are few: 10 or more make a more even voice.",
            reason,
        )
    if minutes <= 60:
        return Advice(topic, "good", f"{minutes:.0f} minutes are enough.", reason)
    text = f"{minutes / 60:.1f} hours are more than a voice needs: keep the cleanest hour if training takes too long."
    return Advice(
        topic,
        "good",
        text,
        "what one voice gains from more than an hour is small; clean speech counts more",
    )


def _amounts(audit: Audit) -> Advice:
    """Of many speakers at once."""
    shortest = sorted(audit.voices, key=lambda voice: voice.minutes)
    few = [voice for voice in shortest if voice.minutes < 10]
    if not few:
        return Advice(
            "amount of speech",
            "good",
            f"All {len(shortest)} speakers have enough of it.",
            _ENOUGH,
        )
    text = f"{len(few)} of {len(shortest)} speakers have less than 10 minutes."
    names = ", ".join(f"{voice.name} {voice.minutes:.1f}" for voice in few[:_MANY_VOICES])
    return Advice("amount of speech", "notice", text, f"{_ENOUGH}; the fewest: {names} minutes")


def _preset(audit: Audit) -> Advice:
    rate = audit.sample_rate / 1000
    reach = audit.bandwidth_hz / 1000
    best = recommend_preset(audit)
    topic = "sample rate and preset"
    how = "where a quarter of the speech is still 6 dB above the pauses and at most 70 dB below its own peak"
    if not reach:
        return Advice(
            topic, "problem", "No speech was heard that a band could be measured of.", how
        )
    if best is None:
        return Advice(
            topic,
            "good",
            f"The speech reaches {reach:.1f} kHz; nano is made for trying things out.",
            how,
        )
    if PRESETS[best].audio.sample_rate < audit.sample_rate:
        text = f"This {rate:g} kHz dataset holds next to nothing above {reach:.1f} kHz: train {best}."
        return Advice(
            topic,
            "problem",
            text,
            f"{how}; a higher rate costs time and teaches the voice to be dull there",
        )
    text = f"The speech reaches {reach:.1f} kHz: {audit.preset} is right."
    if audit.fills_band and rate < 48:
        how += (
            "; it fills the band, and the recordings may hold more than this dataset can show"
        )
    return Advice(topic, "good", text, how)


def _epochs(audit: Audit) -> Advice:
    preset = PRESETS[audit.preset]
    if preset.name == "nano":
        text = f"Train the preset's own {preset.train.epochs} epochs."
        return Advice(
            "epochs", "good", text, "nano learns from scratch with a recipe of its own"
        )
    batch = preset.train.batch_per_chip
    steps = max(1, math.ceil(audit.train_slices / batch))
    wanted = zip(STEPS, _EPOCHS, strict=True)
    few, many = (
        round(min(max(goal / steps, least), most) / 10) * 10 for goal, (least, most) in wanted
    )
    reason = (
        f"{audit.train_slices} slices in batches of {batch} are {steps} steps an epoch on one accelerator; aim at "
        f"{STEPS[0]:,} to {STEPS[1]:,} steps, which RVC's usual 200 to 500 epochs on 20 minutes come to, when starting "
        "from pretrained weights; the best voice by the hold-out is kept, so more only costs time"
    )
    return Advice("epochs", "good", f"Train {few} to {many} epochs.", reason)


def _cleaning(audit: Audit) -> Iterator[Advice]:
    """Only what is worth a word."""
    count = max(audit.slices, 1)
    noise = audit.signal_to_noise_spread.median
    if noise is not None and noise < 30:
        text = "Reduce the noise (prepare with --clean-audio), or record in a quieter room."
        reason = f"the signal-to-noise ratio is {noise:.0f} dB in the median; 30 and more are good, the noise is learnt"
        yield Advice("noise", _verdict(noise < NOISY_DB), text, reason)
    elif audit.noisy_slices > 0.02 * count:
        reason = f"{_count(audit.noisy_slices, 'slice')} have a signal-to-noise ratio below {NOISY_DB:.0f} dB, most do not"
        yield Advice(
            "noise",
            "notice",
            "Leave out the noisy recordings; the worst slices name some.",
            reason,
        )
    if audit.clipped_slices > 0.01 * count:
        text = "Leave out clipped recordings, or record again with a lower level: what was cut off is lost."
        reason = f"{_count(audit.clipped_slices, 'slice')} have flat tops"
        yield Advice("clipping", _verdict(audit.clipped_slices > 0.1 * count), text, reason)
    if audit.music_slices > 0.02 * count:
        text = "Leave out music and singing, or prepare with --separate-vocals, unless the voice shall sing."
        reason = f"{_count(audit.music_slices, 'slice')} are likely music or singing: tones stand still as in no speech"
        yield Advice("music", _verdict(audit.music_slices > 0.2 * count), text, reason)
    if audit.speech_share < 0.7:
        text = "Prepare with --vad, which drops slices without speech."
        reason = f"the detector of voice activity hears speech in {audit.speech_share:.0%} of the time"
        yield Advice("other than speech", _verdict(audit.speech_share < 0.4), text, reason)
    if audit.silence_share > 0.25:
        text = "Cut silence away: prepare with --slicing auto and a higher --silence-db."
        reason = f"{audit.silence_share:.0%} of the slices' time is silence, which the voice learns too"
        yield Advice("silence", _verdict(audit.silence_share > 0.5), text, reason)
    yield from _repetition(audit)
    if audit.narrow_files:
        seconds = sum(item.speech_seconds for item in audit.narrow_files)
        text = "Leave out the files that sound duller than the rest; they are listed below."
        files = _count(len(audit.narrow_files), "file")
        reach = audit.narrow_files[0].bandwidth_hz / 1000
        reason = f"{files} ({seconds / 60:.1f} minutes of speech), the dullest with nothing above {reach:.1f} kHz"
        yield Advice("dull files", "notice", text, reason)
    if audit.dc_offset > DC_OFFSET:
        text = "Prepare with the high-pass filter (--high-pass-hz 48)."
        yield Advice(
            "offset",
            "notice",
            text,
            f"a slice has a constant offset of {audit.dc_offset:.1%} of full scale",
        )
    low = audit.loudness_spread.low
    high = audit.loudness_spread.high
    if low is not None and high - low > 12:
        text = "Prepare with --normalization loudness, which brings every file to one loudness."
        yield Advice(
            "loudness", "notice", text, f"the slices lie {high - low:.0f} LU apart (5 to 95 %)"
        )
    if audit.voiced_share < 0.2:
        text = "Try another pitch method (--f0-method), and listen whether this is speech."
        yield Advice(
            "pitch",
            "problem",
            text,
            f"only {audit.voiced_share:.0%} of the frames have a pitch",
        )


def _repetition(audit: Audit) -> Iterator[Advice]:
    if audit.repeated_seconds > 0.005 * 60 * audit.slice_minutes:
        text = "Remove one of every two recordings that hold the same sound; they are listed below."
        reason = f"{audit.repeated_seconds:.0f} s are there more than once and weigh more in training than the rest"
        yield Advice(
            "repetition",
            _verdict(audit.repeated_seconds > 3 * audit.slice_minutes),
            text,
            reason,
        )
    if audit.holdout_in_train_seconds:
        text = "Remove the repetitions before you trust the hold-out."
        reason = f"{audit.holdout_in_train_seconds:.0f} s of it are in the training as well: the voice has heard them"
        yield Advice("hold-out", "notice", text, reason)


def _dropped(audit: Audit) -> Iterator[Advice]:
    if audit.dropped:
        total = sum(audit.dropped.values())
        text = f"{total} {'piece was' if total == 1 else 'pieces were'} dropped in preparation."
        reasons = ", ".join(
            f"{reason} ({times})"
            for reason, times in list(audit.dropped.items())[:_MAX_REASONS]
        )
        reasons += ", and others" if len(audit.dropped) > _MAX_REASONS else ""
        yield Advice("dropped", "notice", text, reasons)


def _span(audit: Audit, voice: SpeakerAudit) -> Advice:
    topic = "pitch span" if len(audit.voices) == 1 else f"pitch span of {voice.name}"
    low = voice.pitch_hz.low
    high = voice.pitch_hz.high
    if low is None:
        return Advice(topic, "problem", "The speech has no pitch.", "no frame is voiced")
    text = (
        f"The voice covers {note_name(low)} to {note_name(high)} ({low:.0f} to {high:.0f} Hz)."
    )
    reason = "5 to 95 % of the voiced frames; what is converted sounds best when transposed into this span"
    return Advice(topic, "good", text, reason)


def _verdict(is_problem: bool) -> Verdict:
    return "problem" if is_problem else "notice"


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"
