"""Speech to audit."""

from __future__ import annotations

import pytest
from audits import RATE, Files, audit_files

from rvc_jax.audio.reading import find_audio, load
from rvc_jax.data.audit.audit import Audit
from rvc_jax.data.sources import find_bundled_sample


@pytest.fixture(scope="package")
def speech() -> Files:
    """Ten recordings of the bundled voice."""
    paths = find_audio(find_bundled_sample("voice"))[:10]
    return {path.name: load(path, RATE) for path in paths}


@pytest.fixture(scope="package")
def clean(speech: Files) -> Audit:
    """The audit of speech without faults."""
    return audit_files(speech)
