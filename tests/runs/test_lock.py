"""A run at a URL is trained by one machine at a time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from remote_runs import save
from reporting import KeepingReporter

from rvc_jax.errors import UserError
from rvc_jax.reporter import SILENT
from rvc_jax.runs import lock, upload
from rvc_jax.runs.lock import RunLock
from rvc_jax.runs.mirror import working_folder
from rvc_jax.runs.upload import sync_run
from rvc_jax.storage import places


def test_two_machines_at_once_are_refused_and_a_second_claim_is_noticed(
    run_url: str, other_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_FINAL_RETRY_SECONDS", (0.01,))
    reporter = KeepingReporter()
    loss = "too, since this run began; not everything is at"
    with pytest.raises(UserError, match=loss), sync_run(run_url, reporter) as run:
        save(run, 1)
        other_machine()
        refusal = r"is being trained by process \d+ of .* if it is gone, wait \d+ s"
        with pytest.raises(UserError, match=refusal), sync_run(run_url, SILENT):
            pass
        monkeypatch.setattr(lock, "_EXPIRY_SECONDS", 0.0)
        RunLock(run_url, working_folder(run_url)).claim()
    assert json.loads(places.read(f"{run_url}/owner.json"))["time"] > 0  # the other's
