"""Advice on an audited dataset: is it enough, how to train on it, what to clean."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal

from rvc_jax.config import PRESETS
from rvc_jax.data.audit.audit import Audit, SpeakerAudit
from rvc_jax.data.audit.slice_metrics import DC_OFFSET, NOISY_DB
from rvc_jax.data.preset_advice import advise_on_preset

Verdict = Literal["good", "notice", "problem"]

STEPS = (10_000, 25_000)
"""Range of training steps to aim at: RVC's usual 200 to 500 epochs on 20 minutes of speech."""

# Least and most epochs, for the lower and for the upper end of the advice.
_EPOCH_LIMITS = ((20, 500), (50, 1000))
_MAX_SINGLE_SPEAKERS = 4  # with more speakers, one line is for all of them
_MAX_REASONS = 6
_RATE_TOLERANCE = 1.03  # coders that cut at 16 kHz leave a little more
_ENOUGH = "RVC asks for at least 10 minutes of clean speech for a voice; 10 to 30 are usual"
_BAND_RULE = (
    "where a quarter of the speech is still 6 dB above the pauses and at most 70 dB below its own "
    "peak"
)
_SMALL_PRESETS = {"nano": "trying things out", "small": "a first voice in minutes"}
"""Presets whose rate the speech need not fill, and what they are made for."""
_NOTE_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


@dataclasses.dataclass(frozen=True)
class Advice:
    """One piece of advice."""

    topic: str
    verdict: Verdict
    text: str
    """What to do."""
    reason: str
    """The measured facts behind it."""


def advise(audit: Audit, platform: str = "tpu") -> tuple[Advice, ...]:
    """Return the advice on a dataset.

    In order: amount of speech, preset, machine, epochs, cleaning, dropped slices, and the speakers'
    pitch spans if there are few speakers.

    Args:
      audit: what was measured.
      platform: of JAX's devices on this machine, such as "cpu".
    """
    if len(audit.voices) > _MAX_SINGLE_SPEAKERS:
        amounts = [_judge_all_amounts(audit)]
        spans = []
    else:
        amounts = [_judge_amount(audit, speaker) for speaker in audit.voices]
        spans = [_describe_span(audit, speaker) for speaker in audit.voices]
    checked = [check(audit) for check in _CLEANING_CHECKS]
    cleaning = [advice for advice in checked if advice is not None]
    if not cleaning:
        reason = (
            "no noise, clipping, music, repetition or long silence was found beyond "
            "a few slices"
        )
        cleaning = [Advice("cleaning", "good", "Nothing needs cleaning.", reason)]
    dropped = _describe_dropped(audit)
    return (
        *amounts,
        _judge_preset(audit),
        *_judge_machine(audit, platform),
        _recommend_epochs(audit),
        *cleaning,
        *([] if dropped is None else [dropped]),
        *spans,
    )


def name_note(hz: float) -> str:
    """Return the name of the nearest note: 440 Hz is A4."""
    number = round(69 + 12 * math.log2(hz / 440))  # MIDI
    return f"{_NOTE_NAMES[number % 12]}{number // 12 - 1}"


def recommend_preset(audit: Audit) -> str | None:
    """Return the preset with the lowest sample rate that holds the speech's band.

    None if no speech was detected, or for `nano` and `small`.
    """
    if not audit.bandwidth_hz or audit.preset in _SMALL_PRESETS:
        return None
    version = PRESETS[audit.preset].version
    candidates = sorted(
        (preset.audio.sample_rate, preset.name)
        for preset in PRESETS.values()
        if preset.version == version and preset.name not in _SMALL_PRESETS
    )
    for rate, name in candidates:
        if rate / 2 * _RATE_TOLERANCE >= audit.bandwidth_hz:
            return name
    return candidates[-1][1]


