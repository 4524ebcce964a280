"""The figures of a conversion: what each means, which direction is better, where it comes from, how
it is written."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import NamedTuple


@dataclasses.dataclass(frozen=True)
class ConversionMetrics:
    """How a conversion compares with its source, with the target speaker, and in itself. None: it
    could not be had."""

    f0_correlation: float | None = None
    """Pearson's correlation of log f0 over the frames that are voiced in both source and
    conversion: is the melody kept? -1..1, higher is better. D. J. Hermes, Measuring the perceptual
    similarity of pitch contours, 1998."""
    f0_rmse_cents: float | None = None
    """Root mean square, in cents, of the difference of both pitches over the same frames, after
    their constant transposition is taken out; octave errors of the pitch method count. From 0,
    lower is better. Hermes, 1998."""
    gross_pitch_errors: float | None = None
    """Share of the same frames whose pitch is more than 20 % off after the transposition is taken
    out. 0..1, lower is better. W. Chu and A. Alwan, Reducing F0 frame error of F0 tracking
    algorithms under noisy conditions, 2009."""
    voicing_error: float | None = None
    """Share of all frames that are voiced in one of both only. 0..1, lower is better. Chu and
    Alwan, 2009."""
    transposition_semitones: float | None = None
    """Median difference of both pitches in semitones, above 0 for a higher conversion. A fact:
    neither is better."""
    delay_ms: float | None = None
    """Milliseconds by which the conversion comes later than its source, by the best correlation of
    their level curves within half a second, in steps of 10 ms; taken out before pitches are
    compared. Nearer to 0 is better."""
    mcd_db: float | None = None
    """Mel-cepstral distortion in dB to a recording of the target speaker that says the same words:
    coefficients 1 to 24, 10 / ln 10 * sqrt(2 * sum of squares), without silence, the mean along the
    path of dynamic time warping. From 0, lower is better. R. Kubichek, Mel-cepstral distance
    measure for objective speech quality assessment, 1993."""
    similarity: float | None = None
    """Cosine of the speaker embeddings of conversion and target: about 0.6 for two people, above
    0.8 for one. -1..1, higher is better. L. Wan et al., Generalized end-to-end loss for speaker
    verification, arXiv 1710.10467."""
    source_similarity: float | None = None
    """The same of source and target: where the conversion came from. -1..1; a good conversion is
    well above it."""
    dnsmos_overall: float | None = None
    """Overall opinion that listeners would have of the conversion. 1..5, higher is better. C. Reddy
    et al., DNSMOS P.835, arXiv 2110.01763."""
    dnsmos_signal: float | None = None
    """The same of the speech alone. 1..5, higher is better. arXiv 2110.01763."""
    dnsmos_background: float | None = None
    """The same of the background: 5 is none that disturbs. 1..5, higher is better. arXiv
    2110.01763."""
    dnsmos_p808: float | None = None
    """Overall opinion by the older model. 1..5, higher is better. C. Reddy et al., DNSMOS, arXiv
    2010.15258."""
    source_dnsmos_overall: float | None = None
    """Overall opinion of the source: a conversion of a poor recording is seldom better. 1..5."""
    word_error_rate: float | None = None
    """Word errors of the conversion's transcript against the source's, by the same recogniser, per
    word of the latter. 0 to 1 and above, lower is better; 0 if the same is understood, right or
    wrong. A. Radford et al., Robust speech recognition via large-scale weak supervision (Whisper),
    arXiv 2212.04356."""
    character_error_rate: float | None = None
    """The same by characters, for languages without spaces between words, and for near misses.
    Lower is better."""
    loudness_lufs: float | None = None
    """Integrated loudness of the conversion in LUFS. A fact. ITU-R BS.1770-4."""
    source_loudness_lufs: float | None = None
    """That of the source."""
    peak_dbfs: float | None = None
    """Largest sample of the conversion in dB of full scale: near 0 it may be clipped. A fact."""
    clipped: float | None = None
    """Share of the conversion's samples on flat tops, as clipping leaves them, about half of the
    clipped ones. 0..1, lower is better; above 0.001 it is heard.
    `rvc_jax.metrics.signal.flat_top_share`."""
    silent: float | None = None
    """Share of the conversion in silence: 40 dB below its loud moments, or below -60 dB of full
    scale. 0..1; far from the source's, something was lost or added.
    `rvc_jax.metrics.signal.silent_share`."""
    source_silent: float | None = None
    """That of the source."""
    bandwidth_hz: float | None = None
    """Highest frequency in Hz at which the conversion's speech is heard above its pauses and within
    70 dB of its peak. Higher is better, up to the target's. `rvc_jax.metrics.signal.bandwidth`."""
    target_bandwidth_hz: float | None = None
    """The same of the target's recordings, their median: the band that the voice has."""
    seconds: float | None = None
    """Seconds of the conversion that were measured."""


