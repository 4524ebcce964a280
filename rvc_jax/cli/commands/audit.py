"""`rvc-jax audit`."""

from __future__ import annotations

from pathlib import Path

from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import Json, Place
from rvc_jax.storage.environment import start_jax


def audit(dataset: Place, out: Path = Path("audit.html"), as_json: Json = False) -> int:
    """Listen to a dataset before training on it: how good it is, what is wrong with it, and what to
    do.

    Args:
        dataset: Folder made by `rvc-jax prepare`, also at gs:// or s3://.
        out: Page to write (.html); the ten worst slices can be played in it.
    """
    start_jax()
    from rvc_jax.data.audit.advice import advise
    from rvc_jax.data.audit.audit import audit as run_audit
    from rvc_jax.data.audit.audit import read_waves
    from rvc_jax.errors import UserError, describe_os_error
    from rvc_jax.report.audit_page import summary, write_audit

    if out.is_dir() or not out.absolute().parent.is_dir():
        raise UserError(f"{out} cannot be written: name a file in a folder that exists")
    with Display() as display:
        measured = run_audit(dataset, display)
        try:
            write_audit(measured, read_waves(dataset, measured.worst), out)
        except OSError as error:
            raise UserError(f"{out} cannot be written: {describe_os_error(error)}") from error
    result = {"out": out, "audit": measured, "advice": advise(measured)}
    print_result(result, [*summary(measured), ("page", str(out))], as_json)
    return 0