def _judge_amount(audit: Audit, speaker: SpeakerAudit) -> Advice:
    topic = "amount of speech" if len(audit.voices) == 1 else f"speech of {speaker.name}"
    minutes = speaker.minutes
    if minutes < 5:
        text = (
            f"{minutes:.1f} minutes are too little for a good voice: add recordings, 10 minutes "
            "or more in all."
        )
        reason = f"{_ENOUGH}; with less, sounds and pitches are missing"
        return Advice(topic, "problem", text, reason)
    if minutes < 10:
        text = f"{minutes:.0f} minutes are few: 10 or more make a more even voice."
        return Advice(topic, "notice", text, _ENOUGH)
    if minutes <= 60:
        return Advice(topic, "good", f"{minutes:.0f} minutes are enough.", _ENOUGH)
    text = (
        f"{minutes / 60:.1f} hours are more than a voice needs: keep the cleanest hour if "
        "training takes too long."
    )
    reason = "what one voice gains from more than an hour is small; clean speech counts more"
    return Advice(topic, "good", text, reason)


def _judge_all_amounts(audit: Audit) -> Advice:
    """Judge the amounts of many speakers in one line."""
    topic = "amount of speech"
    shortest = sorted(audit.voices, key=lambda speaker: speaker.minutes)
    short = [speaker for speaker in shortest if speaker.minutes < 10]
    if not short:
        text = f"All {len(shortest)} speakers have enough of it."
        return Advice(topic, "good", text, _ENOUGH)
    text = f"{len(short)} of {len(shortest)} speakers have less than 10 minutes."
    first = short[:_MAX_SINGLE_SPEAKERS]
    names = ", ".join(f"{speaker.name} {speaker.minutes:.1f}" for speaker in first)
    return Advice(topic, "notice", text, f"{_ENOUGH}; the fewest: {names} minutes")


def _judge_preset(audit: Audit) -> Advice:
    topic = "sample rate and preset"
    rate_khz = audit.sample_rate / 1000
    band_khz = audit.bandwidth_hz / 1000
    best = recommend_preset(audit)
    if not band_khz:
        text = "No speech was found whose band could be measured."
        return Advice(topic, "problem", text, _BAND_RULE)
    if best is None:
        use = _SMALL_PRESETS[audit.preset]
        text = f"The speech reaches {band_khz:.1f} kHz; {audit.preset} is made for {use}."
        return Advice(topic, "good", text, _BAND_RULE)
    if PRESETS[best].audio.sample_rate < audit.sample_rate:
        text = (
            f"This {rate_khz:g} kHz dataset holds next to nothing above {band_khz:.1f} kHz: "
            f"train {best}."
        )
        reason = (
            f"{_BAND_RULE}; a higher rate costs time and teaches the voice to be dull there"
        )
        return Advice(topic, "problem", text, reason)
    text = f"The speech reaches {band_khz:.1f} kHz: {audit.preset} is right."
    reason = _BAND_RULE
    if audit.fills_band and rate_khz < 48:
        reason += (
            "; it fills the band, and the recordings may hold more than this dataset can show"
        )
    return Advice(topic, "good", text, reason)


def _judge_machine(audit: Audit, platform: str) -> list[Advice]:
    text = advise_on_preset(PRESETS[audit.preset].name, platform)
    if not text:
        return []
    text = f"{text[0].upper()}{text[1:]}."
    reason = "a step takes seconds on a CPU, and a voice tens of thousands of steps"
    return [Advice("machine", "notice", text, reason)]


