"""The analysis of many sources as an Apache Beam pipeline, on whatever engine has a runner."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from rvc_jax.config import PrepareConfig
from rvc_jax.data.cache import Cache
from rvc_jax.data.cut import Cut
from rvc_jax.data.extraction import Analysis, analyze
from rvc_jax.errors import UserError

_MOST_CUTS = 32
_QUIET = ("--default_sdk_harness_log_level=CRITICAL",)


@dataclasses.dataclass(frozen=True)
class BeamSettings:
    """Where a pipeline runs."""

    runner: str
    """A name that Beam knows: DirectRunner, DataflowRunner, FlinkRunner, SparkRunner, ..."""
    options: str = ""
    """Options of the runner, as on a command line; workers elsewhere need rvc_jax, the sources and
    the cache there."""

    def pipeline_options(self) -> Any:
        """Raises UserError if Beam is not installed or the options cannot be read."""
        try:
            from apache_beam.options.pipeline_options import PipelineOptions
        except ImportError as error:
            raise UserError(
                'Apache Beam is not installed: pip install "rvc_jax[beam]"'
            ) from error
        try:
            words = shlex.split(self.options)
            return PipelineOptions([*_QUIET, *words], runner=self.runner)
        except ValueError as error:
            raise UserError(f"beam options cannot be read: {error}") from error


def analyze_with_beam(
    cuts: Sequence[Cut], config: PrepareConfig, cache: Cache, settings: BeamSettings
) -> list[Analysis]:
    """`analysis.analyze`, a few cuts at a time on the workers of a Beam pipeline; all results go
    through the cache.

    Workers compute what the cache lacks; then the analyses are read from there. Beam finds out how
    many cuts a worker should take at a time: one if they are long, more if they are so short that
    they would not fill a batch.

    Raises:
      UserError: Beam is not installed, or the pipeline failed.
    """
    options = settings.pipeline_options()
    import apache_beam

    try:
        with apache_beam.Pipeline(options=options) as pipeline:
            _ = (
                pipeline
                | apache_beam.Create(list(cuts))
                | apache_beam.Reshuffle()
                | apache_beam.BatchElements(min_batch_size=1, max_batch_size=_MOST_CUTS)
                | apache_beam.FlatMap(_Analyse(config, cache))
            )
    except Exception as error:  # whatever the engine and its workers say
        raise UserError(
            f"the Beam pipeline failed on {settings.runner}: {_last_line(error)}"
        ) from error
    return list(analyze(cuts, config, cache))


@dataclasses.dataclass(frozen=True)
class _Analyse:
    """A function that can be sent to the workers."""

    config: PrepareConfig
    cache: Cache

    def __call__(self, cuts: list[Cut]) -> Iterator[str]:
        for analysis in analyze(cuts, self.config, self.cache):
            yield analysis.key


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else type(error).__name__
