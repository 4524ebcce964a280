"""The metrics of a conversion: what each means and how it is formatted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import NamedTuple


@dataclasses.dataclass(frozen=True)
class ConversionMetrics:
    """A conversion compared with its source, with the target speaker, and by itself.

    None: not measured.
    """

    f0_correlation: float | None = None
    """Pearson's correlation of log f0 over the frames voiced in both source and conversion: does
    the conversion follow the melody? -1..1, higher is better. D. J. Hermes, Measuring the
    perceptual similarity of pitch contours, 1998."""
    f0_median_cents: float | None = None
    """Median absolute pitch difference in cents over the same frames, without the constant
    transposition. From 0, lower is better. `rvc_jax.metrics.pitch.pitch_errors`."""
    f0_rmse_cents: float | None = None
    """Root mean square pitch difference in cents over the same frames, without the constant
    transposition and without gross errors. From 0, lower is better. Hermes, 1998."""
    gross_pitch_errors: float | None = None
    """Share of the same frames whose pitch is more than 20 % off, without the constant
    transposition. 0..1, lower is better. W. Chu and A. Alwan, Reducing F0 frame error of F0
    tracking algorithms under noisy conditions, 2009."""
    voicing_error: float | None = None
    """Share of all frames that are voiced in only one of the two. 0..1, lower is better. Chu and
    Alwan, 2009."""
    transposition_semitones: float | None = None
    """Median pitch difference in semitones, above 0 if the conversion is higher. Informative:
    neither direction is better."""
    delay_ms: float | None = None
    """Milliseconds by which the conversion comes later than its source: the lag within half a
    second, in steps of 10 ms, at which their level curves correlate best. Removed before pitches
    are compared. Nearer to 0 is better."""
    mcd_db: float | None = None
    """Mel-cepstral distortion in dB to a recording of the target speaker that says the same words:
    10 / ln 10 * sqrt(2 * sum of squares) over coefficients 1 to 24, without silence, averaged along
    the path of dynamic time warping. From 0, lower is better. R. Kubichek, Mel-cepstral distance
    measure for objective speech quality assessment, 1993."""
    similarity: float | None = None
    """Cosine similarity of the speaker embeddings of conversion and target: about 0.6 for two
    people, above 0.8 for one. -1..1, higher is better. L. Wan et al., Generalized end-to-end loss
    for speaker verification, arXiv 1710.10467."""
    source_similarity: float | None = None
    """The same for source and target, as a baseline. -1..1; a good conversion is well above it."""
    dnsmos_overall: float | None = None
    """Predicted overall opinion of listeners on the conversion. 1..5, higher is better. C. Reddy et
    al., DNSMOS P.835, arXiv 2110.01763."""
    dnsmos_signal: float | None = None
    """Predicted opinion on the speech alone. 1..5, higher is better. arXiv 2110.01763."""
    dnsmos_background: float | None = None
    """Predicted opinion on the background; 5: nothing disturbs. 1..5, higher is better. arXiv
    2110.01763."""
    dnsmos_p808: float | None = None
    """Predicted overall opinion by the older model. 1..5, higher is better. C. Reddy et al.,
    DNSMOS, arXiv 2010.15258."""
    source_dnsmos_overall: float | None = None
    """Predicted overall opinion on the source: a conversion of a poor recording is seldom better.
    1..5."""
    word_error_rate: float | None = None
    """Word errors in the conversion's transcript relative to the source's, by the same speech
    recognizer, per word of the source. 0 to 1 and above, lower is better; 0 if both transcripts
    agree, right or wrong. A. Radford et al., Robust speech recognition via large-scale weak
    supervision (Whisper), arXiv 2212.04356."""
    character_error_rate: float | None = None
    """The same by characters, for languages without spaces between words, and for near misses.
    Lower is better."""
    loudness_lufs: float | None = None
    """Integrated loudness of the conversion in LUFS. Informative. ITU-R BS.1770-4."""
    source_loudness_lufs: float | None = None
    """Integrated loudness of the source in LUFS."""
    peak_dbfs: float | None = None
    """Largest sample of the conversion in dB of full scale; near 0 it may be clipped.
    Informative."""
    clipped: float | None = None
    """Share of the conversion's samples on flat tops, as clipping leaves them: about half of the
    clipped ones. 0..1, lower is better; audible above 0.001.
    `rvc_jax.metrics.signal.flat_top_share`."""
    silent: float | None = None
    """Share of the conversion that is silent: 40 dB below its loud frames, or below -60 dB of full
    scale. 0..1; far from the source's share, something was lost or added.
    `rvc_jax.metrics.signal.silent_share`."""
    source_silent: float | None = None
    """The same share of the source."""
    bandwidth_hz: float | None = None
    """Highest frequency in Hz at which the conversion's speech stands out of its pauses and is
    within 70 dB of its peak. Higher is better, up to the target's.
    `rvc_jax.metrics.signal.bandwidth`."""
    target_bandwidth_hz: float | None = None
    """The median of the same over the target's recordings: the voice's own band."""
    seconds: float | None = None
    """Seconds of the conversion that were measured."""


class _Row(NamedTuple):
    label: str
    name: str
    template: str
    beside: tuple[str, str] | None = None
    """Another metric that is shown in the same row, and whose it is."""


# fmt: off
_ROWS = (
    _Row("f0 correlation", "f0_correlation", "{:.3f}"),
    _Row("f0 error, median", "f0_median_cents", "{:.0f} cents"),
    _Row("f0 error, RMS", "f0_rmse_cents", "{:.0f} cents"),
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
# fmt: on

SHOWN = frozenset(name for row in _ROWS for name in (row.name, *(row.beside or ())[:1]))
"""Metrics that the table has."""

_SUMMARY = (
    "f0_correlation",
    "f0_median_cents",
    "voicing_error",
    "mcd_db",
    "similarity",
    "dnsmos_overall",
    "word_error_rate",
)


def format_rows(metrics: ConversionMetrics) -> list[tuple[str, str]]:
    """Format the metrics that were measured as table rows: (label, text)."""
    rows = []
    for row in _ROWS:
        value = getattr(metrics, row.name)
        if value is None:
            continue
        text = row.template.format(value)
        if row.beside:
            name, owner = row.beside
            other = getattr(metrics, name)
            if other is not None:
                text += f" ({owner}: {row.template.format(other)})"
        rows.append((row.label, text))
    return rows


def summarize(metrics: ConversionMetrics) -> str:
    """Format the main metrics that were measured in one line."""
    texts = []
    for row in _ROWS:
        value = getattr(metrics, row.name)
        if row.name in _SUMMARY and value is not None:
            texts.append(f"{row.label} {row.template.format(value)}")
    return ", ".join(texts) or "silent, or nothing to compare with"


def mean_metrics(conversions: Iterable[ConversionMetrics]) -> ConversionMetrics:
    """Average every metric over the conversions that have it."""
    listed = [dataclasses.asdict(metrics) for metrics in conversions]
    means = {}
    for field in dataclasses.fields(ConversionMetrics):
        values = [item[field.name] for item in listed if item[field.name] is not None]
        means[field.name] = math.fsum(values) / len(values) if values else None
    return ConversionMetrics(**means)