def _recommend_epochs(audit: Audit) -> Advice:
    preset = PRESETS[audit.preset]
    if preset.name in _SMALL_PRESETS:
        text = f"Train the preset's own {preset.train.epochs} epochs."
        reason = f"{preset.name} has a recipe of its own, for a run of minutes on a CPU"
        return Advice("epochs", "good", text, reason)
    batch = preset.train.batch_per_chip
    steps = max(1, math.ceil(audit.train_slices / batch))  # per epoch
    few, many = (
        round(min(max(goal / steps, least), most) / 10) * 10
        for goal, (least, most) in zip(STEPS, _EPOCH_LIMITS, strict=True)
    )
    reason = (
        f"{audit.train_slices} slices in batches of {batch} are {steps} steps an epoch on one "
        f"accelerator; aim at {STEPS[0]:,} to {STEPS[1]:,} steps, which RVC's usual 200 to 500 "
        "epochs on 20 minutes come to, when starting from pretrained weights; the best voice by "
        "the hold-out is kept, so more only costs time"
    )
    return Advice("epochs", "good", f"Train {few} to {many} epochs.", reason)


def _check_noise(audit: Audit) -> Advice | None:
    ratio = audit.signal_to_noise_spread.median
    if ratio is not None and ratio < 30:
        text = "Reduce the noise (prepare with --clean-audio), or record in a quieter room."
        reason = (
            f"the signal-to-noise ratio is {ratio:.0f} dB in the median; 30 and more are good, "
            "the noise is learned"
        )
        return Advice("noise", _problem_if(ratio < NOISY_DB), text, reason)
    if audit.noisy_slices > 0.02 * _count_slices(audit):
        text = "Leave out the noisy recordings; the worst slices name some."
        reason = (
            f"{_count(audit.noisy_slices, 'slice')} have a signal-to-noise ratio below "
            f"{NOISY_DB:.0f} dB, most do not"
        )
        return Advice("noise", "notice", text, reason)
    return None


def _check_clipping(audit: Audit) -> Advice | None:
    slices = _count_slices(audit)
    if audit.clipped_slices <= 0.01 * slices:
        return None
    text = (
        "Leave out clipped recordings, or record again with a lower level: what was cut off is "
        "lost."
    )
    reason = f"{_count(audit.clipped_slices, 'slice')} have flat tops"
    verdict = _problem_if(audit.clipped_slices > 0.1 * slices)
    return Advice("clipping", verdict, text, reason)


def _check_music(audit: Audit) -> Advice | None:
    slices = _count_slices(audit)
    if audit.music_slices <= 0.02 * slices:
        return None
    text = (
        "Leave out music and singing, or prepare with --separate-vocals, unless the voice is to "
        "sing."
    )
    reason = (
        f"{_count(audit.music_slices, 'slice')} are likely music or singing: their tones are "
        "steady, unlike those of speech"
    )
    return Advice("music", _problem_if(audit.music_slices > 0.2 * slices), text, reason)


def _check_speech(audit: Audit) -> Advice | None:
    if audit.speech_share >= 0.7:
        return None
    text = "Prepare with --vad, which drops slices without speech."
    reason = f"voice activity is detected in {audit.speech_share:.0%} of the time"
    return Advice("other than speech", _problem_if(audit.speech_share < 0.4), text, reason)


def _check_silence(audit: Audit) -> Advice | None:
    if audit.silence_share <= 0.25:
        return None
    text = "Cut silence away: prepare with --slicing auto and a higher --silence-db."
    reason = (
        f"{audit.silence_share:.0%} of the slices' time is silence, which the voice learns too"
    )
    return Advice("silence", _problem_if(audit.silence_share > 0.5), text, reason)


def _check_repetition(audit: Audit) -> Advice | None:
    seconds = audit.repeated_seconds
    if seconds <= 0.005 * 60 * audit.slice_minutes:
        return None
    text = "Remove one of every two recordings that hold the same sound; they are listed below."
    reason = (
        f"{seconds:.0f} s are there more than once and weigh more in training than the rest"
    )
    verdict = _problem_if(seconds > 3 * audit.slice_minutes)
    return Advice("repetition", verdict, text, reason)


def _check_holdout(audit: Audit) -> Advice | None:
    if not audit.holdout_in_train_seconds:
        return None
    text = "Remove the repetitions before you trust the hold-out."
    reason = (
        f"{audit.holdout_in_train_seconds:.0f} s of it are in the training as well: the voice has "
        "learned them"
    )
    return Advice("hold-out", "notice", text, reason)


