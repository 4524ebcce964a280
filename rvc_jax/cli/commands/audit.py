"""`rvc-jax audit`."""

from __future__ import annotations

from pathlib import Path

from rvc_jax.cli.display import Display, print_result
from rvc_jax.cli.options import DatasetArgument, Json, check_output_file
from rvc_jax.errors import UserError, describe_os_error
from rvc_jax.storage.environment import start_jax


def audit(
    dataset: DatasetArgument, out: Path = Path("audit.html"), as_json: Json = False
) -> int:
    """Check the quality of a dataset before training: how good it is, what is wrong, and what to
    do about it.

    Args:
        dataset: Folder made by `rvc-jax prepare`, or its gs:// or s3:// URL.
        out: Page to write (.html). It plays the ten worst slices.
    """
    start_jax()
    import jax

    from rvc_jax.data.audit.advice import advise
    from rvc_jax.data.audit.audit import audit as run_audit
    from rvc_jax.data.audit.audit import read_waves
    from rvc_jax.report.audit_page import summarize, write_audit

    check_output_file(out)
    with Display() as display:
        measured = run_audit(dataset, display)
        advice = advise(measured, jax.default_backend())
        try:
            write_audit(measured, advice, read_waves(dataset, measured.worst), out)
        except OSError as error:
            raise UserError(f"{out} cannot be written: {describe_os_error(error)}") from error
    result = {"out": out, "audit": measured, "advice": advice}
    print_result(result, [*summarize(measured, advice), ("page", str(out))], as_json)
    return 0
