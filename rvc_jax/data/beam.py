"""Extraction on Apache Beam: many cuts, on any engine that Beam has a runner for."""

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
from rvc_jax.storage.installation import install_command

_MAX_CUTS_PER_BATCH = 32
_QUIET = ("--default_sdk_harness_log_level=CRITICAL",)
_MAX_REASON = 300


@dataclasses.dataclass(frozen=True)
class BeamSettings:
    """Where a pipeline runs."""

    runner: str
    """A name that Beam knows: DirectRunner, DataflowRunner, FlinkRunner, SparkRunner, ..."""
    options: str = ""
    """Options of the runner, as on a command line. Workers on other machines need rvc_jax, the
    sources and the cache."""

    def pipeline_options(self) -> Any:
        """Parse the options. Raises UserError if Beam is missing or they are invalid."""
        try:
            from apache_beam.options.pipeline_options import PipelineOptions
        except ImportError as error:
            raise UserError(
                f"Apache Beam is not installed: {install_command('beam')}"
            ) from error
        try:
            words = shlex.split(self.options)
            return PipelineOptions([*_QUIET, *words], runner=self.runner)
        except ValueError as error:
            raise UserError(f"beam options cannot be read: {error}") from error


def analyze_with_beam(
    cuts: Sequence[Cut], config: PrepareConfig, cache: Cache, settings: BeamSettings
) -> list[Analysis]:
    """Analyze cuts as `extraction.analyze` does, on the workers of a Beam pipeline.

    Workers put into the cache what it lacks; then the analyses are read from there. Beam measures
    how many cuts a worker should take at a time: one if they are long, more if they are too short
    to fill a batch.

    Raises:
        UserError: Beam is not installed, or the pipeline failed.
    """
    options = settings.pipeline_options()
    import apache_beam

    batch = apache_beam.BatchElements(min_batch_size=1, max_batch_size=_MAX_CUTS_PER_BATCH)
    try:
        with apache_beam.Pipeline(options=options) as pipeline:
            _ = (
                pipeline
                | apache_beam.Create(list(cuts))
                | apache_beam.Reshuffle()
                | batch
                | apache_beam.FlatMap(_Analyze(config, cache))
            )
    except Exception as error:  # engines and their workers raise anything
        raise UserError(
            f"the Beam pipeline failed on {settings.runner}: {_last_line(error)}"
        ) from error
    return list(analyze(cuts, config, cache))


@dataclasses.dataclass(frozen=True)
class _Analyze:
    """A function that Beam can send to workers."""

    config: PrepareConfig
    cache: Cache

    def __call__(self, cuts: list[Cut]) -> Iterator[str]:
        for analysis in analyze(cuts, self.config, self.cache):
            yield analysis.key


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip()[:_MAX_REASON] if lines else type(error).__name__