def _check_dull_files(audit: Audit) -> Advice | None:
    if not audit.narrow_files:
        return None
    seconds = sum(item.speech_seconds for item in audit.narrow_files)
    files = _count(len(audit.narrow_files), "file")
    band_khz = audit.narrow_files[0].bandwidth_hz / 1000
    text = "Leave out the files that sound duller than the rest; they are listed below."
    reason = (
        f"{files} ({seconds / 60:.1f} minutes of speech), the dullest with nothing above "
        f"{band_khz:.1f} kHz"
    )
    return Advice("dull files", "notice", text, reason)


def _check_offset(audit: Audit) -> Advice | None:
    if audit.dc_offset <= DC_OFFSET:
        if not audit.offset_files:
            return None
        text = (
            "The offset was removed; check the sound card or cable before you record more: it "
            "takes away headroom."
        )
        more = len(audit.offset_files) - 1
        reason = audit.offset_files[0] + (f", and {_count(more, 'other')}" if more else "")
        return Advice("offset", "notice", text, reason)
    text = "Prepare with the high-pass filter (--high-pass-hz 48)."
    reason = f"a slice has a constant offset of {audit.dc_offset:.1%} of full scale"
    return Advice("offset", "notice", text, reason)


def _check_loudness(audit: Audit) -> Advice | None:
    low = audit.loudness_spread.low
    high = audit.loudness_spread.high
    if low is None or high is None or high - low <= 12:
        return None
    text = "Prepare with --normalization loudness, which brings every file to one loudness."
    reason = f"the slices are {high - low:.0f} LU apart (5 to 95 %)"
    return Advice("loudness", "notice", text, reason)


def _check_pitch(audit: Audit) -> Advice | None:
    if audit.voiced_share >= 0.2:
        return None
    text = "Try another pitch method (--f0-method), and listen whether this is speech."
    reason = f"only {audit.voiced_share:.0%} of the frames have a pitch"
    return Advice("pitch", "problem", text, reason)


_CLEANING_CHECKS: tuple[Callable[[Audit], Advice | None], ...] = (
    _check_noise,
    _check_clipping,
    _check_music,
    _check_speech,
    _check_silence,
    _check_repetition,
    _check_holdout,
    _check_dull_files,
    _check_offset,
    _check_loudness,
    _check_pitch,
)
"""In the order in which the advice is shown."""


def _describe_dropped(audit: Audit) -> Advice | None:
    if not audit.dropped:
        return None
    total = sum(audit.dropped.values())
    items = "slice or file was" if total == 1 else "slices or files were"
    reasons = [f"{reason} ({count})" for reason, count in audit.dropped.items()]
    listed = ", ".join(reasons[:_MAX_REASONS])
    if len(reasons) > _MAX_REASONS:
        listed += ", and others"
    return Advice("dropped", "notice", f"{total} {items} dropped in preparation.", listed)


def _describe_span(audit: Audit, speaker: SpeakerAudit) -> Advice:
    topic = "pitch span" if len(audit.voices) == 1 else f"pitch span of {speaker.name}"
    low = speaker.pitch_hz.low
    high = speaker.pitch_hz.high
    if low is None or high is None:
        return Advice(topic, "problem", "The speech has no pitch.", "no frame is voiced")
    notes = f"{name_note(low)} to {name_note(high)}"
    text = f"The voice covers {notes} ({low:.0f} to {high:.0f} Hz)."
    reason = (
        "5 to 95 % of the voiced frames; what is converted sounds best when transposed into this "
        "span"
    )
    return Advice(topic, "good", text, reason)


def _count_slices(audit: Audit) -> int:
    return max(audit.slices, 1)


def _problem_if(is_problem: bool) -> Verdict:
    return "problem" if is_problem else "notice"


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"