class _Row(NamedTuple):
    label: str
    name: str
    form: str
    beside: tuple[str, str] | None = None
    """Another figure that is shown in the same row, and whose it is."""


_ROWS = (
    _Row("f0 correlation", "f0_correlation", "{:.3f}"),
    _Row("f0 error", "f0_rmse_cents", "{:.0f} cents"),
    _Row("gross pitch errors", "gross_pitch_errors", "{:.1%}"),
    _Row("voicing errors", "voicing_error", "{:.1%}"),
    _Row("transposition", "transposition_semitones", "{:+.2f} semitones"),
    _Row("delay", "delay_ms", "{:.0f} ms"),
    _Row("mel-cepstral distortion", "mcd_db", "{:.2f} dB"),
    _Row("speaker similarity", "similarity", "{:.3f}", ("source_similarity", "source")),
    _Row("DNSMOS overall", "dnsmos_overall", "{:.2f}", ("source_dnsmos_overall", "source")),
    _Row("DNSMOS speech", "dnsmos_signal", "{:.2f}"),
    _Row("DNSMOS background", "dnsmos_background", "{:.2f}"),
    _Row("DNSMOS P.808", "dnsmos_p808", "{:.2f}"),
    _Row("word error rate", "word_error_rate", "{:.1%}"),
    _Row("character error rate", "character_error_rate", "{:.1%}"),
    _Row("loudness", "loudness_lufs", "{:.1f} LUFS", ("source_loudness_lufs", "source")),
    _Row("peak", "peak_dbfs", "{:.1f} dB"),
    _Row("clipped", "clipped", "{:.2%}"),
    _Row("silence", "silent", "{:.1%}", ("source_silent", "source")),
    _Row("bandwidth", "bandwidth_hz", "{:.0f} Hz", ("target_bandwidth_hz", "target")),
    _Row("measured", "seconds", "{:.1f} s"),
)


def format_rows(figures: ConversionMetrics) -> list[tuple[str, str]]:
    """The figures that there are, as rows of a name and a text."""
    rows = []
    for row in _ROWS:
        value = getattr(figures, row.name)
        if value is None:
            continue
        text = row.form.format(value)
        if row.beside and (other := getattr(figures, row.beside[0])) is not None:
            text += f" ({row.beside[1]}: {row.form.format(other)})"
        rows.append((row.label, text))
    return rows


def mean_metrics(all_figures: Iterable[ConversionMetrics]) -> ConversionMetrics:
    """Mean of every figure over those that have it."""
    listed = [dataclasses.asdict(figures) for figures in all_figures]
    means = {}
    for field in dataclasses.fields(ConversionMetrics):
        values = [figures[field.name] for figures in listed if figures[field.name] is not None]
        means[field.name] = math.fsum(values) / len(values) if values else None
    return ConversionMetrics(**means)


_SUMMARY = (
    "f0_correlation",
    "f0_rmse_cents",
    "voicing_error",
    "mcd_db",
    "similarity",
    "dnsmos_overall",
    "word_error_rate",
)


def summarize(figures: ConversionMetrics) -> str:
    """The chief ones of the figures that there are, in one line."""
    texts = [
        f"{row.label} {row.form.format(getattr(figures, row.name))}"
        for row in _ROWS
        if row.name in _SUMMARY and getattr(figures, row.name) is not None
    ]
    return ", ".join(texts) or "silent, or nothing to compare with"
